//! Read-side sections and grace periods: RCU on crossbeam-epoch, Tasks RCU, Tasks Trace RCU and SRCU by their readers.
//!
//! Stands for kernel/rcu: a grace period of RCU waits for every epoch pinned when it began. Tasks RCU waits until
//! every task has made a voluntary switch: here, until it is not between the load of a function pointer and the last
//! instruction of the trampoline. Tasks Trace RCU waits for those inside sleepable programs.
//! Of SRCU there is one domain, the HID device's. Not here: callbacks in
//! batches; whoever needs one waits.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crossbeam_epoch::{Collector, Guard, LocalHandle};

use super::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use super::sync::{Mutex, relax};

/// A flavour whose readers announce themselves one by one.
#[derive(Debug)]
pub struct Flavour(Mutex<Vec<Arc<AtomicU64>>>);

/// One task's announcements: odd while it is a reader.
#[derive(Debug)]
struct Announced {
    count: Arc<AtomicU64>,
    depth: Cell<u32>,
}

impl Flavour {
    fn new() -> Self {
        Flavour(Mutex::new(Vec::new()))
    }

    fn register(&self) -> Announced {
        let count = Arc::new(AtomicU64::new(0));
        self.0.lock().push(count.clone());
        Announced {
            count,
            depth: Cell::new(0),
        }
    }

    fn forget(&self, announced: &Announced) {
        self.0.lock().retain(|c| !Arc::ptr_eq(c, &announced.count));
    }

    /// Waits until every task that is a reader now has ceased to be one.
    fn synchronize(&self) {
        let readers: Vec<(Arc<AtomicU64>, u64)> = self
            .0
            .lock()
            .iter()
            .map(|c| (c.clone(), c.load(SeqCst)))
            .filter(|c| c.1 % 2 == 1)
            .collect();
        for (count, seen) in readers {
            let mut tries = 0;
            while count.load(SeqCst) == seen {
                relax(&mut tries);
            }
        }
    }
}

impl Announced {
    fn enter(&self) {
        if self.depth.replace(self.depth.get() + 1) == 0 {
            self.count.fetch_add(1, SeqCst);
        }
    }

    fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
        if self.depth.get() == 0 {
            self.count.fetch_add(1, SeqCst);
        }
    }
}

/// All flavours.
#[derive(Debug)]
pub struct Rcu {
    collector: Collector,
    tasks: Flavour,
    trace: Flavour,
    srcu: Flavour,
}

/// The grace periods that something waits for, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GracePeriod {
    /// `synchronize_rcu()`.
    Rcu,
    /// `synchronize_rcu_tasks()`.
    Tasks,
    /// `synchronize_rcu_tasks_trace()`.
    Trace,
    /// `synchronize_rcu_mult(call_rcu, call_rcu_tasks)`.
    RcuAndTasks,
    /// `synchronize_srcu()` of the HID device's domain.
    Srcu,
}

impl Rcu {
    pub(crate) fn new() -> Self {
        Rcu {
            collector: Collector::new(),
            tasks: Flavour::new(),
            trace: Flavour::new(),
            srcu: Flavour::new(),
        }
    }

    pub(crate) fn register(self: &Arc<Self>) -> Reader {
        Reader {
            handle: self.collector.register(),
            pins: RefCell::new(Vec::new()),
            tasks: self.tasks.register(),
            trace: self.trace.register(),
            srcu: self.srcu.register(),
            rcu: self.clone(),
        }
    }
}

/// What a task is a reader of.
pub struct Reader {
    // Pins go before the handle that made them.
    pins: RefCell<Vec<Guard>>,
    handle: LocalHandle,
    tasks: Announced,
    trace: Announced,
    srcu: Announced,
    rcu: Arc<Rcu>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader(rcu {})", self.pins.borrow().len())
    }
}

impl Reader {
    pub(crate) fn rcu_read_lock(&self) {
        self.pins.borrow_mut().push(self.handle.pin());
    }

    pub(crate) fn rcu_read_unlock(&self) {
        let pin = self.pins.borrow_mut().pop();
        drop(pin.expect("rcu_read_unlock() follows rcu_read_lock()"));
    }

    pub(crate) fn rcu_read_lock_trace(&self) {
        self.trace.enter();
    }

    pub(crate) fn rcu_read_unlock_trace(&self) {
        self.trace.leave();
    }

    /// Of the HID device's domain.
    pub(crate) fn srcu_read_lock(&self) {
        self.srcu.enter();
    }

    pub(crate) fn srcu_read_unlock(&self) {
        self.srcu.leave();
    }

    /// From here on without a voluntary switch.
    pub(crate) fn tasks_enter(&self) {
        self.tasks.enter();
    }

    /// A voluntary switch, as far as Tasks RCU is concerned.
    pub(crate) fn tasks_quiescent(&self) {
        self.tasks.leave();
    }

    /// Waits for a grace period. Those who wait are no readers of it.
    pub(crate) fn synchronize(&self, what: GracePeriod) {
        match what {
            GracePeriod::Rcu => self.synchronize_rcu(),
            GracePeriod::Tasks => self.rcu.tasks.synchronize(),
            GracePeriod::Trace => self.rcu.trace.synchronize(),
            GracePeriod::Srcu => self.rcu.srcu.synchronize(),
            GracePeriod::RcuAndTasks => {
                self.synchronize_rcu();
                self.rcu.tasks.synchronize();
            }
        }
    }

    fn synchronize_rcu(&self) {
        let over = Arc::new(AtomicBool::new(false));
        {
            let guard = self.handle.pin();
            let over = over.clone();
            guard.defer(move || over.store(true, SeqCst));
            guard.flush();
        }
        let mut tries = 0;
        while !over.load(SeqCst) {
            // Each look moves the epoch on, as far as readers allow.
            self.handle.pin().flush();
            relax(&mut tries);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.rcu.tasks.forget(&self.tasks);
        self.rcu.trace.forget(&self.trace);
        self.rcu.srcu.forget(&self.srcu);
        for flavour in [&self.tasks, &self.trace, &self.srcu] {
            if flavour.depth.get() > 0 {
                flavour.count.fetch_add(1, SeqCst);
            }
        }
    }
}
