//! What objects look like to whom their names mean nothing: numbers that are equal where nothing tells two apart.
//!
//! A look that leaves out a field costs states, and hides none: what looks alike is tried in every order, or keeps its own.

use crate::kernel::{Cpu, Image, Kdata, KdataKey, Kernel, Map};
use crate::pc::Pc;

pub(super) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |h, w| {
        let x = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^ (x >> 29)
    })
}

pub(super) fn look_image(i: &Image) -> u64 {
    let used = i.code.iter().filter(|c| c.prog != 0).count() as u64;
    used | u64::from(i.protected) << 8 | u64::from(i.fill) << 16
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
    let free = m.free.rcu.count_ones() + 8 * m.free.tasks.count_ones();
    mix(&[
        m.state as u64
            | u64::from(m.refs) << 8
            | u64::from(m.fds) << 16
            | u64::from(m.filled) << 24
            | u64::from(m.pinned) << 32
            | (m.more.count() as u64) << 40,
        u64::from(m.lock.is_some()) | (m.free.stage as u64) << 8 | u64::from(free) << 16,
        m.kdata
            .and_then(|d| k.kdatas.get(d))
            .map_or(0, |d| look_kdata(k, d)),
        look_cookies(k, &m.link_cookies, m.kdata),
    ])
}

pub(super) fn look_kdata(k: &Kernel, d: &Kdata) -> u64 {
    let free =
        d.free.rcu.count_ones() + 8 * d.free.tasks.count_ones() + 64 * d.free.trace.count_ones();
    let pages = d
        .pages
        .iter()
        .flatten()
        .filter_map(|p| k.images.get(*p))
        .map(look_image);
    let functions = d
        .func
        .iter()
        .map(|f| u64::from(f.image.is_some()))
        .sum::<u64>();
    mix(&[
        u64::from(d.refs)
            | u64::from(d.registered) << 8
            | u64::from(d.attachment) << 16
            | functions << 24,
        (d.free.stage as u64) | u64::from(free) << 8,
        pages.fold(0, |h, p| mix(&[h, p])),
        d.func.iter().zip(d.ksyms).fold(0, |h, (f, s)| {
            let dangling = f.image.is_some_and(|i| k.images.get(i).is_none());
            let ksym = s.map_or(0, |s| {
                k.ksyms.get(s).map_or(1, |s| {
                    2 + u64::from(s.listed)
                        + 2 * u64::from(s.func == *f)
                        + 4 * u64::from(s.func.image.is_some())
                })
            });
            h << 5 | u64::from(dangling) << 4 | ksym
        }),
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
    let some = some.iter().fold(0, |h, b| h << 1 | u64::from(*b));
    mix(&[
        c.pc as u64
            | (c.op as u64) << 8
            | (c.ret as u64) << 16
            | (c.call_ret as u64) << 24
            | u64::from(c.position) << 32
            | u64::from(c.member) << 40
            | u64::from(c.holds.bits()) << 48
            | u64::from(c.dirty.bits()) << 56,
        u64::from(c.seen.bits())
            | u64::from(c.err as u8) << 16
            | some << 24
            | u64::from(c.readers.rcu) << 32
            | u64::from(c.readers.trace) << 40
            | u64::from(c.readers.tasks) << 48
            | (c.wait.stage as u64) << 56,
        c.map
            .and_then(|m| k.maps.get(m))
            .map_or(0, |m| look_map(k, m)),
        c.link.and_then(|l| k.links.get(l)).map_or(0, |l| {
            u64::from(l.refs)
                | u64::from(l.fds) << 8
                | u64::from(l.pinned) << 16
                | u64::from(l.map.is_some()) << 17
        }),
    ])
}
