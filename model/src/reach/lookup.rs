//! What the verifier lets through, and how a kfunc finds the scheduler of its caller: the designs, side by side.
//!
//! Nothing here changes a state. Stands for `scx_prog_sched()` of Linux 7.3, for the same with a cookie or an id, and
//! for the checks of `kernel/bpf/verifier.c` that decide whether a program can ask at all.

use super::context::{
    Freplace, Hook, NO_CTX, NO_FREPLACE, NO_HELPER, NO_TIMER, NO_WQ, RunCtx, Slot, Way,
};
use super::machine::Reach;
use super::state::{Frame, GARBAGE, Life, MapLife, POISON, State};
use super::world::Source;
use crate::design::{CookieRead, Fallback, Identity, Twin};

/// What a lookup comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A scheduler.
    Sched(u8),
    /// Nothing, and why.
    Nothing(&'static str),
    /// It reads memory that is gone: what, and whose.
    Gone(&'static str, u8),
}

/// What the verifier says of an argument that the program's context does not have.
const NO_ARGUMENT: &str = "invalid bpf_context access: it is handed no attachment";

/// What the verifier says of a kfunc that wants its caller where that does not exist.
const NO_AUX: &str = "the kfunc's bpf_prog_aux argument is unknown to this kernel";

impl Reach {
    /// Only its scheduler calls it.
    pub(super) fn is_struct_ops(&self, prog: u8) -> bool {
        self.world.progs[usize::from(prog)].kind.facts().hook == Hook::Member
    }

    /// The value by which a scheduler is known, where there is one.
    pub(super) fn key(&self, sched: u8) -> u8 {
        let decl = &self.world.scheds[usize::from(sched)];
        match self.design.identity {
            identity if identity.is_given() => decl.key,
            Identity::MapId => decl.map_id,
            _ => 0,
        }
    }

    /// What a scheduler's members read as their cookie: the immediate in their trampolines, or what is in the run
    /// context of their caller.
    pub(super) fn slot(&self, sched: u8) -> u8 {
        let ignored = matches!(self.design.identity, Identity::Cookie | Identity::RunCtx)
            && self.world.old_kernel();
        if self.design.has_cookies() && !ignored {
            self.key(sched)
        } else {
            0
        }
    }

    /// The code that asks is this program: what the verifier says of it.
    pub(super) fn verify(&self, index: u8) -> Result<(), &'static str> {
        let prog = &self.world.progs[usize::from(index)];
        let (facts, way) = (prog.kind.facts(), prog.kind.way);
        if prog.is_callee && way == Way::Freplace && facts.freplace == Freplace::Refused {
            return Err(NO_FREPLACE);
        }
        if way.is_callback() && !facts.async_callbacks {
            return Err(if way == Way::Timer { NO_TIMER } else { NO_WQ });
        }
        // Another program asks, and it is looked at by itself.
        if way.is_other_program() && !prog.is_callee {
            return Ok(());
        }
        if self.takes_task(index) {
            return Ok(());
        }
        match prog.source {
            Source::Helper if way.is_callback() => Err(NO_CTX),
            Source::Helper | Source::Stash => {
                let no_slot = match facts.hook {
                    Hook::Member => self.world.old_kernel() || !self.design.has_cookies(),
                    _ => facts.slot == Slot::Nowhere,
                };
                let no_case = way == Way::Freplace && facts.freplace != Freplace::Cookie;
                if no_slot || no_case {
                    Err(NO_HELPER)
                } else {
                    Ok(())
                }
            }
            Source::Argument if !self.hands_attachments() || facts.hook != Hook::Member => {
                Err(NO_ARGUMENT)
            }
            Source::Argument if way.is_callback() => Err(NO_CTX),
            Source::Kernel if self.world.old_kernel() && self.has_pointer() => Err(NO_AUX),
            Source::Kernel | Source::Global | Source::Argument | Source::Task | Source::Root => {
                Ok(())
            }
        }
    }

    /// The caller of a member hands it its attachment.
    fn hands_attachments(&self) -> bool {
        self.design.identity == Identity::Argument && !self.world.old_kernel()
    }

    /// A program points to its map.
    pub(super) fn has_pointer(&self) -> bool {
        matches!(
            self.design.identity,
            Identity::ThisPointer | Identity::Association
        )
    }

    /// The cookie of whatever `current->bpf_ctx` points to.
    fn current_cookie(&self, s: &State, cpu: u8) -> u8 {
        let cpu = &s.cpus[usize::from(cpu)];
        let Some(frame) = cpu
            .bpf_ctx
            .checked_sub(1)
            .map(|f| cpu.frames[usize::from(f)])
        else {
            return 0;
        };
        match self.world.progs[usize::from(frame.prog)]
            .kind
            .facts()
            .run_ctx
        {
            RunCtx::Cookie => frame.cookie,
            RunCtx::Other | RunCtx::Inherited => GARBAGE,
        }
    }

    /// The kfunc is called by the innermost program of a CPU.
    pub(super) fn lookup(&self, s: &State, cpu: u8, frame: &Frame) -> Answer {
        if self.world.progs[usize::from(frame.prog)].source == Source::Root {
            return self.root(s);
        }
        match self.design.identity {
            Identity::None | Identity::Task => self.root(s),
            Identity::Argument => self.by_map(s, frame.sched),
            Identity::Cookie | Identity::MapId | Identity::MapExtra | Identity::RunCtx => {
                let value = self.value(s, cpu, frame);
                self.by_key(s, frame, value)
            }
            Identity::ThisPointer | Identity::Association => {
                match s.progs[usize::from(frame.prog)].assoc {
                    0 => self.fallback(s, "the program points to no map"),
                    POISON => self.fallback(s, "the program is poisoned"),
                    map => self.by_map(s, map - 1),
                }
            }
        }
    }

    /// scx_root, whoever asks.
    fn root(&self, s: &State) -> Answer {
        match s.root {
            0 => Answer::Nothing("no scheduler is enabled"),
            root => self.alive(s, root - 1),
        }
    }

    /// What the program hands to the kfunc.
    fn value(&self, s: &State, cpu: u8, frame: &Frame) -> u8 {
        let prog = &self.world.progs[usize::from(frame.prog)];
        match prog.source {
            Source::Kernel if self.design.lookup.cookie_read == CookieRead::Current => {
                self.current_cookie(s, cpu)
            }
            Source::Kernel | Source::Argument | Source::Task | Source::Root => 0,
            Source::Helper => frame.cookie,
            Source::Global => s.globals[usize::from(prog.object)],
            Source::Stash => s.asyncs[usize::from(frame.sched)].stash,
        }
    }

    /// The table of identities.
    fn by_key(&self, s: &State, frame: &Frame, value: u8) -> Answer {
        if value == 0 {
            return self.fallback(s, "it hands over 0, which is nobody's");
        }
        let entries = || s.scheds.iter().zip(0u8..).filter(|(sched, _)| sched.listed);
        let found = if value == GARBAGE {
            // Whatever is in that place: at worst what names another one.
            entries().find(|(sched, i)| *i != frame.sched && sched.life == Life::Enabled)
        } else {
            entries().find(|(sched, _)| sched.key == value)
        };
        match found {
            Some((_, i)) => self.alive(s, i),
            None if value == GARBAGE => {
                Answer::Nothing("what is in the place of the cookie names nobody")
            }
            None => Answer::Nothing("nobody has registered this value"),
        }
    }

    /// The kfunc that the program calls takes a task.
    pub(super) fn takes_task(&self, prog: u8) -> bool {
        match self.world.progs[usize::from(prog)].source {
            Source::Task => true,
            Source::Root => false,
            _ => self.design.identity == Identity::Task,
        }
    }

    /// `scx_task_sched()`: a task is its own scheduler's while that is enabled, then the root's.
    pub(super) fn by_task(&self, s: &State, task: u8) -> Answer {
        match (s.scheds[usize::from(task)].life, s.root) {
            (Life::Enabled, _) => Answer::Sched(task),
            (_, 0) => Answer::Nothing("the task has no scheduler of sched_ext"),
            (_, root) => self.alive(s, root - 1),
        }
    }

    /// From a map to the scheduler that its `ops->priv` points to.
    pub(super) fn by_map(&self, s: &State, map: u8) -> Answer {
        let sched = &s.scheds[usize::from(map)];
        match (sched.map, sched.life) {
            (MapLife::Freed, _) => Answer::Gone("the map", map),
            (_, Life::Enabled | Life::Dead) => self.alive(s, map),
            _ => Answer::Nothing("ops->priv is NULL"),
        }
    }

    /// A scheduler, if it is not dead.
    fn alive(&self, s: &State, sched: u8) -> Answer {
        match s.scheds[usize::from(sched)].life {
            Life::Enabled => Answer::Sched(sched),
            Life::Freed if self.design.twin == Twin::StaleEntry => {
                Answer::Gone("the scheduler", sched)
            }
            _ if self.design.twin == Twin::NoDeadCheck => Answer::Sched(sched),
            _ => Answer::Nothing("the scheduler is dead"),
        }
    }

    fn fallback(&self, s: &State, why: &'static str) -> Answer {
        match s.root {
            root if root != 0
                && self.design.lookup.fallback == Fallback::Root
                && !self.world.subs =>
            {
                self.alive(s, root - 1)
            }
            _ => Answer::Nothing(why),
        }
    }
}
