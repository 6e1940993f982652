//! What loaders do: load, create and fill maps, tie programs to them, attach, close.
//!
//! Stands for libbpf and its users above bpf(2): BPF_PROG_LOAD, BPF_MAP_CREATE, BPF_MAP_UPDATE_ELEM,
//! BPF_PROG_ASSOC_STRUCT_OPS, BPF_LINK_CREATE and the ends of their objects.

use std::fmt::Write;

use super::context::Way;
use super::machine::{Found, Reach};
use super::state::{Life, MapLife, ProgLife, STOPPED};
use super::step::{Step, say};
use super::world::Op;
use crate::assoc::{Assoc, Tied};
use crate::design::{
    AssocAgain, AssocRef, AssocTie, AssocUndo, Identity, SameKey, ThisClear, Twin,
};
use crate::invariant::Invariant;

impl Step<'_> {
    pub(super) fn loader(&mut self, loader: u8, op: Op) {
        let reach = self.reach;
        let lists = &reach.world.loaders[usize::from(loader)];
        let next = &mut self.s.next[usize::from(loader)];
        if usize::from(*next) < lists.first.len() {
            *next += 1;
        } else if let Some(bit) = lists
            .later
            .iter()
            .enumerate()
            .position(|(bit, o)| *o == op && self.s.done[usize::from(loader)] & (1 << bit) == 0)
        {
            self.s.done[usize::from(loader)] |= 1 << bit;
        }
        if let Err((why, sched)) = self.operate(op) {
            say!(self, "{why}: the loader goes no further");
            self.s.next[usize::from(loader)] = STOPPED;
            self.report.found = Some(Found::Refused(sched));
        }
    }

    /// Carries out an operation; an error that the loader must heed, and for which scheduler it worked.
    fn operate(&mut self, op: Op) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let (identity, old_kernel) = (reach.design.identity, reach.world.old_kernel());
        match op {
            Op::Load(object) => self.load(object),
            Op::MapCreate(i) => {
                say!(
                    self,
                    "map_create for {}: id {}",
                    reach.sched_name(i),
                    reach.world.scheds[usize::from(i)].map_id
                );
                if identity == Identity::MapExtra {
                    if old_kernel {
                        return Err(("map_extra of a struct_ops map: -EINVAL", i));
                    }
                    say!(self, "map_extra {:#x}", reach.key(i));
                }
                let sched = self.sched(i);
                (sched.map, sched.refs, sched.fd) = (MapLife::Live, 1, true);
            }
            Op::MapUpdate(i) => return self.map_update(i, false),
            Op::MapUpdateFails(i) => return self.map_update(i, true),
            Op::Associate(prog, i) => return self.associate(prog, i),
            Op::Store(object, i) => {
                let key = reach.key(i);
                say!(
                    self,
                    "global variable of {}: {key:#x}",
                    reach.world.objects[usize::from(object)]
                );
                self.s.globals[usize::from(object)] = key;
            }
            Op::Attach(a) => {
                let attachment = &reach.world.attachments[usize::from(a)];
                if self.prog(attachment.prog).life == ProgLife::Loaded {
                    let field = reach.world.progs[usize::from(attachment.prog)]
                        .kind
                        .facts()
                        .field;
                    say!(
                        self,
                        "{} is attached for {}",
                        attachment.name,
                        reach.sched_name(attachment.sched)
                    );
                    if let Some(field) = field {
                        say!(self, "{field} = {:#x}", attachment.cookie);
                    }
                    self.s.attached[usize::from(a)] = true;
                    self.prog(attachment.prog).refs += 1;
                } else {
                    say!(
                        self,
                        "{} is not loaded: nothing to attach",
                        reach.prog_name(attachment.prog)
                    );
                }
            }
            Op::LinkCreate(i) => return self.link_create(i),
            Op::LinkClose(i) => self.link_close(i),
            Op::Error(i) => {
                say!(
                    self,
                    "scheduler {} fails and is disabled; its link stays",
                    reach.sched_name(i)
                );
                self.sched(i).life = Life::Dead;
                self.new_root(i);
            }
            Op::Detach(a) => {
                let attachment = &reach.world.attachments[usize::from(a)];
                say!(self, "{} is detached", attachment.name);
                self.s.attached[usize::from(a)] = false;
                self.put_prog(attachment.prog);
            }
            Op::MapClose(i) => {
                say!(
                    self,
                    "the last fd of the map of {} is closed",
                    reach.sched_name(i)
                );
                self.sched(i).fd = false;
                self.put_map(i);
            }
            Op::Exit(object) => {
                say!(
                    self,
                    "the fds of {}'s programs and maps are closed",
                    reach.world.objects[usize::from(object)]
                );
                for prog in reach.of_object(object) {
                    if std::mem::take(&mut self.prog(prog).fd) {
                        self.put_prog(prog);
                    }
                    for i in 0..self.s.asyncs.len() {
                        if self.s.asyncs[i].armed && self.s.asyncs[i].prog == prog {
                            // What a callback that runs has read stays what it is.
                            self.s.asyncs[i].armed = false;
                            self.put_prog(prog);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, object: u8) {
        let reach = self.reach;
        for i in reach.of_object(object) {
            let name = reach.prog_name(i);
            match reach.verify(i) {
                Ok(()) => {
                    let prog = self.prog(i);
                    (prog.life, prog.refs, prog.fd) = (ProgLife::Loaded, 1, true);
                }
                Err(why) => {
                    say!(
                        self,
                        "{name} ({}) is refused: \"{why}\"",
                        reach.world.progs[usize::from(i)].kind.facts().kind
                    );
                    let owner = reach.owner(i);
                    self.prog(i).life = ProgLife::Refused;
                    self.report.found = Some(Found::Refused(owner));
                }
            }
        }
        if self.report.found.is_none() {
            say!(
                self,
                "object {} is loaded",
                reach.world.objects[usize::from(object)]
            );
        }
    }

    fn map_update(&mut self, i: u8, fails: bool) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let members = &reach.world.scheds[usize::from(i)].members;
        say!(
            self,
            "the map of {} takes its programs",
            reach.sched_name(i)
        );
        if members
            .iter()
            .any(|p| self.s.progs[usize::from(*p)].life != ProgLife::Loaded)
        {
            return Err(("a program of it is not loaded", i));
        }
        let mut taken = 0;
        let as_taken = reach.design.lookup.assoc_tie == AssocTie::AsTaken;
        let mut failure = fails.then_some("the subsystem refuses the struct: map_update fails");
        for prog in members {
            self.prog(*prog).refs += 1;
            taken += 1;
            if self.refuses(*prog, i) {
                failure = Some("a program that another map has: -EINVAL");
                break;
            }
            if as_taken {
                self.tie(*prog, i);
            }
        }
        let Some(why) = failure else {
            if !as_taken {
                for prog in members {
                    self.tie(*prog, i);
                }
            }
            self.sched(i).filled = true;
            return Ok(());
        };
        for prog in &members[..taken] {
            if as_taken {
                self.clear_pointer(*prog, i);
            }
            self.put_prog(*prog);
            if reach.design.lookup.assoc_undo == AssocUndo::Twice {
                self.put_prog(*prog);
            }
        }
        if fails {
            say!(self, "{why}");
            return Ok(());
        }
        Err((why, i))
    }

    /// Whether map_update may not take a program because another map has it.
    fn refuses(&mut self, prog: u8, i: u8) -> bool {
        let reach = self.reach;
        let mut pointer = self.prog(prog).pointer();
        if !reach.has_pointer() || !pointer.is_of_another(i) {
            return false;
        }
        self.report.witness(Invariant::AssocRules);
        pointer.tie(i, &reach.design.lookup) == Tied::Refused
    }

    /// map_update ties a struct_ops program to its map.
    fn tie(&mut self, prog: u8, i: u8) {
        let reach = self.reach;
        if !reach.has_pointer() {
            return;
        }
        let mut pointer = self.prog(prog).pointer();
        let tied = pointer.tie(i, &reach.design.lookup);
        self.prog(prog).point(pointer);
        let name = reach.prog_name(prog);
        match tied {
            Tied::Tied => {}
            Tied::Poisoned => say!(self, "{name} is tied to another map already: POISON"),
            Tied::Kept => say!(self, "{name} stays tied to another map"),
            Tied::Moved => say!(self, "{name} is no longer tied to another map"),
            Tied::Refused => unreachable!("the program was not taken"),
        }
    }

    fn clear_pointer(&mut self, prog: u8, i: u8) {
        let lookup = self.reach.design.lookup;
        let mut pointer = self.prog(prog).pointer();
        pointer.untie(i, &lookup);
        self.prog(prog).point(pointer);
    }

    /// The map knows its struct_ops programs, and no others.
    pub(super) fn clear_pointers(&mut self, i: u8) {
        for prog in &self.reach.world.scheds[usize::from(i)].members {
            self.clear_pointer(*prog, i);
        }
    }

    /// BPF_PROG_ASSOC_STRUCT_OPS.
    fn associate(&mut self, prog: u8, i: u8) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let (name, sched) = (reach.prog_name(prog), reach.sched_name(i));
        if reach.design.identity != Identity::Association {
            say!(self, "{name} cannot be tied to a map under this design");
            return Ok(());
        }
        if reach.world.old_kernel() {
            return Err(("BPF_PROG_ASSOC_STRUCT_OPS: -EINVAL", i));
        }
        if self.s.progs[usize::from(prog)].life != ProgLife::Loaded {
            say!(self, "{name} is not loaded: nothing to tie");
            return Ok(());
        }
        if reach.is_struct_ops(prog) && reach.way(prog) != Way::Freplace {
            return Err((
                "BPF_PROG_ASSOC_STRUCT_OPS of a struct_ops program: -EINVAL",
                i,
            ));
        }
        let counts = reach.design.lookup.assoc_ref == AssocRef::Command;
        let mut pointer = self.prog(prog).pointer();
        if pointer != Assoc::None {
            self.report.witness(Invariant::AssocRules);
        }
        let Ok(new) = pointer.command(i) else {
            return Err(("the program is tied to another map: -EBUSY", i));
        };
        self.prog(prog).point(pointer);
        let again = reach.design.lookup.assoc_again == AssocAgain::Counted;
        self.sched(i).refs += u8::from(counts && (new || again));
        match new {
            true => say!(self, "{name} is tied to the map of {sched}"),
            false => say!(self, "{name} is tied to the map of {sched} already: 0"),
        }
        Ok(())
    }

    fn link_create(&mut self, i: u8) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let name = reach.sched_name(i);
        let mut key = reach.key(i);
        match reach.design.identity {
            Identity::Cookie | Identity::RunCtx if reach.world.old_kernel() => {
                say!(self, "link_create ignores the cookie {key:#x} and succeeds");
                key = 0;
            }
            Identity::MapId if reach.world.old_kernel() => {
                return Err(("the subsystem cannot learn the map's id", i));
            }
            _ => {}
        }
        let taken = self
            .s
            .scheds
            .iter()
            .any(|o| o.listed && key != 0 && o.key == key && o.life != Life::Freed);
        if taken && reach.design.lookup.same_key == SameKey::Refuse {
            return Err(("another scheduler has this cookie: -EEXIST", i));
        }
        say!(self, "scheduler {name} is enabled");
        if key != 0 {
            say!(self, "known by {key:#x}");
        }
        let sched = self.sched(i);
        (sched.life, sched.key, sched.listed, sched.link) = (Life::Enabled, key, key != 0, true);
        sched.refs += 1;
        if self.s.root == 0 {
            self.s.root = i + 1;
        }
        Ok(())
    }

    fn link_close(&mut self, i: u8) {
        let reach = self.reach;
        say!(
            self,
            "the link of {} is closed, the scheduler disabled and put",
            reach.sched_name(i)
        );
        let readers = self.readers();
        let sched = self.sched(i);
        (sched.life, sched.gp, sched.link) = (Life::Dying, readers, false);
        sched.listed &= reach.design.twin == Twin::StaleEntry;
        self.put_map(i);
        self.new_root(i);
        if reach.design.lookup.this_clear == ThisClear::Detach {
            self.clear_pointers(i);
        }
    }

    /// The root scheduler goes; the next one that is enabled takes its place.
    fn new_root(&mut self, i: u8) {
        if self.s.root == i + 1 {
            let next = self.s.scheds.iter().position(|s| s.life == Life::Enabled);
            self.s.root = next.map_or(0, |n| n as u8 + 1);
        }
    }
}

impl Reach {
    /// The scheduler for whose sake a program is loaded.
    fn owner(&self, prog: u8) -> u8 {
        let main = (0u8..)
            .zip(&self.world.progs)
            .find(|(_, p)| p.callee == Some(prog));
        let main = main.map_or(prog, |(i, _)| i);
        let attached = self
            .world
            .attachments
            .iter()
            .find(|a| a.prog == main)
            .map(|a| a.sched);
        let member = self
            .world
            .scheds
            .iter()
            .position(|s| s.members.contains(&main));
        attached.or(member.map(|m| m as u8)).unwrap_or_default()
    }
}
