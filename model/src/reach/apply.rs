//! What an action does: one `match` arm each, which calls the file of whoever acts.

use std::fmt::Write;

use super::machine::{Reach, Report};
use super::state::{Action, Life, MapLife, ProgLife, State};
use super::step::{Step, say};
use crate::design::AssocClear;

impl Reach {
    /// Takes one action.
    pub fn apply(
        &self,
        s: &mut State,
        action: Action,
        report: &mut Report,
        said: Option<&mut String>,
    ) {
        let before = *s;
        let balanced = self.has_pointer() && self.balanced(s);
        let mut step = Step {
            reach: self,
            s,
            report,
            said,
        };
        match action {
            Action::Loader(loader, op) => step.loader(loader, op),
            Action::Member(cpu, sched, prog) => {
                say!(
                    step,
                    "scheduler {} calls it",
                    self.world.scheds[usize::from(sched)].name
                );
                step.enter(cpu, prog, sched, self.slot(sched));
            }
            Action::Hook(cpu, a) => {
                let attachment = &self.world.attachments[usize::from(a)];
                say!(step, "the hook of {} is hit", attachment.name);
                step.enter(cpu, attachment.prog, attachment.sched, attachment.cookie);
            }
            Action::Fire(cpu, sched) => step.fire(cpu, sched),
            Action::Arm(cpu) => step.arm(cpu),
            Action::Jump(cpu) => {
                let frame = step.frame(cpu);
                let callee = self.world.progs[usize::from(frame.prog)].callee;
                frame.prog = callee.unwrap_or(frame.prog);
                let prog = frame.prog;
                say!(
                    step,
                    "{} goes on, in the same run context",
                    self.prog_name(prog)
                );
            }
            Action::Ask(cpu) => step.ask(cpu),
            Action::AskTask(cpu, task) => step.ask_task(cpu, task),
            Action::Use(cpu) => step.use_it(cpu),
            Action::Return(cpu) => {
                let c = &mut step.s.cpus[usize::from(cpu)];
                c.depth -= 1;
                let frame = std::mem::take(&mut c.frames[usize::from(c.depth)]);
                c.bpf_ctx = frame.saved;
                say!(step, "{} returns", self.prog_name(frame.prog));
                step.quiescent(cpu);
            }
            Action::SchedFree(i) => {
                step.s.scheds[usize::from(i)].life = Life::Freed;
                say!(
                    step,
                    "the memory of scheduler {} is freed",
                    self.sched_name(i)
                );
            }
            Action::MapClear(i) => {
                say!(step, "the map of {} is being freed", self.sched_name(i));
                step.s.scheds[usize::from(i)].map = MapLife::Dying;
                step.s.scheds[usize::from(i)].map_gp = step.readers();
                if self.design.lookup.assoc_clear == AssocClear::BeforeGp {
                    step.clear_pointers(i);
                }
            }
            Action::MapFree(i) => {
                say!(
                    step,
                    "the memory of the map of {} is freed",
                    self.sched_name(i)
                );
                if self.design.lookup.assoc_clear == AssocClear::AfterGp {
                    step.clear_pointers(i);
                }
                step.s.scheds[usize::from(i)].map = MapLife::Freed;
                if std::mem::take(&mut step.s.scheds[usize::from(i)].filled) {
                    for prog in &self.world.scheds[usize::from(i)].members {
                        step.put_prog(*prog);
                    }
                }
            }
            Action::ProgFree(i) => {
                say!(step, "{} is freed", self.prog_name(i));
                let assoc = std::mem::take(&mut step.s.progs[usize::from(i)].assoc);
                step.s.progs[usize::from(i)].life = ProgLife::Freed;
                if self.holds_map(i, assoc) {
                    step.put_map(assoc - 1);
                }
            }
        }
        self.judge(&before, balanced, s, report);
    }
}
