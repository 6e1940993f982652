//! One walk over a state's fields, shared by everything that needs all of them: packing, unpacking,
//! renaming, and the search for stale keys.
//!
//! The order here *is* the layout of a packed state. A field that is forgotten here would be forgotten by
//! the explorer; the round-trip property test is there to notice.

use crate::kernel::{
    Code, Cpu, CpuId, Deferred, Func, Image, ImageKey, Kdata, KdataKey, Kernel, Ksym, KsymKey,
    Link, LinkKey, Map, MapKey, MapState, Node, Prog, Readers, Reg, Scx, ScxState, Sock,
};
use crate::pc::Pc;
use crate::table::{Key, Slot, Table};
use crate::world::OpKind;

/// What is done with each field. Every method may also change the field (unpacking, renaming).
pub(crate) trait Visitor {
    /// A plain value.
    fn byte(&mut self, value: &mut u8);
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

#[inline(always)]
fn flag<V: Visitor>(v: &mut V, value: &mut bool) {
    let mut byte = u8::from(*value);
    v.byte(&mut byte);
    *value = byte != 0;
}

#[inline(always)]
fn wide<V: Visitor>(v: &mut V, value: &mut u16) {
    let [mut low, mut high] = value.to_le_bytes();
    v.byte(&mut low);
    v.byte(&mut high);
    *value = u16::from_le_bytes([low, high]);
}

#[inline(always)]
fn some_cpu<V: Visitor>(v: &mut V, value: &mut Option<CpuId>) {
    let mut byte = value.map_or(0, |c| c + 1);
    v.cpu(&mut byte);
    *value = byte.checked_sub(1);
}

#[inline(always)]
fn pc<V: Visitor>(v: &mut V, value: &mut Pc) {
    let mut byte = *value as u8;
    v.byte(&mut byte);
    *value = Pc::ALL[usize::from(byte)];
}

#[inline(always)]
fn deferred<V: Visitor>(v: &mut V, d: &mut Deferred) {
    v.byte(&mut d.stage);
    if d.stage > 0 {
        v.cpus(&mut d.rcu);
        v.cpus(&mut d.tasks);
        v.cpus(&mut d.trace);
    }
}

#[inline(always)]
fn func<V: Visitor>(v: &mut V, f: &mut Func) {
    v.image(&mut f.image);
    if f.image.is_some() {
        v.byte(&mut f.index);
    }
}

#[inline(always)]
fn node<V: Visitor>(v: &mut V, n: &mut Node) {
    let mut tag = match n {
        Node::Poison => 0,
        Node::Head => 1,
        Node::Of(_) => 2,
    };
    v.byte(&mut tag);
    let mut key = if let Node::Of(key) = n {
        Some(*key)
    } else {
        None
    };
    if tag == 2 {
        v.kdata(&mut key);
    }
    *n = match (tag, key) {
        (1, _) => Node::Head,
        (2, Some(key)) => Node::Of(key),
        _ => Node::Poison,
    };
}

#[inline(always)]
fn readers<V: Visitor>(v: &mut V, r: &mut Readers) {
    v.byte(&mut r.rcu);
    v.byte(&mut r.trace);
    flag(v, &mut r.tasks);
}

#[inline(always)]
fn op<V: Visitor>(v: &mut V, value: &mut OpKind) {
    let mut byte = *value as u8;
    v.byte(&mut byte);
    *value = if byte == 0 {
        OpKind::None
    } else {
        OpKind::NAMES[usize::from(byte) - 1].0
    };
}

/// A CPU; one in user space has nothing but its position in the plan.
#[inline(always)]
pub(crate) fn cpu<V: Visitor>(v: &mut V, c: &mut Cpu) {
    v.byte(&mut c.position);
    pc(v, &mut c.pc);
    if c.pc == Pc::Idle {
        return;
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
    if c.op == OpKind::MapCreate {
        v.decl(&mut c.arg);
    } else if c.op == OpKind::TestRun || c.pc == Pc::ProgRelease {
        let mut prog = c.arg + 1;
        v.prog(&mut prog);
        c.arg = prog - 1;
    } else {
        v.byte(&mut c.arg);
    }
    v.byte(&mut c.member);
    let mut err = c.err as u8;
    v.byte(&mut err);
    c.err = err as i8;
    v.cookie(&mut c.cookie);
    v.cookie(&mut c.expect);
    v.cookie(&mut c.run_ctx);
    v.prog(&mut c.prog);
    v.byte(&mut c.holds);
    v.byte(&mut c.dirty);
    wide(v, &mut c.seen);
    readers(v, &mut c.readers);
    deferred(v, &mut c.wait);
}

#[inline(always)]
pub(crate) fn map<V: Visitor>(v: &mut V, m: &mut Map) {
    v.decl(&mut m.decl);
    let mut state = m.state as u8;
    v.byte(&mut state);
    m.state = MapState::ALL[usize::from(state)];
    some_cpu(v, &mut m.lock);
    v.byte(&mut m.refs);
    v.byte(&mut m.fds);
    v.byte(&mut m.filled);
    for cookie in &mut m.link_cookies {
        v.cookie(cookie);
    }
    v.kdata(&mut m.kdata);
    deferred(v, &mut m.free);
}

#[inline(always)]
pub(crate) fn kdata<V: Visitor>(v: &mut V, d: &mut Kdata) {
    v.map(&mut d.map);
    v.decl(&mut d.decl);
    flag(v, &mut d.attachment);
    v.byte(&mut d.refs);
    for f in &mut d.func {
        func(v, f);
    }
    for k in &mut d.ksyms {
        v.ksym(k);
    }
    for page in &mut d.pages {
        v.image(page);
        if page.is_none() {
            break;
        }
    }
    node(v, &mut d.next);
    node(v, &mut d.prev);
    v.cookie(&mut d.expect);
    v.byte(&mut d.registered);
    deferred(v, &mut d.free);
}

#[inline(always)]
pub(crate) fn link<V: Visitor>(v: &mut V, l: &mut Link) {
    v.byte(&mut l.name);
    v.cookie(&mut l.cookie);
    v.map(&mut l.map);
    v.kdata(&mut l.attachment);
    v.byte(&mut l.refs);
    v.byte(&mut l.fds);
    flag(v, &mut l.pinned);
}

#[inline(always)]
pub(crate) fn image<V: Visitor>(v: &mut V, i: &mut Image) {
    flag(v, &mut i.protected);
    wide(v, &mut i.fill);
    for Code { prog, cookie } in &mut i.code {
        v.prog(prog);
        v.cookie(cookie);
    }
}

#[inline(always)]
pub(crate) fn ksym<V: Visitor>(v: &mut V, k: &mut Ksym) {
    func(v, &mut k.func);
    flag(v, &mut k.listed);
}

#[inline(always)]
pub(crate) fn prog<V: Visitor>(v: &mut V, p: &mut Prog) {
    v.byte(&mut p.refs);
    v.byte(&mut p.fds);
    flag(v, &mut p.freed);
    deferred(v, &mut p.free);
}

/// Everything but CPUs, tables and programs.
#[inline(always)]
pub(crate) fn globals<V: Visitor>(v: &mut V, k: &mut Kernel) {
    for Sock {
        kdata,
        expect,
        busy,
        fds,
    } in &mut k.socks
    {
        v.kdata(kdata);
        if kdata.is_some() {
            v.cookie(expect);
            some_cpu(v, busy);
            v.byte(fds);
        }
    }
    node(v, &mut k.subsys.tcp_next);
    node(v, &mut k.subsys.tcp_prev);
    let Scx {
        state,
        ops,
        kdata,
        expect,
    } = &mut k.subsys.scx;
    let mut byte = *state as u8;
    v.byte(&mut byte);
    *state = [
        ScxState::Disabled,
        ScxState::Enabling,
        ScxState::Enabled,
        ScxState::Disabling,
    ][usize::from(byte)];
    if *state != ScxState::Disabled {
        ops.iter_mut().for_each(|f| func(v, f));
        v.kdata(kdata);
        v.cookie(expect);
    }
    for Reg {
        kdata,
        expect,
        link,
    } in &mut k.subsys.regs
    {
        v.kdata(kdata);
        if kdata.is_none() {
            break;
        }
        v.cookie(expect);
        v.link(link);
    }
    some_cpu(v, &mut k.subsys.st_ops_mutex);
    v.byte(&mut k.module.refs);
    flag(v, &mut k.module.unloaded);
    some_cpu(v, &mut k.update_mutex);
    for proc in &mut k.procs {
        flag(v, &mut proc.exiting);
        flag(v, &mut proc.exited);
    }
    v.byte(&mut k.alloc_failures);
    flag(v, &mut k.dead);
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
    fn byte(&mut self, _: &mut u8) {}
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

fn live<T: Copy, const N: usize>(table: &mut Table<T, N>, mut f: impl FnMut(&mut T)) {
    for slot in &mut table.slots {
        if let Slot::Live(value) = slot {
            f(value);
        }
    }
}

fn has_freed<T, const N: usize>(table: &Table<T, N>) -> bool {
    table.freed > 0
}

fn release<T: Copy, const N: usize>(table: &mut Table<T, N>, held: u32) {
    if !has_freed(table) {
        return;
    }
    for slot in 0..N {
        if held & (1 << slot) == 0 {
            table.release(Key::new(slot));
        }
    }
}

/// Ends the quarantine of every freed slot whose key nobody holds any more.
pub(crate) fn collect_freed(k: &mut Kernel) {
    let any = has_freed(&k.maps)
        || has_freed(&k.kdatas)
        || has_freed(&k.links)
        || has_freed(&k.images)
        || has_freed(&k.ksyms);
    if !any {
        return;
    }
    let mut held = Held::default();
    let v = &mut held;
    k.cpus.iter_mut().for_each(|c| cpu(v, c));
    globals(v, k);
    live(&mut k.maps, |m| map(v, m));
    live(&mut k.kdatas, |d| kdata(v, d));
    live(&mut k.links, |l| link(v, l));
    live(&mut k.images, |i| image(v, i));
    live(&mut k.ksyms, |s| ksym(v, s));
    release(&mut k.maps, held.maps);
    release(&mut k.kdatas, held.kdatas);
    release(&mut k.links, held.links);
    release(&mut k.images, held.images);
    release(&mut k.ksyms, held.ksyms);
}
