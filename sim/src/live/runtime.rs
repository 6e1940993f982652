//! The kernel's side of a run: tables, locks, subsystems, and the worker of deferred work.
//!
//! One runtime is one machine after boot, under one design. Not here: who calls what (`round`).

use std::sync::{Arc, OnceLock};

use struct_ops_model::assoc::Assoc;
use struct_ops_model::backend::Freed;
use struct_ops_model::kernel::{Reg, Scx, Stage};
use struct_ops_model::lock::{Lock, LockClass};
use struct_ops_model::{Design, World};

use super::event::{Actor, Event, Finding};
use super::lock::RawLock;
use super::object::{Kdata, Link, Place, Places, Prog, StMap, Table};
use super::rcu::Rcu;
use super::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst,
};
use super::sync::{Mutex, mpsc, relax, thread};
use super::task::Task;
use super::text::Text;
use super::watch::Watch;
use super::{Unavailable, enter};

/// What the worker is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// The deferred free of a map or an attachment.
    Free(Freed<Places>),
    /// `bpf_link_put_deferred()`.
    FreeLink(Place<Link>),
    /// `__bpf_prog_put_noref()`, after this grace period.
    FreeProg(u8, Stage),
    /// The machine is switched off.
    End,
}

/// `tcp_cong_list`'s head.
#[derive(Debug)]
pub(crate) struct ListHead {
    pub next: AtomicUsize,
    pub prev: AtomicUsize,
}

/// A socket that uses a congestion control.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sock {
    pub kdata: Option<Place<Kdata>>,
    /// The cookie (index) of the attachment through which it got it.
    pub expect: u8,
    /// `lock_sock()`: who is inside.
    pub busy: Option<Actor>,
    /// Processes with an fd.
    pub fds: u8,
}

/// The module that owns the types marked `module`.
#[derive(Debug)]
pub(crate) struct Module {
    pub refs: AtomicI64,
    pub unloaded: AtomicBool,
    /// Held by those who look at both.
    pub lock: Mutex<()>,
}

/// How a runtime is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Execute generated x86-64 code; otherwise call the same functions from Rust.
    pub jit: bool,
    /// Steps let others run at random.
    pub jitter: bool,
    /// Allocations that may fail while recording.
    pub alloc_failures: u8,
}

/// A machine under one design.
#[derive(Debug)]
pub struct Runtime {
    pub(crate) world: World,
    pub(crate) design: Design,
    pub(crate) jit: bool,
    pub(crate) jitter: bool,
    pub(crate) maps: Table<StMap>,
    pub(crate) kdatas: Table<Kdata>,
    pub(crate) links: Table<Link>,
    pub(crate) progs: Vec<Prog>,
    pub(crate) text: Mutex<Text>,
    /// The processes' descriptors: from a descriptor to a reference on its object nobody comes between.
    pub(crate) files: Mutex<()>,
    /// The locks of which there is one, by class.
    pub(crate) locks: Vec<RawLock>,
    pub(crate) tcp_cong_list: ListHead,
    pub(crate) socks: Mutex<Vec<Sock>>,
    pub(crate) regs: Mutex<Vec<Reg<Places>>>,
    pub(crate) scx: Mutex<Scx<Places>>,
    /// `rdesc_ops` of the HID device.
    pub(crate) rdesc_ops: Mutex<Option<Reg<Places>>>,
    /// Its `device_data` is allocated.
    pub(crate) device_data: AtomicBool,
    pub(crate) module: Module,
    pub(crate) rcu: Arc<Rcu>,
    pub(crate) dead: AtomicBool,
    pub(crate) recording: AtomicBool,
    pub(crate) alloc_failures: AtomicI64,
    pub(crate) findings: Mutex<Vec<Finding>>,
    /// Executable memory could not be had.
    pub(crate) unavailable: Mutex<Option<Unavailable>>,
    /// Somebody looks on.
    pub(crate) watch: OnceLock<Arc<Watch>>,
    clock: AtomicU64,
    work: Mutex<mpsc::Sender<Work>>,
    pending: AtomicUsize,
}

/// A runtime and its worker.
#[derive(Debug)]
pub struct Machine {
    pub(crate) rt: Arc<Runtime>,
    worker: Option<thread::JoinHandle<Vec<Event>>>,
}

impl Machine {
    /// Boots.
    pub fn boot(world: World, design: Design, settings: Settings, seed: u64) -> Self {
        let (work, queue) = mpsc::channel();
        let progs = (0u8..).zip(&world.progs).map(|(i, p)| {
            let fds = world.loaded_by(p);
            Prog {
                sleepable: world.may_sleep(i),
                refs: AtomicI64::new(i64::from(fds.count_ones())),
                fds: AtomicU8::new(fds),
                freed: AtomicBool::new(false),
                st_ops_assoc_mutex: RawLock::new(),
                assoc: Mutex::new(Assoc::None),
                stats: enter::Stats::new(),
            }
        });
        let rt = Arc::new(Runtime {
            progs: progs.collect(),
            world,
            design,
            jit: settings.jit,
            jitter: settings.jitter,
            maps: Table::new(),
            kdatas: Table::new(),
            links: Table::new(),
            text: Mutex::new(Text::default()),
            files: Mutex::new(()),
            locks: LockClass::ALL.iter().map(|_| RawLock::new()).collect(),
            tcp_cong_list: ListHead {
                next: AtomicUsize::new(1),
                prev: AtomicUsize::new(1),
            },
            socks: Mutex::new(Vec::new()),
            regs: Mutex::new(Vec::new()),
            scx: Mutex::new(Scx::default()),
            rdesc_ops: Mutex::new(None),
            device_data: AtomicBool::new(false),
            module: Module {
                refs: AtomicI64::new(0),
                unloaded: AtomicBool::new(false),
                lock: Mutex::new(()),
            },
            rcu: Arc::new(Rcu::new()),
            dead: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            alloc_failures: AtomicI64::new(i64::from(settings.alloc_failures)),
            findings: Mutex::new(Vec::new()),
            unavailable: Mutex::new(None),
            watch: OnceLock::new(),
            clock: AtomicU64::new(1),
            work: Mutex::new(work),
            pending: AtomicUsize::new(0),
        });
        let theirs = rt.clone();
        let worker = thread::spawn(move || worker(&theirs, &queue, seed));
        Machine {
            rt,
            worker: Some(worker),
        }
    }

    /// The runtime, for tasks.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.rt
    }

    /// Switches off, once all work is done: what the worker recorded.
    pub fn halt(mut self) -> Vec<Event> {
        self.end()
    }

    fn end(&mut self) -> Vec<Event> {
        let Some(worker) = self.worker.take() else {
            return Vec::new();
        };
        self.rt.quiesce();
        self.rt.queue(Work::End);
        worker.join().unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

impl Runtime {
    /// The next stamp of the global order.
    pub(crate) fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// `queue_work()`.
    pub(crate) fn queue(&self, work: Work) {
        self.pending.fetch_add(1, SeqCst);
        // Without a receiver the machine is off already.
        let _ = self.work.lock().send(work);
    }

    /// Waits until no deferred work is left.
    pub fn quiesce(&self) {
        let mut tries = 0;
        while self.pending.load(SeqCst) > 0 {
            relax(&mut tries);
        }
    }

    /// From here on steps are recorded.
    pub(crate) fn record(&self) {
        self.recording.store(true, SeqCst);
    }

    /// Objects that are still there: what kind and how many.
    pub fn left(&self) -> Vec<String> {
        let (images, ksyms) = self.text.lock().live();
        let progs = self.progs.iter().filter(|p| !p.freed.load(SeqCst)).count();
        [
            ("map", self.maps.live()),
            ("kdata", self.kdatas.live()),
            ("link", self.links.live()),
            ("image page", images),
            ("ksym", ksyms),
            ("program", progs),
            ("module reference", self.module.refs.load(SeqCst) as usize),
        ]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(what, n)| crate::report::text::plural(n, what))
        .collect()
    }

    /// What the runtime found broken.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.lock().clone()
    }

    /// Pages that were freed while a thread was inside.
    pub fn freed_inside(&self) -> usize {
        self.text.lock().freed_inside
    }

    /// `struct bpf_prog_stats`: runs, nanoseconds in them, and runs refused by the recursion counter.
    pub fn stats(&self, prog: usize) -> (u64, u64, u64) {
        self.progs[prog].stats.get()
    }

    /// Ends the quarantine of what was freed; only where nobody can hold a pointer to it.
    pub fn empty_quarantine(&self) {
        self.maps.empty_quarantine();
        self.kdatas.empty_quarantine();
        self.links.empty_quarantine();
        self.text.lock().empty_quarantine();
    }
}

impl Runtime {
    // ---- locks and sockets ------------------------------------------------------------------------

    /// Releases a lock for the task that holds it.
    pub(crate) fn release(&self, lock: Lock<Places>) {
        match lock {
            // Freed or not: the lock is where it was.
            Lock::Map(map) => self.maps.get(map).lock.unlock(),
            Lock::The(class) => self.locks[class as usize].unlock(),
            Lock::Sock(sock) => self.socks.lock()[usize::from(sock)].busy = None,
            Lock::Prog(prog) => self.progs[usize::from(prog)].st_ops_assoc_mutex.unlock(),
            Lock::Ring(_) | Lock::Own(_) => {}
        }
    }

    /// `lock_sock()`, if nobody else is inside.
    pub(crate) fn take_sock(&self, sock: u8, who: Actor) -> bool {
        let mut socks = self.socks.lock();
        let busy = &mut socks[usize::from(sock)].busy;
        *busy.get_or_insert(who) == who
    }

    /// The same, if the process still has it open.
    pub(crate) fn take_open_sock(&self, sock: u8, who: Actor, bit: u8) -> bool {
        let mut socks = self.socks.lock();
        let sock = &mut socks[usize::from(sock)];
        sock.kdata.is_some() && sock.fds & bit != 0 && *sock.busy.get_or_insert(who) == who
    }

    /// Whether this task is inside.
    pub(crate) fn has_sock(&self, sock: u8, who: Actor) -> bool {
        let socks = self.socks.lock();
        socks
            .get(usize::from(sock))
            .is_some_and(|s| s.busy == Some(who))
    }

    /// A socket in the first free place.
    pub(crate) fn new_sock(&self, kdata: Place<Kdata>, expect: u8, fds: u8) -> u8 {
        let sock = Sock {
            kdata: Some(kdata),
            expect,
            busy: None,
            fds,
        };
        let mut socks = self.socks.lock();
        let free = socks
            .iter()
            .position(|s| s.kdata.is_none() && s.busy.is_none());
        let place = free.unwrap_or_else(|| {
            socks.push(Sock::default());
            socks.len() - 1
        });
        socks[place] = sock;
        place as u8
    }
}

/// The thread of work items.
fn worker(rt: &Runtime, queue: &mpsc::Receiver<Work>, seed: u64) -> Vec<Event> {
    let mut task = Task::new(rt, Actor::Worker, 0, seed);
    while let Ok(work) = queue.recv() {
        let end = matches!(work, Work::End);
        match work {
            // After a fault nobody waits for anything any more.
            Work::Free(what) => {
                if task.work(what).is_err() {
                    task.give_up();
                }
            }
            Work::FreeLink(link) => {
                if task.free_link_work(link).is_err() {
                    task.give_up();
                }
            }
            Work::FreeProg(prog, after) => {
                task.synchronize(after);
                let tied = rt.progs[usize::from(prog)].assoc.lock().map().is_some();
                if tied && task.free_prog_work(prog).is_err() {
                    task.give_up();
                }
                // Under the lock under which callers look at it.
                let _text = rt.text.lock();
                rt.progs[usize::from(prog)].freed.store(true, SeqCst);
            }
            Work::End => {}
        }
        rt.pending.fetch_sub(1, SeqCst);
        if end {
            break;
        }
    }
    task.take_log()
}
