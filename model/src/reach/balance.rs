//! The rules of a program's pointer to its map and of reference counts: every count is the number of holders, and POISON
//! stays.

use super::machine::{Reach, Report};
use super::state::{Frame, MapLife, POISON, ProgLife, Stage, State};
use crate::design::AssocRef;
use crate::invariant::Invariant;

impl Reach {
    /// The rules of the pointers and the counts.
    pub(super) fn judge(&self, before: &State, balanced: bool, s: &State, report: &mut Report) {
        if !self.has_pointer() {
            return;
        }
        let healed = before
            .progs
            .iter()
            .zip(&s.progs)
            .any(|(b, a)| b.assoc == POISON && a.assoc != POISON && a.life == ProgLife::Loaded);
        if healed || balanced && !self.balanced(s) {
            report.violate(Invariant::AssocRules);
        }
    }

    /// A program's pointer that holds its map.
    pub(super) fn holds_map(&self, prog: u8, assoc: u8) -> bool {
        self.design.lookup.assoc_ref == AssocRef::Command
            && !self.is_struct_ops(prog)
            && !matches!(assoc, 0 | POISON)
    }

    /// Every count is the number of holders.
    pub(super) fn balanced(&self, s: &State) -> bool {
        let getters = |i: u8| {
            let holding = |f: &&Frame| {
                f.stage == Stage::Holding
                    && self.takes_reference(f.prog)
                    && s.progs[usize::from(f.prog)].assoc == i + 1
            };
            s.cpus
                .iter()
                .flat_map(|c| &c.frames[..usize::from(c.depth)])
                .filter(holding)
                .count()
        };
        let maps = (0u8..).zip(&s.scheds).all(|(i, sched)| {
            let tied = (0u8..)
                .zip(&s.progs[..self.world.progs.len()])
                .filter(|(p, prog)| self.holds_map(*p, prog.assoc) && prog.assoc == i + 1)
                .count();
            sched.map != MapLife::Live
                || usize::from(sched.refs)
                    == usize::from(sched.fd) + usize::from(sched.link) + tied + getters(i)
        });
        let progs = (0u8..)
            .zip(&s.progs[..self.world.progs.len()])
            .all(|(p, prog)| {
                let maps = self
                    .world
                    .scheds
                    .iter()
                    .zip(&s.scheds)
                    .filter(|(decl, sched)| sched.filled && decl.members.contains(&p))
                    .count();
                let attached = self
                    .world
                    .attachments
                    .iter()
                    .zip(&s.attached)
                    .filter(|(a, on)| **on && a.prog == p)
                    .count();
                let armed = s.asyncs.iter().filter(|a| a.armed && a.prog == p).count();
                prog.life != ProgLife::Loaded
                    || usize::from(prog.refs) == usize::from(prog.fd) + maps + attached + armed
            });
        maps && progs
    }

    pub(super) fn takes_reference(&self, prog: u8) -> bool {
        self.design.lookup.assoc_ref == AssocRef::Getter
            && !self.is_struct_ops(prog)
            && !self.takes_task(prog)
    }
}
