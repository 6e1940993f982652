//! One walk over a state's fields, shared by everything that needs all of them: packing, unpacking, renaming, the search
//! for stale keys, what a page shows.
//!
//! Here are the kinds of fields, and what a walk of the whole state passes. Which fields there are, of which kind and how
//! wide, is said where they are declared ([`crate::kernel`]).

use crate::assoc::Assoc;
use crate::kernel::{
    CpuId, Deferred, Func, ImageKey, InList, ItemArray, KdataKey, Kernel, KsymKey, LinkKey, MapKey,
    Module, MoreFds, Node, OwnState, Proc, Reg, Subsys,
};
use crate::operation::{Arg, OpKind};
use crate::pc::Pc;
use crate::script::MAX_SUBSYSTEMS;
use crate::world::{MAX_CGROUPS, MAX_PROCS, MAX_RINGS};

/// Bits of what a CPU's request names: a declaration, a program, a socket, ...
pub(crate) const ARG: u32 = 4;

/// Kinds of operation with this number and above have it at the end of a CPU's words: they are rare, and what their
/// number stands for is not renamed (see [`crate::pack`]).
const RARE: u8 = 31;

/// Bits of a number below `count`.
const fn width(count: usize) -> u32 {
    usize::BITS - (count - 1).leading_zeros()
}

impl OpKind {
    /// Its number stands at the end of a CPU's words.
    pub(crate) fn is_rare(self) -> bool {
        self as u8 >= RARE
    }
}

/// What has fields.
pub trait Visit {
    /// Passes every field, in the order of its declaration.
    fn visit<V: Visitor>(&mut self, v: &mut V);
}

/// An enum whose values have names.
pub trait Word: Copy + PartialEq + 'static {
    /// All values in the order of their numbers.
    const ALL: &'static [Self];
    /// The number of the value.
    fn number(self) -> u8;
    /// Its name.
    fn name(self) -> &'static str;
}

/// A set of flags that have names.
pub trait Flags: Copy {
    /// The names, of the lowest bit first.
    const WORDS: &'static [&'static str];
    /// The bits.
    fn mask(self) -> u16;
    /// The set of these bits.
    fn of_mask(mask: u16) -> Self;
}

/// What is done with each field. Every method may also change the field (unpacking, renaming).
///
/// The first methods are those that a visitor must have; each other kind is made of them, and a visitor to whom more
/// than the bits matters has its own.
pub trait Visitor: Sized {
    /// A plain value of at most so many bits.
    fn bits(&mut self, value: &mut u16, width: u32);
    /// A pointer to a map.
    fn map(&mut self, key: &mut Option<MapKey>);
    /// A pointer to a kdata.
    fn kdata(&mut self, key: &mut Option<KdataKey>);
    /// A pointer to a link.
    fn link(&mut self, key: &mut Option<LinkKey>);
    /// A pointer to a page.
    fn image(&mut self, key: &mut Option<ImageKey>);
    /// A pointer to a ksym.
    fn ksym(&mut self, key: &mut Option<KsymKey>);
    /// A CPU: 0 for none, else 1 + its number.
    fn cpu(&mut self, value: &mut u8);
    /// A set of CPUs.
    fn cpus(&mut self, mask: &mut u8);
    /// A cookie (index).
    fn cookie(&mut self, value: &mut u8);
    /// The declaration of a map.
    fn decl(&mut self, value: &mut u8);
    /// A program: 0 for none, else 1 + its number.
    fn prog(&mut self, value: &mut u8);

    // ---- where the walk is -------------------------------------------------------------------------

    /// The next value is the field that is called so; `: so` or ` so` is a part of the field before, and nothing is that field itself.
    #[inline(always)]
    fn field(&mut self, _called: &'static str) {}
    /// The next value is the n-th of the field.
    #[inline(always)]
    fn nth(&mut self, _n: usize) {}
    /// An object of its own words ends.
    #[inline(always)]
    fn end(&mut self) {}

    // ---- what states of the world have -------------------------------------------------------------

    /// The world has operations that duplicate fds, or find objects without one.
    #[inline(always)]
    fn many_fds(&self) -> bool {
        true
    }
    /// Some program of the world asks for its struct.
    #[inline(always)]
    fn asks(&self) -> bool {
        true
    }
    /// How many cgroups the world has.
    #[inline(always)]
    fn cgroups(&self) -> usize {
        MAX_CGROUPS
    }
    /// How many rings the world may have.
    #[inline(always)]
    fn rings(&self) -> usize {
        MAX_RINGS
    }
    /// The world has a HID device.
    #[inline(always)]
    fn hid(&self) -> bool {
        true
    }
    /// The world has cgroups.
    #[inline(always)]
    fn has_cgroups(&self) -> bool {
        self.cgroups() > 0
    }
    /// The world may have rings.
    #[inline(always)]
    fn has_rings(&self) -> bool {
        self.rings() > 0
    }

    // ---- plain values ------------------------------------------------------------------------------

    /// A number of at most so many bits.
    #[inline(always)]
    fn number(&mut self, value: &mut u8, width: u32) {
        let mut wide = u16::from(*value);
        self.bits(&mut wide, width);
        *value = wide as u8;
    }
    /// A number that needs more than a byte.
    #[inline(always)]
    fn wide(&mut self, value: &mut u16, width: u32) {
        self.bits(value, width);
    }
    /// A reference count, or another count of holders.
    #[inline(always)]
    fn refs(&mut self, value: &mut u8) {
        self.number(value, 6);
    }
    /// Yes or no.
    #[inline(always)]
    fn flag(&mut self, value: &mut bool) {
        let mut bit = u16::from(*value);
        self.bits(&mut bit, 1);
        *value = bit != 0;
    }
    /// So many flags, each of which is of something else.
    #[inline(always)]
    fn each_bit(&mut self, mask: &mut u8, count: usize) {
        self.number(mask, count as u32);
    }
    /// A set of flags; those beyond so many are passed by [`Visitor::flag_at`].
    #[inline(always)]
    fn flags<F: Flags>(&mut self, value: &mut F, count: u32) {
        let mask = value.mask();
        let mut low = mask & ((1 << count) - 1);
        self.bits(&mut low, count);
        *value = F::of_mask(mask >> count << count | low);
    }
    /// One flag of a set, which states of other worlds have not.
    #[inline(always)]
    fn flag_at<F: Flags>(&mut self, value: &mut F, place: u32) {
        let mut set = value.mask() >> place & 1 != 0;
        self.flag(&mut set);
        *value = F::of_mask(value.mask() & !(1 << place) | u16::from(set) << place);
    }
    /// One of several values.
    #[inline(always)]
    fn word<W: Word>(&mut self, value: &mut W) {
        let mut number = value.number();
        self.number(&mut number, const { width(W::ALL.len()) });
        *value = W::ALL[usize::from(number)];
    }
    /// One of several values, the first of which is none worth a word.
    #[inline(always)]
    fn mode<W: Word>(&mut self, value: &mut W) {
        self.word(value);
    }
    /// 0 or a negative errno.
    #[inline(always)]
    fn errno(&mut self, value: &mut i8) {
        let mut byte = *value as u8;
        self.number(&mut byte, 8);
        *value = byte as i8;
    }
    /// A step.
    #[inline(always)]
    fn step(&mut self, value: &mut Pc) {
        let mut number = *value as u8;
        self.number(&mut number, const { width(Pc::ALL.len()) });
        *value = Pc::ALL[usize::from(number)];
    }
    /// A kind of operation, unless it is a rare one.
    #[inline(always)]
    fn op(&mut self, value: &mut OpKind) {
        let mut number = (*value as u8).min(RARE);
        self.number(&mut number, 5);
        if number < RARE || !value.is_rare() {
            *value = OpKind::from_number(number);
        }
    }
    /// A kind of operation, if it is a rare one.
    #[inline(always)]
    fn rare_op(&mut self, value: &mut OpKind) {
        let mut number = *value as u8;
        if number >= RARE {
            self.number(&mut number, 6);
            *value = OpKind::from_number(number);
        }
    }
    /// What an operation names: a declaration, a program, or a number. Equally wide whatever it is.
    #[inline(always)]
    fn arg(&mut self, value: &mut u8, what: Arg) {
        match what {
            Arg::Decl => self.decl(value),
            Arg::Prog => {
                let mut prog = *value + 1;
                self.prog(&mut prog);
                *value = prog - 1;
            }
            _ => self.number(value, ARG),
        }
    }

    // ---- processes, CPUs, cgroups, subsystems ------------------------------------------------------

    /// A set of processes.
    #[inline(always)]
    fn procs(&mut self, mask: &mut u8) {
        self.number(mask, MAX_PROCS as u32);
    }
    /// Further fds, of each process.
    #[inline(always)]
    fn more_fds(&mut self, value: &mut MoreFds) {
        for (proc, n) in value.0.iter_mut().enumerate() {
            self.nth(proc);
            self.number(n, 2);
        }
    }
    /// The CPU that holds something.
    #[inline(always)]
    fn holder(&mut self, value: &mut Option<u8>) {
        let mut byte = value.map_or(0, |c| c + 1);
        self.cpu(&mut byte);
        *value = byte.checked_sub(1);
    }
    /// A cgroup: 0 for none, else 1 + its number.
    #[inline(always)]
    fn cgroup(&mut self, value: &mut u8) {
        self.number(value, 2);
    }
    /// A set of the scenario's own subsystems.
    #[inline(always)]
    fn subsystems(&mut self, mask: &mut u8) {
        self.number(mask, MAX_SUBSYSTEMS as u32);
    }

    // ---- what has several parts --------------------------------------------------------------------

    /// A function pointer.
    #[inline(always)]
    fn func(&mut self, value: &mut Func) {
        value.visit(self);
    }
    /// What is waited for, and whom.
    #[inline(always)]
    fn deferred(&mut self, value: &mut Deferred) {
        value.visit(self);
    }
    /// A node of the tcp list.
    #[inline(always)]
    fn node(&mut self, node: &mut Node) {
        let mut tag = match node {
            Node::Poison => 0,
            Node::Head => 1,
            Node::Of(_) => 2,
        };
        self.bits(&mut tag, 2);
        let mut key = if let Node::Of(key) = node {
            Some(*key)
        } else {
            None
        };
        self.kdata(&mut key);
        *node = match (tag, key) {
            (1, _) => Node::Head,
            (2, Some(key)) => Node::Of(key),
            _ => Node::Poison,
        };
    }
    /// The map that a program is tied to.
    #[inline(always)]
    fn assoc(&mut self, value: &mut Assoc<MapKey>) {
        let (mut poison, mut map) = (*value == Assoc::Poison, value.map());
        self.field(" is POISON");
        self.flag(&mut poison);
        self.field("");
        self.map(&mut map);
        *value = match map {
            Some(map) => Assoc::Map(map),
            None if poison => Assoc::Poison,
            None => Assoc::None,
        };
    }
    /// Whether there is an item in this place of an array.
    #[inline(always)]
    fn there(&mut self, there: &mut bool) {
        self.flag(there);
    }
    /// The struct of an item, or the type's stubs.
    #[inline(always)]
    fn kdata_or_stubs(&mut self, key: &mut Option<KdataKey>) {
        self.kdata(key);
    }
    /// The items of an effective array.
    #[inline(always)]
    fn items(&mut self, array: &mut ItemArray) {
        for (n, place) in array.iter_mut().enumerate() {
            self.nth(n);
            let mut there = place.is_some();
            self.field("");
            self.there(&mut there);
            // Those of a walk that has come further are gone from the front.
            *place = there.then(|| {
                let mut item = place.unwrap_or_default();
                item.visit(self);
                item
            });
        }
    }
    /// The links of a cgroup, from the front.
    #[inline(always)]
    fn in_lists(&mut self, list: &mut [Option<InList>]) {
        for (n, place) in list.iter_mut().enumerate() {
            self.nth(n);
            let mut link = place.map(|in_list| in_list.link);
            self.field("");
            self.link(&mut link);
            let Some(link) = link else { break };
            let mut preorder = place.is_some_and(|in_list| in_list.preorder);
            self.field(": preorder");
            self.flag(&mut preorder);
            *place = Some(InList { link, preorder });
        }
    }
    /// A registration, if there is one.
    #[inline(always)]
    fn reg(&mut self, place: &mut Option<Reg>) {
        let mut kdata = place.map(|reg| reg.kdata);
        self.field("");
        self.kdata(&mut kdata);
        let Some(kdata) = kdata else { return };
        let mut reg = place.unwrap_or(Reg {
            kdata,
            expect: 0,
            link: None,
            slot: 0,
        });
        self.field(": attached with cookie");
        self.cookie(&mut reg.expect);
        self.field(": link");
        self.link(&mut reg.link);
        self.field(": slot");
        self.number(&mut reg.slot, 2);
        *place = Some(Reg { kdata, ..reg });
    }
    /// Registrations, from the front.
    #[inline(always)]
    fn regs(&mut self, regs: &mut [Option<Reg>]) {
        for (n, place) in regs.iter_mut().enumerate() {
            self.nth(n);
            self.reg(place);
            if place.is_none() {
                break;
            }
        }
    }
}

impl Visit for Subsys {
    #[inline(always)]
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        let Subsys {
            tcp_next,
            tcp_prev,
            scx,
            regs,
            own,
            cgroups,
            hid,
            rings,
        } = self;
        v.node(tcp_next);
        v.node(tcp_prev);
        scx.visit(v);
        let mut any = *own != OwnState::default();
        v.flag(&mut any);
        v.end();
        v.regs(regs);
        v.end();
        if v.hid() {
            hid.visit(v);
        }
        if any {
            own.visit(v);
            v.end();
        }
        let count = v.cgroups();
        cgroups.iter_mut().take(count).for_each(|c| c.visit(v));
        let count = v.rings();
        rings.iter_mut().take(count).for_each(|r| r.visit(v));
        if count > 0 {
            v.end();
        }
    }
}

/// What is left: everything but CPUs, tables, programs, sockets and subsystems.
#[inline(always)]
fn rest<V: Visitor>(
    v: &mut V,
    module: &mut Module,
    locks: &mut [Option<CpuId>],
    procs: &mut [Proc; MAX_PROCS],
    alloc_failures: &mut u8,
    dead: &mut bool,
) {
    module.visit(v);
    locks.iter_mut().for_each(|lock| v.holder(lock));
    procs.iter_mut().for_each(|proc| proc.visit(v));
    v.number(alloc_failures, 8);
    v.flag(dead);
    v.end();
}

/// Sockets, subsystems and what is left.
#[inline(always)]
pub(crate) fn globals<V: Visitor>(v: &mut V, k: &mut Kernel) {
    let Kernel {
        cpus: _,
        maps: _,
        kdatas: _,
        links: _,
        images: _,
        ksyms: _,
        progs: _,
        socks,
        subsys,
        module,
        locks,
        procs,
        alloc_failures,
        dead,
    } = k;
    socks.iter_mut().for_each(|sock| sock.visit(v));
    subsys.visit(v);
    rest(v, module, locks, procs, alloc_failures, dead);
}

/// [`globals`] for those that change nothing: copies of these fields, not of the whole state.
#[inline(always)]
pub(crate) fn read_globals<V: Visitor>(v: &mut V, k: &Kernel) {
    k.socks.iter().for_each(|sock| { *sock }.visit(v));
    { k.subsys }.visit(v);
    rest(
        v,
        &mut { k.module },
        &mut { k.locks },
        &mut { k.procs },
        &mut { k.alloc_failures },
        &mut { k.dead },
    );
}
