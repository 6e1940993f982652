//! The kernel's side of a run: tables, locks, subsystems, and the worker of deferred work.
//!
//! One runtime is one machine after boot, under one design. Not here: who calls what (`round`).

use std::sync::{Arc, OnceLock};

use struct_ops_model::Design;
use struct_ops_model::kernel::ScxState;

use super::decl::Declared;
use super::event::{Actor, Event, Finding};
use super::object::{HEAD, Kdata, Link, Prog, StMap, Table};
use super::rcu::{GracePeriod, Rcu};
use super::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst,
};
use super::sync::{Mutex, mpsc, relax, thread};
use super::task::Task;
use super::text::Text;
use super::watch::Watch;
use super::{Unavailable, attachment, enter, map_free};

/// What the worker is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// `bpf_map_free_deferred()`.
    MapFree(Arc<StMap>),
    /// `bpf_struct_ops_attachment_free()`.
    AttachmentFree(Arc<Kdata>),
    /// `bpf_prog_put_deferred()`.
    ProgFree(Arc<Prog>),
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
    pub kdata: Option<usize>,
    /// The cookie of the attachment through which it got it.
    pub expect: u64,
    /// `lock_sock()`: who is inside.
    pub busy: Option<Actor>,
    /// Processes with an fd.
    pub fds: u8,
}

/// An entry of a subsystem's own table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reg {
    pub kdata: usize,
    pub expect: u64,
    pub link: Option<usize>,
}

/// kernel/sched/ext.c.
#[derive(Debug, Default)]
pub(crate) struct Scx {
    pub state: ScxState,
    /// The copied ops struct.
    pub ops: Vec<usize>,
    pub kdata: Option<usize>,
    pub expect: u64,
}

/// The module that owns the types marked `module`.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub refs: u32,
    pub unloaded: bool,
}

/// How a runtime is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Trampolines are machine code.
    pub machine: bool,
    /// Steps let others run at random.
    pub jitter: bool,
    /// Allocations that may fail while recording.
    pub alloc_failures: u8,
}

/// A machine under one design.
#[derive(Debug)]
pub struct Runtime {
    pub(crate) decl: Declared,
    pub(crate) design: Design,
    pub(crate) machine: bool,
    pub(crate) jitter: bool,
    pub(crate) maps: Table<StMap>,
    pub(crate) kdatas: Table<Kdata>,
    pub(crate) links: Table<Link>,
    pub(crate) progs: Vec<Arc<Prog>>,
    pub(crate) text: Mutex<Text>,
    /// The processes' descriptors: from a descriptor to a reference on its object nobody comes between.
    pub(crate) files: Mutex<()>,
    pub(crate) update_mutex: Mutex<()>,
    pub(crate) tcp_cong_list: ListHead,
    pub(crate) tcp_cong_list_lock: Mutex<()>,
    pub(crate) socks: Mutex<Vec<Sock>>,
    pub(crate) regs: Mutex<Vec<Reg>>,
    pub(crate) st_ops_mutex: Mutex<()>,
    /// Of the HID device.
    pub(crate) device_lock: Mutex<()>,
    pub(crate) prog_list_lock: Mutex<()>,
    pub(crate) scx: Mutex<Scx>,
    pub(crate) module: Mutex<Module>,
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
    pub fn boot(decl: Declared, design: Design, settings: Settings, seed: u64) -> Self {
        let (work, queue) = mpsc::channel();
        let progs = decl.progs.iter().enumerate().map(|(id, p)| {
            Arc::new(Prog {
                id,
                sleepable: p.sleepable,
                body: p.body,
                refs: AtomicI64::new(i64::from(p.fds.count_ones())),
                fds: AtomicU8::new(p.fds),
                freed: AtomicBool::new(false),
                stats: enter::Stats::new(),
            })
        });
        let rt = Arc::new(Runtime {
            progs: progs.collect(),
            decl,
            design,
            machine: settings.machine,
            jitter: settings.jitter,
            maps: Table::new(),
            kdatas: Table::new(),
            links: Table::new(),
            text: Mutex::new(Text::default()),
            files: Mutex::new(()),
            update_mutex: Mutex::new(()),
            tcp_cong_list: ListHead {
                next: AtomicUsize::new(HEAD),
                prev: AtomicUsize::new(HEAD),
            },
            tcp_cong_list_lock: Mutex::new(()),
            socks: Mutex::new(Vec::new()),
            regs: Mutex::new(Vec::new()),
            st_ops_mutex: Mutex::new(()),
            device_lock: Mutex::new(()),
            prog_list_lock: Mutex::new(()),
            scx: Mutex::new(Scx::default()),
            module: Mutex::new(Module::default()),
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
            ("module reference", self.module.lock().refs as usize),
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

/// The thread of work items.
fn worker(rt: &Arc<Runtime>, queue: &mpsc::Receiver<Work>, seed: u64) -> Vec<Event> {
    let task = Task::new(rt, Actor::Worker, 0, seed);
    while let Ok(work) = queue.recv() {
        let end = matches!(work, Work::End);
        // After a fault nobody waits for anything any more.
        let _ = match work {
            Work::MapFree(map) => map_free::bpf_struct_ops_map_free(&task, &map),
            Work::AttachmentFree(kdata) => {
                attachment::bpf_struct_ops_attachment_free(&task, &kdata)
            }
            Work::ProgFree(prog) => {
                prog_free(&task, &prog);
                Ok(())
            }
            Work::End => Ok(()),
        };
        rt.pending.fetch_sub(1, SeqCst);
        if end {
            break;
        }
    }
    task.take_log()
}

/// A program of a sleepable member waits for Tasks Trace RCU, others for RCU.
fn prog_free(t: &Task, prog: &Prog) {
    t.reader.synchronize(if prog.sleepable {
        GracePeriod::Trace
    } else {
        GracePeriod::Rcu
    });
    // Under the lock under which callers look at it.
    let _text = t.rt.text.lock();
    prog.freed.store(true, SeqCst);
}
