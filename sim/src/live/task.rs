//! A task: what it is a reader of, what it holds, what it is doing, and the record of its steps.
//!
//! Stands for `current`. A step is opened, has its effect, and is closed: nothing is recorded twice, and once a fault
//! has ended the run nothing is recorded at all. Not here: the vocabulary (`backend`), and how operations begin
//! (`operation`).

use struct_ops_model::backend::{Freed, Step, Stop};
use struct_ops_model::kernel::{Cpu, Stage};
use struct_ops_model::lock::Lock;
use struct_ops_model::{Invariant, Pc, proc};

use super::event::{Actor, Ask, Event, Fault, Finding, Object};
use super::object::{Link, Place, Places};
use super::page::{self, Page};
use super::rcu::{GracePeriod, Reader};
use super::runtime::Runtime;
use super::sync::atomic::Ordering::SeqCst;
use super::sync::{MutexGuard, thread};
use super::text::Text;
use super::{Unavailable, enter};

/// A task.
#[derive(Debug)]
pub struct Task<'a> {
    pub(crate) rt: &'a Runtime,
    pub(crate) actor: Actor,
    pub(crate) proc: u8,
    pub(crate) reader: Reader,
    /// Local variables, program counter among them.
    pub(crate) cpu: Cpu<Places>,
    /// The step in progress.
    pub(crate) pc: Pc,
    /// Locks that it holds, oldest first.
    pub(crate) held: Vec<Lock<Places>>,
    /// Pages that it fills: nobody can execute them yet.
    pub(crate) filling: Vec<Page>,
    /// `text_mutex`, while it holds it.
    pub(crate) text: Option<MutexGuard<'a, Text>>,
    /// The grace period that its next step waits for, or that its work item asks for.
    pub(crate) wait: Stage,
    /// What the trampoline that it is about to enter stores to `run_ctx.bpf_cookie`.
    pub(crate) run_ctx: u64,
    /// kallsyms named the trampoline that it has entered.
    pub(crate) named: bool,
    /// A step inside the trampoline could not be taken.
    pub(crate) stopped: bool,
    /// The step that begins an operation, in which the model lets no allocation fail.
    pub(crate) first: bool,
    /// The object of the work item in progress, if its steps are those of a task.
    works_on: Option<Object>,
    /// Result of the system call that has returned.
    pub(crate) result: i8,
    pub(crate) rng: fastrand::Rng,
    pub(crate) allocs: u8,
    open: Option<Event>,
    /// The open step's effect is there already: its last stamp is taken.
    settled: bool,
    log: Vec<Event>,
}

impl<'a> Task<'a> {
    /// A task of process `proc`; `seed` decides where it lets others run, and which allocation fails.
    pub fn new(rt: &'a Runtime, actor: Actor, proc: u8, seed: u64) -> Self {
        Task {
            rt,
            actor,
            proc,
            reader: rt.rcu.register(),
            cpu: Cpu::default(),
            pc: Pc::Idle,
            held: Vec::new(),
            filling: Vec::new(),
            text: None,
            wait: Stage::None,
            run_ctx: 0,
            named: false,
            stopped: false,
            first: false,
            works_on: None,
            result: 0,
            rng: fastrand::Rng::with_seed(seed),
            allocs: 0,
            open: None,
            settled: false,
            log: Vec::new(),
        }
    }

    /// The bit of its process in a set of processes.
    pub(crate) fn bit(&self) -> u8 {
        1 << self.proc
    }

    /// What it recorded.
    pub(crate) fn take_log(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log)
    }

    // ---- the procedure in progress ------------------------------------------------------------------

    /// Carries out steps until the task is back in user space.
    pub(crate) fn run(&mut self) -> Step {
        while self.cpu.pc != Pc::Idle {
            if self.cpu.pc == Pc::CallEnter {
                self.call()?;
            } else {
                self.step()?;
            }
        }
        Ok(())
    }

    /// Carries out the next step.
    pub(crate) fn step(&mut self) -> Step {
        if proc::waits(self.cpu.pc) {
            self.synchronize(self.wait);
        }
        self.begin(self.cpu.pc)?;
        self.take()?;
        self.end();
        Ok(())
    }

    /// The effect of the open step.
    pub(crate) fn take(&mut self) -> Step {
        self.pc = self.cpu.pc;
        let taken = proc::step(self);
        self.text = None;
        taken
    }

    /// Enters the trampoline and comes back: the steps inside are taken by what it calls (`enter`).
    fn call(&mut self) -> Step {
        self.begin(Pc::CallEnter)?;
        self.take()?;
        let (address, prog) = (self.cpu.func, usize::from(self.cpu.prog - 1));
        let (rt, cookie) = (self.rt, self.run_ctx);
        enter::as_current(self, || {
            page::call(rt.jit, address, &rt.progs[prog], cookie);
        });
        if self.stopped { Err(Stop) } else { Ok(()) }
    }

    /// Frees a link that has lost its last reference.
    pub(crate) fn free_link_work(&mut self, link: Place<Link>) -> Step {
        self.works_on = Some(Object::Link(link.number()));
        proc::begin_dealloc(self, link)?;
        let freed = self.run();
        self.works_on = None;
        freed
    }

    /// Frees a program that is tied to a map.
    pub(crate) fn free_prog_work(&mut self, prog: u8) -> Step {
        self.begin(Pc::ProgFree)?;
        self.pc = Pc::ProgFree;
        self.object(Object::Prog(usize::from(prog)));
        proc::work(self, Freed::Prog(prog))?;
        self.end();
        Ok(())
    }

    /// Carries out deferred work, and waits for its grace periods.
    pub(crate) fn work(&mut self, what: Freed<Places>) -> Step {
        self.wait = Stage::Queued;
        loop {
            let over = self.wait;
            self.begin(proc::work_pc(&self.rt.design, what, over))?;
            self.pc = proc::work_pc(&self.rt.design, what, over);
            match what {
                Freed::Map(map) => self.object(Object::Map(map.number())),
                Freed::Attachment(kdata) => self.object(Object::Attachment(kdata.number())),
                Freed::Prog(_) => {}
            }
            let worked = proc::work(self, what);
            self.text = None;
            worked?;
            self.end();
            if self.wait == over {
                return Ok(());
            }
            self.synchronize(self.wait);
        }
    }

    /// Waits for a grace period.
    pub(crate) fn synchronize(&self, stage: Stage) {
        match stage {
            Stage::None | Stage::Queued => {}
            Stage::Tasks => self.reader.synchronize(GracePeriod::Tasks),
            Stage::Trace => self.reader.synchronize(GracePeriod::Trace),
            Stage::RcuAndTasks => self.reader.synchronize(GracePeriod::RcuAndTasks),
            Stage::Rcu => self.reader.synchronize(GracePeriod::Rcu),
            // Domains that a scenario brings are not run here.
            Stage::Srcu => self.reader.synchronize(GracePeriod::Srcu),
        }
    }

    /// The run is over for this task: what it holds is of no use any more.
    pub(crate) fn give_up(&mut self) {
        self.open = None;
        self.text = None;
        self.cpu = Cpu::default();
        while let Some(lock) = self.held.pop() {
            self.rt.release(lock);
        }
        self.keep_filling();
    }

    /// Pages stay as they are: what was begun is given up, or done.
    pub(crate) fn keep_filling(&mut self) {
        for page in std::mem::take(&mut self.filling) {
            self.with_text(|text| text.keep(page.addr(), page));
        }
    }

    /// Looks at executable memory, under `text_mutex`.
    pub(crate) fn with_text<T>(&mut self, look: impl FnOnce(&mut Text) -> T) -> T {
        match self.text.as_deref_mut() {
            Some(text) => look(text),
            None => look(&mut self.rt.text.lock()),
        }
    }

    // ---- the record ---------------------------------------------------------------------------------

    /// Opens a step.
    pub(crate) fn begin(&mut self, pc: Pc) -> Step {
        self.allocs = 0;
        self.settled = false;
        self.let_others_run();
        if !self.rt.recording.load(SeqCst) {
            return Ok(());
        }
        if self.rt.dead.load(SeqCst) {
            return Err(Stop);
        }
        debug_assert!(self.open.is_none(), "{pc:?} inside another step");
        if let Some(watch) = self.rt.watch.get() {
            watch.begin(self.actor, pc);
        }
        let first = self.rt.stamp();
        self.open = Some(Event {
            first,
            last: first,
            actor: self.actor,
            pc,
            ask: None,
            choice: 0,
            object: self.works_on,
            err: 0,
            cookie: None,
            unnamed: false,
            fault: None,
        });
        Ok(())
    }

    /// Whatever the open step does comes after this: a lock was just taken.
    pub(crate) fn restamp(&mut self) {
        if let Some(event) = &mut self.open {
            event.first = self.rt.stamp();
        }
    }

    /// All that the open step does was before this: a lock is about to be released.
    pub(crate) fn settle(&mut self) {
        if let Some(event) = &mut self.open {
            event.last = self.rt.stamp();
            self.settled = true;
        }
    }

    /// Notes something in the open step.
    pub(crate) fn note(&mut self, note: impl FnOnce(&mut Event)) {
        if let Some(event) = &mut self.open {
            note(event);
        }
    }

    /// The operation that begins with the open step.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.note(|e| e.ask = Some(ask));
    }

    /// The object of the open step.
    pub(crate) fn object(&mut self, object: Object) {
        self.note(|e| e.object = Some(object));
    }

    /// Closes the step: its effect is there.
    pub(crate) fn end(&mut self) {
        let Some(mut event) = self.open.take() else {
            return;
        };
        if !self.settled {
            event.last = self.rt.stamp();
        }
        event.err = if event.pc == Pc::Finish {
            self.result
        } else {
            self.cpu.err
        };
        self.log.push(event);
    }

    /// The open step finds something after which nothing has a meaning.
    pub(crate) fn fault(&mut self, invariant: Invariant, text: &str, history: Vec<String>) -> Stop {
        self.finding(invariant, text.to_string(), history);
        self.note(|e| {
            e.fault = Some(Fault {
                invariant,
                text: text.to_string(),
            });
        });
        self.settled = false;
        self.end();
        self.rt.dead.store(true, SeqCst);
        Stop
    }

    /// Executable memory cannot be had: nothing of this run can be used.
    pub(crate) fn unavailable(&mut self, why: Unavailable) -> Stop {
        self.rt.unavailable.lock().get_or_insert(why);
        self.rt.dead.store(true, SeqCst);
        self.open = None;
        Stop
    }

    /// The open step finds something broken, and goes on.
    pub(crate) fn finding(&mut self, invariant: Invariant, text: String, history: Vec<String>) {
        let step = self.open.as_ref().map_or(Pc::Idle, |e| e.pc);
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
        match &self.open {
            Some(event) => format!(
                "{} in {} ({})",
                self.actor,
                event.pc.place().on(self.rt.world.linux),
                event.pc.name()
            ),
            None => self.actor.to_string(),
        }
    }

    /// A place where another thread may go on: real schedulers switch too rarely for short runs.
    pub(crate) fn let_others_run(&mut self) {
        if !self.rt.jitter {
            return;
        }
        match self.rng.u8(..) {
            0..32 => thread::yield_now(),
            #[cfg(not(test))]
            32..40 => thread::sleep(std::time::Duration::from_micros(1)),
            #[cfg(not(test))]
            40..80 => (0..200).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}
