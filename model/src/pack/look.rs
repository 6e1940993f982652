//! What objects look like to whom their names mean nothing: numbers that are equal where nothing tells two apart.
//!
//! A look that leaves out a field costs states, and hides none: what looks alike is tried in every order, or keeps its own.

use crate::kernel::{Cpu, Deferred, Image, Kdata, KdataKey, Kernel, Ksym, Map};
use crate::pc::Pc;
use crate::world::MAX_MEMBERS;

pub(super) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |h, w| {
        let x = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^ (x >> 29)
    })
}

pub(super) fn look_image(i: &Image) -> u64 {
    let used = i.code.iter().filter(|c| c.prog != 0).count() as u8;
    let [low, high] = i.fill.to_le_bytes();
    word([used, u8::from(i.protected), low, high])
}

/// Bytes side by side, so that none of them hides another one.
fn word<const N: usize>(bytes: [u8; N]) -> u64 {
    let mut all = [0; 8];
    all[..N].copy_from_slice(&bytes);
    u64::from_le_bytes(all)
}

/// Truths side by side.
fn flags<const N: usize>(truths: [bool; N]) -> u8 {
    const { assert!(N <= 8, "a byte has eight bits") };
    let push = |all: u8, truth: &bool| all << 1 | u8::from(*truth);
    truths.iter().fold(0, push)
}

/// A deferred free: what it waits for, and for how many.
fn look_free(free: &Deferred) -> u64 {
    let [rcu, tasks, trace] = [free.rcu, free.tasks, free.trace].map(|m| m.count_ones() as u8);
    word([free.stage as u8, rcu, tasks, trace])
}

/// Which of these cookies, and of those in the trampolines of a kdata, are equal.
pub(super) fn look_cookies(k: &Kernel, first: &[u8], kdata: Option<KdataKey>) -> u64 {
    let mut met = [0; 8];
    let mut count = 0;
    let mut look = 0;
    let mut see = |cookie: u8| {
        let place = if cookie == 0 {
            7
        } else {
            met[..count]
                .iter()
                .position(|c| *c == cookie)
                .unwrap_or_else(|| {
                    met[count] = cookie;
                    count += 1;
                    count - 1
                })
        };
        look = look << 3 | place as u64;
    };
    first.iter().for_each(|c| see(*c));
    if let Some(kdata) = kdata.and_then(|d| k.kdatas.get(d)) {
        see(kdata.expect);
        for func in kdata.func {
            if let Some(image) = func.image.and_then(|i| k.images.get(i)) {
                see(image.code[usize::from(func.index)].cookie);
            }
        }
    }
    look
}

pub(super) fn look_map(k: &Kernel, m: &Map) -> u64 {
    mix(&[
        word([
            m.state as u8,
            m.refs,
            m.fds,
            m.filled,
            u8::from(m.pinned),
            m.more.count() as u8,
            u8::from(m.lock.is_some()),
        ]),
        look_free(&m.free),
        m.kdata
            .and_then(|d| k.kdatas.get(d))
            .map_or(0, |d| look_kdata(k, d)),
        look_cookies(k, &m.link_cookies, m.kdata),
    ])
}

pub(super) fn look_kdata(k: &Kernel, d: &Kdata) -> u64 {
    let pages = d
        .pages
        .iter()
        .flatten()
        .filter_map(|p| k.images.get(*p))
        .map(look_image);
    let functions = d.func.iter().filter(|f| f.image.is_some()).count() as u8;
    let mut ksyms = [0; MAX_MEMBERS];
    for (look, (func, ksym)) in ksyms.iter_mut().zip(d.func.iter().zip(d.ksyms)) {
        let there = ksym.and_then(|s| k.ksyms.get(s));
        let is = |what: &dyn Fn(&Ksym) -> bool| there.is_some_and(what);
        *look = flags([
            func.image.is_some_and(|i| k.images.get(i).is_none()),
            ksym.is_some(),
            there.is_some(),
            is(&|s| s.listed),
            is(&|s| s.func == *func),
            is(&|s| s.func.image.is_some()),
        ]);
    }
    mix(&[
        word([d.refs, d.registered, u8::from(d.attachment), functions]),
        look_free(&d.free),
        pages.fold(0, |h, p| mix(&[h, p])),
        word(ksyms),
    ])
}

pub(super) fn look(k: &Kernel, c: &Cpu) -> u64 {
    if c.pc == Pc::Idle {
        return u64::from(c.position);
    }
    let some = [
        c.map.is_some(),
        c.old.is_some(),
        c.link.is_some(),
        c.kdata.is_some(),
        c.old_kdata.is_some(),
        c.attachment.is_some(),
        c.old_attachment.is_some(),
        c.func.image.is_some(),
    ];
    let [low, high] = c.seen.bits().to_le_bytes();
    mix(&[
        word([
            c.pc as u8,
            c.ret as u8,
            c.call_ret as u8,
            c.op as u8,
            c.position,
            c.member,
            c.holds.bits(),
            c.dirty.bits(),
        ]),
        word([
            low,
            high,
            c.err as u8,
            flags(some),
            c.readers.rcu,
            c.readers.trace,
            u8::from(c.readers.tasks),
            c.wait.stage as u8,
        ]),
        c.map
            .and_then(|m| k.maps.get(m))
            .map_or(0, |m| look_map(k, m)),
        c.link.and_then(|l| k.links.get(l)).map_or(0, |l| {
            word([l.refs, l.fds, u8::from(l.pinned), u8::from(l.map.is_some())])
        }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Code, Dirty, Func, Holds, Link, MapState, MoreFds, Seen, Stage};
    use crate::world::{MAX_PROCS, OpKind};

    /// A thing as it is, and with each of these changes: no two of them look alike.
    fn apart<T: Copy>(thing: T, changes: &[fn(&mut T)], look: impl Fn(&T) -> u64) {
        let mut looks = vec![look(&thing)];
        for (i, change) in changes.iter().enumerate() {
            let mut other = thing;
            change(&mut other);
            let found = look(&other);
            let same = looks.iter().position(|l| *l == found);
            assert_eq!(same, None, "change {} of {}", i + 1, changes.len());
            looks.push(found);
        }
    }

    #[test]
    fn frees_that_differ_look_different() {
        apart(
            Deferred::default(),
            &[
                |f| f.stage = Stage::Rcu,
                |f| f.stage = Stage::Tasks,
                |f| f.rcu = 1,
                |f| f.rcu = 3,
                |f| f.tasks = 1,
                |f| f.trace = 1,
                |f| (f.tasks, f.trace) = (1, 1),
            ],
            look_free,
        );
    }

    #[test]
    fn maps_that_differ_look_different() {
        let mut k = Kernel::default();
        let mut kdata = |refs| {
            let plain = Kdata::default();
            k.kdatas.insert(Kdata { refs, ..plain }).unwrap()
        };
        let (one, other) = (kdata(1), kdata(2));
        apart(
            (Map::default(), one, other),
            &[
                |m| m.0.state = MapState::Ready,
                |m| m.0.refs = 1,
                |m| m.0.refs = 2,
                |m| m.0.fds = 1,
                |m| m.0.filled = 1,
                |m| m.0.filled = 2,
                |m| m.0.pinned = true,
                |m| m.0.more = MoreFds([1; MAX_PROCS]),
                |m| m.0.lock = Some(0),
                |m| m.0.free.stage = Stage::Rcu,
                |m| m.0.kdata = Some(m.1),
                |m| m.0.kdata = Some(m.2),
                |m| m.0.link_cookies[0] = 1,
                |m| m.0.link_cookies[1] = 1,
                |m| m.0.link_cookies = [1; MAX_MEMBERS],
                |m| (0..MAX_MEMBERS).for_each(|i| m.0.link_cookies[i] = 1 + i as u8),
            ],
            |m| look_map(&k, &m.0),
        );
        // Which cookies they are means nothing, nor who holds the lock.
        let (mut ours, mut theirs) = (Map::default(), Map::default());
        (ours.link_cookies[0], ours.lock) = (1, Some(0));
        (theirs.link_cookies[0], theirs.lock) = (2, Some(1));
        assert_eq!(look_map(&k, &ours), look_map(&k, &theirs));
    }

    #[test]
    fn images_that_differ_look_different() {
        apart(
            Image::default(),
            &[
                |i| i.protected = true,
                |i| i.fill = 1,
                |i| i.fill = 256,
                |i| i.code[0].prog = 1,
                |i| i.code[..2].fill(Code { prog: 1, cookie: 0 }),
            ],
            look_image,
        );
    }

    #[test]
    fn attachments_that_differ_look_different() {
        let mut k = Kernel::default();
        let there = k.images.insert(Image::default()).unwrap();
        let gone = k.images.insert(Image::default()).unwrap();
        k.images.remove(gone);
        let [there, gone] = [there, gone].map(|image| Func {
            image: Some(image),
            index: 0,
        });
        let mut ksym = |func, listed| k.ksyms.insert(Ksym { func, listed }).unwrap();
        let ksyms = [
            ksym(Func::default(), false),
            ksym(there, false),
            ksym(there, true),
        ];
        apart(
            (Kdata::default(), there, gone, ksyms),
            &[
                |d| d.0.refs = 1,
                |d| d.0.registered = 1,
                |d| d.0.attachment = true,
                |d| d.0.free.stage = Stage::Rcu,
                |d| d.0.pages[0] = d.1.image,
                |d| d.0.func[0] = d.1,
                |d| d.0.func[0] = d.2,
                |d| d.0.func = [d.1; MAX_MEMBERS],
                |d| (d.0.func[0], d.0.ksyms[0]) = (d.1, Some(d.3[0])),
                |d| (d.0.func[0], d.0.ksyms[0]) = (d.1, Some(d.3[1])),
                |d| (d.0.func[0], d.0.ksyms[0]) = (d.1, Some(d.3[2])),
                |d| (d.0.func[0], d.0.ksyms[0]) = (d.2, Some(d.3[2])),
                |d| d.0.ksyms[0] = Some(d.3[0]),
                |d| d.0.ksyms[0] = Some(d.3[1]),
                |d| d.0.ksyms[1] = Some(d.3[2]),
            ],
            |d| look_kdata(&k, &d.0),
        );
    }

    #[test]
    fn cpus_that_differ_look_different() {
        let mut k = Kernel::default();
        let map = k.maps.insert(Map::default()).unwrap();
        let mut link = |link| k.links.insert(link).unwrap();
        let plain = Link::default();
        let links = [
            link(plain),
            link(Link { refs: 1, ..plain }),
            link(Link { fds: 1, ..plain }),
        ];
        let cpu: Cpu = Cpu {
            pc: Pc::CallRead,
            ..Cpu::default()
        };
        let kdata = k.kdatas.insert(Kdata::default()).unwrap();
        let image = k.images.insert(Image::default()).unwrap();
        apart(
            (cpu, map, links, kdata, image),
            &[
                |c| c.0.pc = Pc::CallEnter,
                |c| c.0.ret = Pc::CallEnter,
                |c| c.0.call_ret = Pc::CallEnter,
                |c| c.0.op = OpKind::LinkUpdate,
                |c| c.0.position = 1,
                |c| c.0.member = 1,
                |c| c.0.holds = Holds::MAP,
                |c| c.0.dirty = Dirty::STATE,
                |c| c.0.err = -1,
                |c| c.0.seen = Seen::INIT,
                |c| c.0.seen = Seen::NO_RING,
                |c| c.0.wait.stage = Stage::Rcu,
                |c| c.0.readers.rcu = 1,
                |c| c.0.readers.trace = 1,
                |c| c.0.readers.tasks = true,
                |c| c.0.map = Some(c.1),
                |c| c.0.old = Some(c.1),
                |c| c.0.link = Some(c.2[0]),
                |c| c.0.link = Some(c.2[1]),
                |c| c.0.link = Some(c.2[2]),
                |c| c.0.kdata = Some(c.3),
                |c| c.0.old_kdata = Some(c.3),
                |c| c.0.attachment = Some(c.3),
                |c| c.0.old_attachment = Some(c.3),
                |c| c.0.func.image = Some(c.4),
            ],
            |c| look(&k, &c.0),
        );
        // One that does nothing is told from others by what it has done alone.
        let idle: Cpu = Cpu::default();
        apart(idle, &[|c| c.position = 1, |c| c.pc = Pc::CallRead], |c| {
            look(&k, c)
        });
    }
}
