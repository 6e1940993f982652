//! A task: what it is a reader of, what it is doing, and the record of its steps.
//!
//! Stands for `current`. Every function of the attach path gets the task that runs it. A step is opened, has its
//! effect, and is closed: nothing is recorded twice, and once a fault has ended the run nothing is recorded at all.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use struct_ops_model::{Invariant, Pc};

use super::event::{Actor, Ask, Event, Fault, Finding, Object};
use super::object::{Kdata, StMap};
use super::rcu::Reader;
use super::runtime::Runtime;
use super::sync::atomic::Ordering::SeqCst;
use super::sync::thread;

/// The run is over for this task: it, or somebody else, met a fault.
#[derive(Debug)]
pub struct Stop;

/// What a function of the attach path ends with.
pub(crate) type Step<T = ()> = Result<T, Stop>;

/// The call of a member in progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    /// The trampoline.
    pub address: usize,
    /// The cookie of the attachment through which it was called.
    pub expect: u64,
    /// The socket whose algorithm it is.
    pub sock: Option<usize>,
    /// BPF_PROG_TEST_RUN: kallsyms never knows the trampoline.
    pub test_run: bool,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    pub(crate) rt: Arc<Runtime>,
    pub(crate) actor: Actor,
    pub(crate) proc: u8,
    pub(crate) reader: Reader,
    /// Result of the operation so far.
    pub(crate) err: Cell<i8>,
    /// A step inside the trampoline could not be taken.
    pub(crate) stopped: Cell<bool>,
    pub(crate) call: Cell<Call>,
    open: RefCell<Option<Event>>,
    log: RefCell<Vec<Event>>,
    rng: RefCell<fastrand::Rng>,
    allocs: Cell<u8>,
}

impl Task {
    /// A task of process `proc`; `seed` decides where it lets others run, and which allocation fails.
    pub fn new(rt: &Arc<Runtime>, actor: Actor, proc: u8, seed: u64) -> Self {
        Task {
            rt: rt.clone(),
            actor,
            proc,
            reader: rt.rcu.register(),
            err: Cell::new(0),
            stopped: Cell::new(false),
            call: Cell::default(),
            open: RefCell::new(None),
            log: RefCell::new(Vec::new()),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            allocs: Cell::new(0),
        }
    }

    /// The bit of its process in a set of processes.
    pub(crate) fn bit(&self) -> u8 {
        1 << self.proc
    }

    /// What it recorded.
    pub(crate) fn take_log(&self) -> Vec<Event> {
        self.log.take()
    }

    // ---- steps ------------------------------------------------------------------------------------

    /// Opens a step.
    pub(crate) fn begin(&self, pc: Pc) -> Step {
        self.allocs.set(0);
        self.let_others_run();
        if !self.rt.recording.load(SeqCst) {
            return Ok(());
        }
        if self.rt.dead.load(SeqCst) {
            return Err(Stop);
        }
        debug_assert!(self.open.borrow().is_none(), "{pc:?} inside another step");
        if let Some(watch) = self.rt.watch.get() {
            watch.begin(self.actor, pc);
        }
        let first = self.rt.stamp();
        *self.open.borrow_mut() = Some(Event {
            first,
            last: first,
            actor: self.actor,
            pc,
            ask: None,
            choice: 0,
            object: None,
            err: 0,
            cookie: None,
            unnamed: false,
            fault: None,
        });
        Ok(())
    }

    /// Notes something in the open step.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Event)) {
        if let Some(event) = self.open.borrow_mut().as_mut() {
            note(event);
        }
    }

    /// The operation that begins with the open step.
    pub(crate) fn ask(&self, ask: Ask) {
        self.note(|e| e.ask = Some(ask));
    }

    /// The object of the open step.
    pub(crate) fn object(&self, object: Object) {
        self.note(|e| e.object = Some(object));
    }

    /// Closes the step: its effect is there.
    pub(crate) fn end(&self) {
        let Some(mut event) = self.open.take() else {
            return;
        };
        event.last = self.rt.stamp();
        event.err = self.err.get();
        self.log.borrow_mut().push(event);
    }

    /// Closes the step with a result that ends the operation.
    pub(crate) fn end_with(&self, err: i8) -> i8 {
        self.err.set(err);
        self.end();
        err
    }

    /// A step whose effect the caller has under a lock: one stamp.
    pub(crate) fn point(&self, pc: Pc) -> Step {
        if !self.rt.recording.load(SeqCst) {
            return Ok(());
        }
        self.begin(pc)?;
        let Some(mut event) = self.open.take() else {
            return Ok(());
        };
        event.err = self.err.get();
        self.log.borrow_mut().push(event);
        Ok(())
    }

    /// Drops the open step: it cannot be taken any more.
    pub(crate) fn forget(&self) {
        self.open.take();
    }

    /// The open step finds something after which nothing has a meaning.
    pub(crate) fn fault(
        &self,
        invariant: Invariant,
        text: &'static str,
        history: Vec<String>,
    ) -> Stop {
        self.finding(invariant, text.to_string(), history);
        self.note(|e| e.fault = Some(Fault { invariant, text }));
        self.end();
        self.rt.dead.store(true, SeqCst);
        Stop
    }

    /// Executable memory cannot be had: nothing of this run can be used.
    pub(crate) fn unavailable(&self, why: super::Unavailable) -> Stop {
        self.rt.unavailable.lock().get_or_insert(why);
        self.rt.dead.store(true, SeqCst);
        self.forget();
        Stop
    }

    /// The open step finds something broken, and goes on.
    pub(crate) fn finding(&self, invariant: Invariant, text: String, history: Vec<String>) {
        let step = self.open.borrow().as_ref().map_or(Pc::Idle, |e| e.pc);
        self.rt.findings.lock().push(Finding {
            invariant,
            step,
            actor: self.actor,
            text,
            history,
        });
    }

    /// Who does what, for histories.
    pub(crate) fn by(&self) -> String {
        let open = self.open.borrow();
        match open.as_ref() {
            Some(event) => format!(
                "{} in {} ({})",
                self.actor,
                event.pc.place().on(self.rt.decl.linux()),
                event.pc.name()
            ),
            None => self.actor.to_string(),
        }
    }

    /// A place where another thread may go on: real schedulers switch too rarely for short runs.
    fn let_others_run(&self) {
        if !self.rt.jitter {
            return;
        }
        match self.rng.borrow_mut().u8(..) {
            0..32 => thread::yield_now(),
            #[cfg(not(test))]
            32..40 => thread::sleep(std::time::Duration::from_micros(1)),
            #[cfg(not(test))]
            40..80 => (0..200).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }

    /// One allocation; fails now and then, as long as the world allows.
    pub(crate) fn alloc(&self) -> bool {
        self.allocs.set(self.allocs.get() + 1);
        if !self.rt.recording.load(SeqCst)
            || self.rt.alloc_failures.load(SeqCst) <= 0
            || self.rng.borrow_mut().u8(..) >= 48
        {
            return true;
        }
        if self.rt.alloc_failures.fetch_sub(1, SeqCst) <= 0 {
            self.rt.alloc_failures.fetch_add(1, SeqCst);
            return true;
        }
        self.note(|e| e.choice = self.allocs.get());
        false
    }

    // ---- pointers ---------------------------------------------------------------------------------

    fn gone(&self, text: &'static str) -> Stop {
        self.fault(Invariant::NoUseAfterFree, text, Vec::new())
    }

    /// Follows a pointer to a map.
    pub(crate) fn map(&self, id: usize) -> Step<Arc<StMap>> {
        let map = self.rt.maps.get(id);
        if map.freed.load(SeqCst) {
            return Err(self.gone("USE AFTER FREE: the map is gone"));
        }
        Ok(map)
    }

    /// Follows a pointer to a kdata.
    pub(crate) fn kdata(&self, id: usize) -> Step<Arc<Kdata>> {
        let kdata = self.rt.kdatas.get(id);
        if kdata.freed.load(SeqCst) {
            return Err(self.gone("USE AFTER FREE: the kdata is gone"));
        }
        Ok(kdata)
    }
}
