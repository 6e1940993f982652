//! One walk over a state's fields, shared by everything that needs all of them: packing, unpacking,
//! renaming, and the search for stale keys.
//!
//! The order and the widths here *are* the layout of a packed state. A field that is forgotten here would be
//! forgotten by the explorer; the round-trip property test is there to notice. What may be left out comes
//! last in its words, so that the compiler knows where each field lies.

use crate::assoc::Assoc;
use crate::kernel::{
    Cgroup, CgroupState, Code, Cpu, CpuId, Deferred, Dirty, Func, Holds, Image, ImageKey, InList,
    Item, ItemArray, Kdata, KdataKey, Kernel, Ksym, KsymKey, Link, LinkKey, Map, MapKey, MapState,
    Module, MoreFds, Node, OwnState, Proc, Prog, Readers, Reg, Ring, ScxState, Seen, Sock, Stage,
    Subsys, Walk,
};
use crate::operation::{Arg, OpKind};
use crate::pc::Pc;
use crate::script::{MAX_FLAGS, MAX_SUBSYSTEMS};
use crate::table::{Key, Table};
use crate::world::{MAX_CGROUPS, MAX_MEMBERS, MAX_PROCS, MAX_RINGS};

/// What is done with each field. Every method may also change the field (unpacking, renaming).
pub(crate) trait Visitor {
    /// A plain value of at most so many bits.
    fn bits(&mut self, width: u32, value: &mut u16);
    /// An object of its own words ends.
    fn end(&mut self) {}
    /// The world has operations that duplicate fds, or find objects without one.
    fn many_fds(&self) -> bool {
        false
    }
    /// Some program of the world asks for its struct. Who looks for pointers need not know.
    fn asks(&self) -> bool {
        true
    }
    /// How many cgroups the world has. Who looks for pointers need not know.
    fn cgroups(&self) -> usize {
        MAX_CGROUPS
    }
    /// How many rings the world may have. Who looks for pointers need not know.
    fn rings(&self) -> usize {
        MAX_RINGS
    }
    /// The world has a HID device. Who looks for pointers need not know.
    fn hid(&self) -> bool {
        true
    }
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
}

/// Bits of what a CPU's request names: a declaration, a program, a socket, ...
pub(crate) const ARG: u32 = 4;

/// A plain value of at most so many bits.
#[inline(always)]
fn byte<V: Visitor>(v: &mut V, width: u32, value: &mut u8) {
    let mut wide = u16::from(*value);
    v.bits(width, &mut wide);
    *value = wide as u8;
}

#[inline(always)]
fn flag<V: Visitor>(v: &mut V, value: &mut bool) {
    let mut bit = u16::from(*value);
    v.bits(1, &mut bit);
    *value = bit != 0;
}

/// A reference count.
#[inline(always)]
fn refs<V: Visitor>(v: &mut V, value: &mut u8) {
    byte(v, 6, value);
}

/// A set of processes.
#[inline(always)]
fn procs<V: Visitor>(v: &mut V, value: &mut u8) {
    byte(v, MAX_PROCS as u32, value);
}

/// Further fds.
#[inline(always)]
fn more<V: Visitor>(v: &mut V, value: &mut MoreFds) {
    value.0.iter_mut().for_each(|n| byte(v, 2, n));
}

#[inline(always)]
fn some_cpu<V: Visitor>(v: &mut V, value: &mut Option<CpuId>) {
    let mut byte = value.map_or(0, |c| c + 1);
    v.cpu(&mut byte);
    *value = byte.checked_sub(1);
}

/// Bits of a step.
const PC: u32 = usize::BITS - (Pc::ALL.len() - 1).leading_zeros();

#[inline(always)]
fn pc<V: Visitor>(v: &mut V, value: &mut Pc) {
    let mut number = *value as u8;
    byte(v, PC, &mut number);
    *value = Pc::ALL[usize::from(number)];
}

#[inline(always)]
fn deferred<V: Visitor>(v: &mut V, d: &mut Deferred) {
    let mut stage = d.stage as u8;
    byte(v, 3, &mut stage);
    d.stage = Stage::ALL[usize::from(stage)];
    v.cpus(&mut d.rcu);
    v.cpus(&mut d.tasks);
    v.cpus(&mut d.trace);
}

#[inline(always)]
fn func<V: Visitor>(v: &mut V, f: &mut Func) {
    v.image(&mut f.image);
    byte(v, 2, &mut f.index);
}

#[inline(always)]
fn node<V: Visitor>(v: &mut V, n: &mut Node) {
    let mut tag = match n {
        Node::Poison => 0,
        Node::Head => 1,
        Node::Of(_) => 2,
    };
    v.bits(2, &mut tag);
    let mut key = if let Node::Of(key) = n {
        Some(*key)
    } else {
        None
    };
    v.kdata(&mut key);
    *n = match (tag, key) {
        (1, _) => Node::Head,
        (2, Some(key)) => Node::Of(key),
        _ => Node::Poison,
    };
}

#[inline(always)]
fn readers<V: Visitor>(v: &mut V, r: &mut Readers) {
    byte(v, 3, &mut r.rcu);
    byte(v, 3, &mut r.trace);
    flag(v, &mut r.tasks);
}

#[inline(always)]
fn op<V: Visitor>(v: &mut V, value: &mut OpKind) {
    let mut number = (*value as u8).min(FURTHER);
    byte(v, 5, &mut number);
    if number < FURTHER || (*value as u8) < FURTHER {
        *value = OpKind::from_number(number);
    }
}

/// Kinds of operation with this number and above have it at the end: they are rare, and what their number stands for is
/// not renamed (see [`crate::pack`]).
const FURTHER: u8 = 31;

#[inline(always)]
fn further_op<V: Visitor>(v: &mut V, value: &mut OpKind) {
    let mut number = *value as u8;
    if number >= FURTHER {
        byte(v, 6, &mut number);
        *value = OpKind::from_number(number);
    }
}

/// A CPU; one in user space has nothing but its position in the plan.
#[inline(always)]
pub(crate) fn cpu<V: Visitor>(v: &mut V, c: &mut Cpu) {
    byte(v, 8, &mut c.position);
    pc(v, &mut c.pc);
    if c.pc == Pc::Idle {
        return v.end();
    }
    op(v, &mut c.op);
    pc(v, &mut c.ret);
    pc(v, &mut c.call_ret);
    v.map(&mut c.map);
    v.map(&mut c.old);
    v.link(&mut c.link);
    v.kdata(&mut c.kdata);
    v.kdata(&mut c.old_kdata);
    v.kdata(&mut c.attachment);
    v.kdata(&mut c.old_attachment);
    v.image(&mut c.image);
    func(v, &mut c.func);
    // Equally wide whatever it is.
    let arg = match (c.op as u8) < FURTHER {
        true => c.op.info().arg,
        // The rare ones are not known yet.
        false => Arg::Number,
    };
    if arg == Arg::Decl {
        v.decl(&mut c.arg);
    } else if arg == Arg::Prog || c.pc == Pc::ProgRelease {
        let mut prog = c.arg + 1;
        v.prog(&mut prog);
        c.arg = prog - 1;
    } else {
        byte(v, ARG, &mut c.arg);
    }
    byte(v, 2, &mut c.member);
    let mut err = c.err as u8;
    byte(v, 8, &mut err);
    c.err = err as i8;
    v.cookie(&mut c.cookie);
    v.cookie(&mut c.expect);
    v.cookie(&mut c.run_ctx);
    v.prog(&mut c.prog);
    let mut holds = c.holds.bits();
    byte(v, 8, &mut holds);
    c.holds = Holds::from_bits_retain(holds);
    let mut dirty = c.dirty - Dirty::HDEV;
    let mut bits = dirty.bits();
    byte(v, 7, &mut bits);
    dirty = Dirty::from_bits_retain(bits);
    let mut seen = c.seen.bits();
    v.bits(14, &mut seen);
    c.seen = Seen::from_bits_retain(seen);
    readers(v, &mut c.readers);
    deferred(v, &mut c.wait);
    if matches!(c.pc, Pc::Script | Pc::ScriptWaited) || c.call_ret == Pc::Script {
        byte(v, 8, &mut c.line);
    }
    further_op(v, &mut c.op);
    if v.cgroups() > 0 {
        byte(v, 2, &mut c.cgroup);
        byte(v, 8, &mut c.list_position);
        walk(v, &mut c.walk);
    }
    if v.asks() {
        v.kdata(&mut c.asked);
    }
    if v.rings() > 0 {
        byte(v, 2, &mut c.ring);
    }
    if v.hid() {
        let mut hdev = c.dirty.contains(Dirty::HDEV);
        flag(v, &mut hdev);
        dirty.set(Dirty::HDEV, hdev);
    }
    c.dirty = dirty;
    v.end();
}

/// A walk along an effective array.
#[inline(always)]
fn walk<V: Visitor>(v: &mut V, w: &mut Walk) {
    byte(v, 2, &mut w.cgroup);
    if w.cgroup == 0 {
        return;
    }
    byte(v, 3, &mut w.next);
    flag(v, &mut w.replaced);
    if w.replaced {
        items(v, &mut w.array);
    }
    v.cookie(&mut w.bpf_cookie);
}

#[inline(always)]
fn items<V: Visitor>(v: &mut V, array: &mut ItemArray) {
    for place in array {
        let mut there = place.is_some();
        flag(v, &mut there);
        if !there {
            // Those of a walk that has come further are gone from the front.
            continue;
        }
        let mut item = place.unwrap_or(Item {
            kdata: None,
            expect: 0,
            bpf_cookie: 0,
        });
        v.kdata(&mut item.kdata);
        v.cookie(&mut item.expect);
        v.cookie(&mut item.bpf_cookie);
        *place = Some(item);
    }
}

#[inline(always)]
fn cgroup<V: Visitor>(v: &mut V, c: &mut Cgroup) {
    let mut state = c.state as u8;
    byte(v, 2, &mut state);
    c.state = CgroupState::ALL[usize::from(state)];
    for place in &mut c.list {
        let mut link = place.map(|in_list| in_list.link);
        v.link(&mut link);
        let Some(link) = link else { break };
        let mut preorder = place.is_some_and(|in_list| in_list.preorder);
        flag(v, &mut preorder);
        *place = Some(InList { link, preorder });
    }
    items(v, &mut c.effective);
}

#[inline(always)]
pub(crate) fn map<V: Visitor>(v: &mut V, m: &mut Map) {
    v.decl(&mut m.decl);
    let mut state = m.state as u8;
    byte(v, 2, &mut state);
    m.state = MapState::ALL[usize::from(state)];
    some_cpu(v, &mut m.lock);
    refs(v, &mut m.refs);
    procs(v, &mut m.fds);
    byte(v, MAX_MEMBERS as u32, &mut m.filled);
    for cookie in &mut m.link_cookies {
        v.cookie(cookie);
    }
    v.kdata(&mut m.kdata);
    deferred(v, &mut m.free);
    if v.many_fds() {
        more(v, &mut m.more);
        flag(v, &mut m.pinned);
    }
    v.end();
}

#[inline(always)]
pub(crate) fn kdata<V: Visitor>(v: &mut V, d: &mut Kdata) {
    v.map(&mut d.map);
    v.decl(&mut d.decl);
    flag(v, &mut d.attachment);
    refs(v, &mut d.refs);
    for f in &mut d.func {
        func(v, f);
    }
    for k in &mut d.ksyms {
        v.ksym(k);
    }
    node(v, &mut d.next);
    node(v, &mut d.prev);
    v.cookie(&mut d.expect);
    refs(v, &mut d.registered);
    deferred(v, &mut d.free);
    if v.hid() {
        flag(v, &mut d.hdev);
    }
    for page in &mut d.pages {
        v.image(page);
        if page.is_none() {
            break;
        }
    }
    v.end();
}

#[inline(always)]
pub(crate) fn link<V: Visitor>(v: &mut V, l: &mut Link) {
    byte(v, 8, &mut l.name);
    v.cookie(&mut l.cookie);
    v.map(&mut l.map);
    v.kdata(&mut l.attachment);
    refs(v, &mut l.refs);
    procs(v, &mut l.fds);
    flag(v, &mut l.pinned);
    flag(v, &mut l.queued);
    if v.many_fds() {
        more(v, &mut l.more);
        flag(v, &mut l.id);
    }
    if v.cgroups() > 0 {
        byte(v, 2, &mut l.cgroup);
    }
    v.end();
}

#[inline(always)]
pub(crate) fn image<V: Visitor>(v: &mut V, i: &mut Image) {
    flag(v, &mut i.protected);
    v.bits(13, &mut i.fill);
    for Code { prog, cookie } in &mut i.code {
        v.prog(prog);
        v.cookie(cookie);
    }
    v.end();
}

/// Shares its word with others.
#[inline(always)]
pub(crate) fn ksym<V: Visitor>(v: &mut V, k: &mut Ksym) {
    func(v, &mut k.func);
    flag(v, &mut k.listed);
}

/// Shares its word with others.
#[inline(always)]
pub(crate) fn prog<V: Visitor>(v: &mut V, p: &mut Prog) {
    refs(v, &mut p.refs);
    procs(v, &mut p.fds);
    flag(v, &mut p.freed);
    deferred(v, &mut p.free);
    if v.asks() {
        let mut poison = p.assoc == Assoc::Poison;
        flag(v, &mut poison);
        let mut map = p.assoc.map();
        v.map(&mut map);
        p.assoc = match map {
            Some(map) => Assoc::Map(map),
            None if poison => Assoc::Poison,
            None => Assoc::None,
        };
        flag(v, &mut p.armed);
    }
}

#[inline(always)]
pub(crate) fn sock<V: Visitor>(v: &mut V, s: &mut Sock) {
    v.kdata(&mut s.kdata);
    v.cookie(&mut s.expect);
    some_cpu(v, &mut s.busy);
    procs(v, &mut s.fds);
}

#[inline(always)]
fn reg<V: Visitor>(v: &mut V, place: &mut Option<Reg>) {
    let mut kdata = place.map(|reg| reg.kdata);
    v.kdata(&mut kdata);
    let Some(kdata) = kdata else { return };
    let (mut expect, mut link) = place.map_or((0, None), |reg| (reg.expect, reg.link));
    v.cookie(&mut expect);
    v.link(&mut link);
    let mut slot = place.map_or(0, |reg| reg.slot);
    byte(v, 2, &mut slot);
    *place = Some(Reg {
        kdata,
        expect,
        link,
        slot,
    });
}

#[inline(always)]
pub(crate) fn subsys<V: Visitor>(v: &mut V, s: &mut Subsys) {
    node(v, &mut s.tcp_next);
    node(v, &mut s.tcp_prev);
    let mut state = s.scx.state as u8;
    byte(v, 2, &mut state);
    s.scx.state = [
        ScxState::Disabled,
        ScxState::Enabling,
        ScxState::Enabled,
        ScxState::Disabling,
    ][usize::from(state)];
    let mut any = s.own != OwnState::default();
    flag(v, &mut any);
    if s.scx.state != ScxState::Disabled {
        for f in &mut s.scx.ops {
            func(v, f);
        }
        v.kdata(&mut s.scx.kdata);
        v.cookie(&mut s.scx.expect);
    }
    v.end();
    for place in &mut s.regs {
        reg(v, place);
        if place.is_none() {
            break;
        }
    }
    v.end();
    if v.hid() {
        reg(v, &mut s.hid.rdesc_ops);
        flag(v, &mut s.hid.device_data);
        v.cpus(&mut s.hid.readers);
        v.end();
    }
    if any {
        own(v, &mut s.own);
        v.end();
    }
    let cgroups = v.cgroups();
    for c in s.cgroups.iter_mut().take(cgroups) {
        cgroup(v, c);
        v.end();
    }
    let rings = v.rings();
    for r in s.rings.iter_mut().take(rings) {
        ring(v, r);
    }
    if rings > 0 {
        v.end();
    }
}

#[inline(always)]
fn ring<V: Visitor>(v: &mut V, r: &mut Ring) {
    flag(v, &mut r.there);
    if r.there {
        procs(v, &mut r.fds);
        byte(v, 3, &mut r.key);
        some_cpu(v, &mut r.lock);
        func(v, &mut r.loop_step);
    }
}

#[inline(always)]
fn own<V: Visitor>(v: &mut V, o: &mut OwnState) {
    o.locks.iter_mut().for_each(|l| some_cpu(v, l));
    o.shared.iter_mut().for_each(|s| v.cpus(s));
    o.readers.iter_mut().for_each(|r| v.cpus(r));
    byte(v, MAX_FLAGS as u32, &mut o.flags);
    byte(v, MAX_SUBSYSTEMS as u32, &mut o.torn_down);
    o.objects.iter_mut().for_each(|n| byte(v, 3, n));
    for held in &mut o.refs {
        v.kdata(held);
        if held.is_none() {
            break;
        }
    }
}

/// What is left: everything but CPUs, tables, programs, sockets and subsystems.
#[inline(always)]
pub(crate) fn rest<V: Visitor>(
    v: &mut V,
    module: &mut Module,
    locks: &mut [Option<CpuId>],
    procs: &mut [Proc; MAX_PROCS],
    alloc_failures: &mut u8,
    dead: &mut bool,
) {
    refs(v, &mut module.refs);
    flag(v, &mut module.unloaded);
    for lock in locks {
        some_cpu(v, lock);
    }
    for proc in procs {
        flag(v, &mut proc.exiting);
        flag(v, &mut proc.exited);
    }
    byte(v, 8, alloc_failures);
    flag(v, dead);
    v.end();
}

/// Sockets, subsystems and what is left.
#[inline(always)]
pub(crate) fn globals<V: Visitor>(v: &mut V, k: &mut Kernel) {
    k.socks.iter_mut().for_each(|s| sock(v, s));
    subsys(v, &mut k.subsys);
    rest(
        v,
        &mut k.module,
        &mut k.locks,
        &mut k.procs,
        &mut k.alloc_failures,
        &mut k.dead,
    );
}

/// [`globals`] for those that change nothing: copies of these fields, not of the whole state.
#[inline(always)]
pub(crate) fn read_globals<V: Visitor>(v: &mut V, k: &Kernel) {
    k.socks.iter().for_each(|s| sock(v, &mut { *s }));
    subsys(v, &mut { k.subsys });
    rest(
        v,
        &mut { k.module },
        &mut { k.locks },
        &mut { k.procs },
        &mut { k.alloc_failures },
        &mut { k.dead },
    );
}

/// Which slots somebody holds a key to.
#[derive(Default)]
struct Held {
    maps: u32,
    kdatas: u32,
    links: u32,
    images: u32,
    ksyms: u32,
}

fn mark<T>(set: &mut u32, key: Option<Key<T>>) {
    if let Some(key) = key {
        *set |= 1 << key.slot();
    }
}

impl Visitor for Held {
    fn bits(&mut self, _: u32, _: &mut u16) {}
    fn map(&mut self, key: &mut Option<MapKey>) {
        mark(&mut self.maps, *key);
    }
    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        mark(&mut self.kdatas, *key);
    }
    fn link(&mut self, key: &mut Option<LinkKey>) {
        mark(&mut self.links, *key);
    }
    fn image(&mut self, key: &mut Option<ImageKey>) {
        mark(&mut self.images, *key);
    }
    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        mark(&mut self.ksyms, *key);
    }
    fn cpu(&mut self, _: &mut u8) {}
    fn cpus(&mut self, _: &mut u8) {}
    fn cookie(&mut self, _: &mut u8) {}
    fn decl(&mut self, _: &mut u8) {}
    fn prog(&mut self, _: &mut u8) {}
}

fn live<T: Copy + Default, const N: usize>(table: &Table<T, N>, mut f: impl FnMut(&mut T)) {
    table.iter().for_each(|(_, value)| f(&mut { *value }));
}

/// Ends the quarantine of every freed slot whose key nobody holds any more.
pub(crate) fn collect_freed(k: &mut Kernel) {
    if k.in_quarantine() == 0 {
        return;
    }
    let mut held = Held::default();
    let v = &mut held;
    k.cpus.iter().for_each(|c| cpu(v, &mut { *c }));
    read_globals(v, k);
    k.progs
        .iter()
        .for_each(|p| mark(&mut v.maps, p.assoc.map()));
    live(&k.maps, |m| map(v, m));
    live(&k.kdatas, |d| kdata(v, d));
    live(&k.links, |l| link(v, l));
    live(&k.images, |i| image(v, i));
    live(&k.ksyms, |s| ksym(v, s));
    k.maps.release_but(held.maps);
    k.kdatas.release_but(held.kdatas);
    k.links.release_but(held.links);
    k.images.release_but(held.images);
    k.ksyms.release_but(held.ksyms);
}
