//! Names for slots, cookies and declarations, in the order in which a walk from the CPUs meets them.
//!
//! Not here: the order of the CPUs themselves (`order`), and how an object looks to whom nothing has led (`look`).

use super::Packing;
use super::look::{look_cookies, look_image, look_kdata, look_map, mix};
use super::names::{MAX_COOKIES, NONE, Names, identity};
use crate::kernel::{
    Image, ImageKey, Kdata, KdataKey, Kernel, Ksym, KsymKey, Link, LinkKey, Map, MapKey,
};
use crate::table::{Key, Table};
use crate::visit::{self, Visitor};
use crate::world::{LINK_SLOTS, MAP_SLOTS, MAX_CPUS, MAX_IMAGES, MAX_KDATAS, MAX_KSYMS, MAX_PROGS};

impl Packing {
    /// Names in the order in which the walk meets things.
    pub(super) fn names(&self, k: &Kernel, order: &[u8; MAX_CPUS]) -> Names {
        let mut names = Names {
            cpus: [NONE; MAX_CPUS],
            maps: [NONE; MAP_SLOTS],
            kdatas: [NONE; MAX_KDATAS],
            links: [NONE; LINK_SLOTS],
            images: [NONE; MAX_IMAGES],
            ksyms: [NONE; MAX_KSYMS],
            cookies: [NONE; MAX_COOKIES],
            decls: [NONE; MAX_PROGS],
            progs: identity(),
        };
        for (new, old) in order.iter().enumerate() {
            names.cpus[usize::from(*old)] = new as u8;
        }
        names.cookies[0] = 0;
        if !self.free_cookies {
            names.cookies = identity();
        }
        let mut walk = Walk {
            packing: self,
            names,
            counts: [0; 5],
            cookies: 1,
            queue: [(0, 0); QUEUE],
            queued: 0,
        };
        for old in order.iter().take(self.cpus) {
            visit::cpu(&mut walk, &mut { k.cpus[usize::from(*old)] });
        }
        visit::read_globals(&mut walk, k);
        if self.parts.asks {
            for prog in &k.progs {
                walk.meet(0, prog.assoc.map());
            }
        }
        let mut done = 0;
        loop {
            while done < walk.queued {
                let (kind, slot) = walk.queue[done];
                done += 1;
                walk.visit(k, kind, usize::from(slot));
            }
            if !walk.next_root(k) {
                break;
            }
        }
        for d in 0..self.decl_class.len() {
            walk.name_decl(d);
        }
        let mut names = walk.names;
        // Names of what is not there are not looked at, but must not be NONE where an index is expected.
        for cookie in names.cookies.iter_mut().filter(|c| **c == NONE) {
            *cookie = 0;
        }
        names
    }
}

const QUEUE: usize = MAP_SLOTS + MAX_KDATAS + LINK_SLOTS + MAX_IMAGES + MAX_KSYMS;

/// The walk that meets everything and gives it names.
struct Walk<'a> {
    packing: &'a Packing,
    names: Names,
    counts: [u8; 5],
    cookies: u8,
    queue: [(u8, u8); QUEUE],
    queued: usize,
}

impl Walk<'_> {
    fn meet<T>(&mut self, kind: u8, key: Option<Key<T>>) {
        let Some(key) = key else { return };
        let slot = key.slot();
        let name = match kind {
            0 => &mut self.names.maps[slot],
            1 => &mut self.names.kdatas[slot],
            2 => &mut self.names.links[slot],
            3 => &mut self.names.images[slot],
            _ => &mut self.names.ksyms[slot],
        };
        if *name == NONE {
            let count = &mut self.counts[usize::from(kind)];
            *name = *count;
            *count += 1;
            self.queue[self.queued] = (kind, slot as u8);
            self.queued += 1;
        }
    }

    /// Meets what an object points to.
    fn visit(&mut self, k: &Kernel, kind: u8, slot: usize) {
        fn object<'a, T: Copy + Default, const N: usize>(
            walk: &mut Walk<'a>,
            table: &Table<T, N>,
            slot: usize,
            visit: impl Fn(&mut Walk<'a>, &mut T),
        ) {
            if let Some(value) = table.get(Key::new(slot)) {
                visit(walk, &mut { *value });
            }
        }
        match kind {
            0 => object(self, &k.maps, slot, visit::map),
            1 => object(self, &k.kdatas, slot, visit::kdata),
            2 => object(self, &k.links, slot, visit::link),
            3 => object(self, &k.images, slot, visit::image),
            _ => object(self, &k.ksyms, slot, visit::ksym),
        }
    }

    fn name_decl(&mut self, d: usize) {
        if self.names.decls[d] != NONE {
            return;
        }
        let class = self.packing.decl_class[d];
        let free = (0..self.names.decls.len())
            .find(|e| {
                self.packing.decl_class[*e] == class && !self.names.decls.contains(&(*e as u8))
            })
            .expect("a class has as many names as members");
        self.names.decls[d] = free as u8;
        for (old, new) in self.packing.decl_progs[d]
            .iter()
            .zip(self.packing.decl_progs[free])
        {
            if let (Some(old), Some(new)) = (old, new) {
                self.names.progs[usize::from(*old)] = new;
            }
        }
    }

    /// Meets one more thing that only an fd, a pin or nobody holds. `false` when there is none.
    fn next_root(&mut self, k: &Kernel) -> bool {
        macro_rules! least {
            ($table:ident, $kind:literal, $look:expr) => {{
                let unmet = k
                    .$table
                    .iter()
                    .filter(|(key, _)| self.names.$table[key.slot()] == NONE);
                if let Some((_, key)) = unmet
                    .map(|(key, o)| ($look(o), key))
                    .min_by_key(|l| (l.0, l.1.slot()))
                {
                    self.meet($kind, Some(key));
                    return true;
                }
            }};
        }
        least!(links, 2, |l: &Link| {
            let map = l.map.map_or(0, |m| match self.names.maps[m.slot()] {
                NONE => k.maps.get(m).map_or(1, |m| look_map(k, m)),
                name => u64::from(name) + 2,
            });
            mix(&[
                u64::from(l.name),
                u64::from(l.refs)
                    | u64::from(l.fds) << 8
                    | u64::from(l.pinned) << 16
                    | (l.more.count() as u64) << 18,
                u64::from(self.names.cookies[usize::from(l.cookie)]),
                map,
                l.attachment
                    .and_then(|a| k.kdatas.get(a))
                    .map_or(0, |a| look_kdata(k, a)),
                look_cookies(
                    k,
                    &[l.cookie],
                    l.attachment.or(l.map.and_then(|m| k.maps.get(m)?.kdata)),
                ),
            ])
        });
        least!(maps, 0, |m: &Map| mix(&[
            u64::from(match self.names.decls[usize::from(m.decl)] {
                NONE => 100 + self.packing.decl_class[usize::from(m.decl)],
                name => name,
            }),
            look_map(k, m),
        ]));
        least!(kdatas, 1, |d: &Kdata| look_kdata(k, d));
        least!(ksyms, 4, |s: &Ksym| {
            mix(&[
                s.func
                    .image
                    .map_or(0, |i| u64::from(self.names.images[i.slot()]) + 1),
                u64::from(s.func.index) | u64::from(s.listed) << 8,
            ])
        });
        least!(images, 3, |i: &Image| look_image(i));
        false
    }
}

impl Visitor for Walk<'_> {
    fn bits(&mut self, _: u32, _: &mut u16) {}
    #[inline]
    fn asks(&self) -> bool {
        self.packing.parts.asks
    }
    #[inline]
    fn map(&mut self, key: &mut Option<MapKey>) {
        self.meet(0, *key);
    }
    #[inline]
    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        self.meet(1, *key);
    }
    #[inline]
    fn link(&mut self, key: &mut Option<LinkKey>) {
        self.meet(2, *key);
    }
    #[inline]
    fn image(&mut self, key: &mut Option<ImageKey>) {
        self.meet(3, *key);
    }
    #[inline]
    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        self.meet(4, *key);
    }
    #[inline]
    fn cpu(&mut self, _: &mut u8) {}
    #[inline]
    fn cpus(&mut self, _: &mut u8) {}
    #[inline]
    fn cookie(&mut self, value: &mut u8) {
        let name = &mut self.names.cookies[usize::from(*value)];
        if *name == NONE {
            *name = self.cookies;
            self.cookies += 1;
        }
    }
    #[inline]
    fn decl(&mut self, value: &mut u8) {
        self.name_decl(usize::from(*value));
    }
    #[inline]
    fn prog(&mut self, value: &mut u8) {
        if let Some(prog) = value.checked_sub(1) {
            let decl = self.packing.prog_decl[usize::from(prog)];
            if decl != NONE {
                self.name_decl(usize::from(decl));
            }
        }
    }
}
