//! What programs do: they are entered, arm callbacks, ask for their scheduler and use what they have found.
//!
//! Not here: how the scheduler is found (`lookup`).

use std::fmt::Write;

use super::context::{Hook, RunCtx, Way};
use super::lookup::Answer;
use super::machine::{Found, Reach};
use super::state::{Async, Frame, Life, MapLife, ProgLife, Stage, State};
use super::step::{Step, say};
use super::world::Source;
use crate::design::{AssocGet, Identity};
use crate::invariant::Invariant;

impl Step<'_> {
    pub(super) fn enter(&mut self, cpu: u8, prog: u8, sched: u8, cookie: u8) {
        let reach = self.reach;
        let facts = reach.world.progs[usize::from(prog)].kind.facts();
        let over = reach.innermost(self.s, cpu);
        if self.prog(prog).life == ProgLife::Freed {
            self.report.violate(Invariant::NoFreedScheduler);
            self.report.fatal = true;
            say!(self, "FREED: {} is gone", reach.prog_name(prog));
        }
        let c = &mut self.s.cpus[usize::from(cpu)];
        let saved = c.bpf_ctx;
        c.frames[usize::from(c.depth)] = Frame {
            prog,
            sched,
            cookie,
            saved,
            ..Frame::default()
        };
        c.depth += 1;
        if facts.run_ctx != RunCtx::Inherited {
            c.bpf_ctx = c.depth;
        }
        let on_behalf = reach.sched_name(sched);
        say!(
            self,
            "{} ({}) runs on behalf of {on_behalf}",
            reach.prog_name(prog),
            facts.enter
        );
        if let Some(over) = over {
            say!(
                self,
                "inside {}, which runs on behalf of {}",
                reach.prog_name(over.prog),
                reach.sched_name(over.sched)
            );
        }
        match facts.run_ctx {
            RunCtx::Cookie
                if reach.design.identity == Identity::RunCtx && facts.hook == Hook::Member =>
            {
                say!(self, "run_ctx.saved_run_ctx->bpf_cookie = {cookie:#x}")
            }
            RunCtx::Cookie => say!(self, "run_ctx.bpf_cookie = {cookie:#x}"),
            RunCtx::Other => say!(self, "its run context has no cookie"),
            RunCtx::Inherited => say!(self, "current->bpf_ctx stays as it was"),
        }
    }

    pub(super) fn fire(&mut self, cpu: u8, sched: u8) {
        let reach = self.reach;
        let prog = self.s.asyncs[usize::from(sched)].prog;
        let over = reach.innermost(self.s, cpu);
        say!(
            self,
            "the callback of {} runs on behalf of {}, with map, key and value",
            reach.prog_name(prog),
            reach.sched_name(sched)
        );
        if let Some(over) = over {
            say!(
                self,
                "over {}, which runs on behalf of {}",
                reach.prog_name(over.prog),
                reach.sched_name(over.sched)
            );
        }
        let c = &mut self.s.cpus[usize::from(cpu)];
        c.frames[usize::from(c.depth)] = Frame {
            prog,
            sched,
            callback: true,
            saved: c.bpf_ctx,
            ..Frame::default()
        };
        c.depth += 1;
    }

    pub(super) fn arm(&mut self, cpu: u8) {
        let reach = self.reach;
        let frame = self.frame(cpu);
        frame.stage = Stage::Asked;
        let (prog, sched, cookie) = (frame.prog, frame.sched, frame.cookie);
        let stash = match reach.world.progs[usize::from(prog)].source {
            Source::Stash => cookie,
            _ => 0,
        };
        say!(
            self,
            "{} arms its {}",
            reach.prog_name(prog),
            if reach.way(prog) == Way::Wq {
                "bpf_wq"
            } else {
                "bpf_timer"
            }
        );
        if stash != 0 {
            say!(self, "and leaves {stash:#x} in the map value");
        }
        self.s.asyncs[usize::from(sched)] = Async {
            armed: true,
            prog,
            stash,
        };
        self.prog(prog).refs += 1;
    }

    pub(super) fn ask(&mut self, cpu: u8) {
        let reach = self.reach;
        let frame = *self.frame(cpu);
        self.asked(&frame);
        let pointed = self.pointed(frame.prog).filter(|_| reach.has_pointer());
        self.count_getter(&frame);
        // The pointer may be followed later only while its map is there.
        let live = |map: &u8| self.s.scheds[usize::from(*map)].map != MapLife::Freed;
        if let Some(map) = pointed.filter(live).filter(|_| reach.world.split) {
            say!(
                self,
                "{} is handed the map of {}",
                reach.prog_name(frame.prog),
                reach.sched_name(map)
            );
            let frame = self.frame(cpu);
            (frame.stage, frame.map) = (Stage::Holding, map + 1);
            return;
        }
        let answer = reach.lookup(self.s, cpu, &frame);
        self.answered(cpu, &frame, answer);
    }

    pub(super) fn ask_task(&mut self, cpu: u8, task: u8) {
        let reach = self.reach;
        let frame = *self.frame(cpu);
        self.asked(&frame);
        say!(
            self,
            "{} hands over a task that scheduler {} has when it is enabled",
            reach.prog_name(frame.prog),
            reach.sched_name(task)
        );
        let answer = reach.by_task(self.s, task);
        self.answered(cpu, &frame, answer);
    }

    fn answered(&mut self, cpu: u8, frame: &Frame, answer: Answer) {
        let held = self.answer(frame, answer);
        let split = self.reach.world.split && held != 0;
        let frame = self.frame(cpu);
        (frame.stage, frame.held) = if split {
            (Stage::Holding, held)
        } else {
            (Stage::Asked, 0)
        };
        if !split {
            self.put_getter(cpu);
        }
    }

    /// Judges what a program has found; 1 + the scheduler, or 0.
    fn answer(&mut self, frame: &Frame, answer: Answer) -> u8 {
        let reach = self.reach;
        let own = frame.sched;
        let name = reach.prog_name(frame.prog);
        match answer {
            Answer::Sched(found) => {
                say!(self, "{name} finds scheduler {}", reach.sched_name(found));
                if found == own {
                    self.report.witness(Invariant::CookieReachability);
                } else {
                    say!(
                        self,
                        "ANOTHER ONE: it runs on behalf of {}",
                        reach.sched_name(own)
                    );
                    self.report.violate(Invariant::NoOtherScheduler);
                }
                match self.s.scheds[usize::from(found)].life {
                    Life::Enabled if found == own => self.report.found = Some(Found::Own(own)),
                    Life::Enabled => {}
                    _ => {
                        say!(self, "DEAD: it is disabled");
                        self.report.violate(Invariant::NoDeadScheduler);
                    }
                }
                found + 1
            }
            Answer::Nothing(why) => {
                say!(self, "{name} finds nothing: {why}");
                if self.s.scheds[usize::from(own)].life == Life::Enabled {
                    say!(self, "NOT REACHED: {} is enabled", reach.sched_name(own));
                    self.report.violate(Invariant::CookieReachability);
                    self.report.found = Some(Found::Nothing(own));
                }
                0
            }
            Answer::Gone(what, whose) => {
                say!(
                    self,
                    "{name} reads {what} of {}: FREED",
                    reach.sched_name(whose)
                );
                self.report.violate(Invariant::NoFreedScheduler);
                self.report.fatal = true;
                0
            }
        }
    }

    /// What this question puts to the test.
    fn asked(&mut self, frame: &Frame) {
        let scheds = &self.s.scheds;
        let others = (0u8..)
            .zip(scheds)
            .any(|(i, s)| i != frame.sched && s.life == Life::Enabled);
        let dead = scheds
            .iter()
            .any(|s| matches!(s.life, Life::Dead | Life::Dying | Life::Freed));
        let freed = scheds
            .iter()
            .any(|s| s.life == Life::Freed || s.map == MapLife::Freed);
        let pointer = self.s.progs[usize::from(frame.prog)].assoc != 0;
        for (met, invariant) in [
            (others, Invariant::NoOtherScheduler),
            (dead, Invariant::NoDeadScheduler),
            (freed, Invariant::NoFreedScheduler),
            (pointer, Invariant::AssocRules),
        ] {
            if met {
                self.report.witness(invariant);
            }
        }
    }

    /// The map to which the pointer of the asking program leads.
    fn pointed(&self, prog: u8) -> Option<u8> {
        self.s.progs[usize::from(prog)].pointer().map()
    }

    fn count_getter(&mut self, frame: &Frame) {
        let Some(map) = self.pointed(frame.prog) else {
            return;
        };
        if self.reach.takes_reference(frame.prog) {
            self.sched(map).refs += 1;
        }
        if self.reach.design.lookup.assoc_get == AssocGet::Put {
            say!(self, "its caller puts the map");
            self.put_map(map);
        }
    }

    /// The caller of the getter drops what the getter took.
    fn put_getter(&mut self, cpu: u8) {
        let prog = self.frame(cpu).prog;
        if let Some(map) = self
            .pointed(prog)
            .filter(|_| self.reach.takes_reference(prog))
        {
            self.put_map(map);
        }
    }

    pub(super) fn use_it(&mut self, cpu: u8) {
        let reach = self.reach;
        let frame = *self.frame(cpu);
        if let Some(map) = frame.map.checked_sub(1) {
            say!(
                self,
                "the kfunc reads ops->priv in the map of {}",
                reach.sched_name(map)
            );
            let answer = reach.by_map(self.s, map);
            self.answer(&frame, answer);
        } else if let Some(found) = frame.held.checked_sub(1) {
            say!(self, "the kfunc uses scheduler {}", reach.sched_name(found));
            if self.s.scheds[usize::from(found)].life == Life::Freed {
                say!(self, "FREED: its memory is gone");
                self.report.violate(Invariant::NoFreedScheduler);
                self.report.fatal = true;
            }
        }
        let frame = self.frame(cpu);
        (frame.stage, frame.held, frame.map) = (Stage::Asked, 0, 0);
        self.put_getter(cpu);
        self.quiescent(cpu);
    }
}

impl Reach {
    /// What runs innermost on a CPU.
    fn innermost(&self, s: &State, cpu: u8) -> Option<Frame> {
        let c = &s.cpus[usize::from(cpu)];
        c.depth.checked_sub(1).map(|d| c.frames[usize::from(d)])
    }
}
