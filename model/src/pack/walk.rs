//! Names for slots, cookies and declarations, in the order in which a walk from the CPUs meets them.
//!
//! Not here: the order of the CPUs themselves (`order`), and how an object looks to whom nothing has led (`look`).

use super::Packing;
use super::look::{look_cookies, look_image, look_kdata, look_map, mix};
use super::names::{Kind, MAX_COOKIES, NONE, Names, identity};
use crate::kernel::{
    Image, ImageKey, Kdata, KdataKey, Kernel, Ksym, KsymKey, Link, LinkKey, Map, MapKey,
};
use crate::table::{Key, Table};
use crate::visit::{self, Visit, Visitor};
use crate::world::{LINK_SLOTS, MAP_SLOTS, MAX_CPUS, MAX_IMAGES, MAX_KDATAS, MAX_KSYMS};

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
            decls: self.decl_names,
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
            counts: [0; Kind::Prog as usize],
            cookies: 1,
            decls: 0,
            queue: [(Kind::Map, 0); QUEUE],
            queued: 0,
        };
        for old in order.iter().take(self.cpus) {
            { k.cpus[usize::from(*old)] }.visit(&mut walk);
        }
        visit::read_globals(&mut walk, k);
        // Where nobody asks, no program leads to anything.
        if self.parts.asks {
            let progs = k.progs.iter().take(self.progs);
            progs.for_each(|prog| { *prog }.visit(&mut walk));
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
    /// How many of each kind have been met.
    counts: [u8; Kind::Prog as usize],
    cookies: u8,
    /// Names of declarations that are given, one bit each.
    decls: u8,
    queue: [(Kind, u8); QUEUE],
    queued: usize,
}

impl Walk<'_> {
    fn meet<T>(&mut self, kind: Kind, key: Option<Key<T>>) {
        let Some(key) = key else { return };
        let slot = key.slot();
        let name = match kind {
            Kind::Map => &mut self.names.maps[slot],
            Kind::Kdata => &mut self.names.kdatas[slot],
            Kind::Link => &mut self.names.links[slot],
            Kind::Image => &mut self.names.images[slot],
            _ => &mut self.names.ksyms[slot],
        };
        if *name == NONE {
            let count = &mut self.counts[kind as usize];
            *name = *count;
            *count += 1;
            self.queue[self.queued] = (kind, slot as u8);
            self.queued += 1;
        }
    }

    /// Meets what an object points to.
    #[inline(always)]
    fn visit(&mut self, k: &Kernel, kind: Kind, slot: usize) {
        #[inline(always)]
        fn object<T: Visit + Copy + Default, const N: usize>(
            walk: &mut Walk<'_>,
            table: &Table<T, N>,
            slot: usize,
        ) {
            if let Some(value) = table.get(Key::new(slot)) {
                { *value }.visit(walk);
            }
        }
        match kind {
            Kind::Map => object(self, &k.maps, slot),
            Kind::Kdata => object(self, &k.kdatas, slot),
            Kind::Link => object(self, &k.links, slot),
            Kind::Image => object(self, &k.images, slot),
            _ => object(self, &k.ksyms, slot),
        }
    }

    #[inline]
    fn name_decl(&mut self, d: usize) {
        if self.names.decls[d] == NONE {
            self.name_new_decl(d);
        }
    }

    fn name_new_decl(&mut self, d: usize) {
        let class = self.packing.decl_class[d];
        let classes = self.packing.decl_class.iter().enumerate();
        let mut alike = classes.filter(|(_, c)| **c == class).map(|(e, _)| e);
        let free = alike
            .find(|e| self.decls & 1 << e == 0)
            .expect("a class has as many names as members");
        self.names.decls[d] = free as u8;
        self.decls |= 1 << free;
        let progs = &self.packing.decl_progs;
        for (old, new) in progs[d].iter().zip(progs[free]) {
            if let (Some(old), Some(new)) = (old, new) {
                self.names.progs[usize::from(*old)] = new;
            }
        }
    }

    /// Meets one more thing that only an fd, a pin or nobody holds. `false` when there is none.
    #[inline(always)]
    fn next_root(&mut self, k: &Kernel) -> bool {
        macro_rules! least {
            ($table:ident, $kind:ident, $look:expr) => {{
                let mut unmet = k
                    .$table
                    .iter()
                    .filter(|(key, _)| self.names.$table[key.slot()] == NONE);
                if let Some(first) = unmet.next() {
                    // One alone is the least, whatever it looks like.
                    let key = match unmet.next() {
                        None => first.0,
                        Some(second) => {
                            let all = [first, second].into_iter().chain(unmet);
                            let looks = all.map(|(key, o)| ($look(o), key));
                            let least = looks.min_by_key(|l| (l.0, l.1.slot()));
                            least.expect("there are two").1
                        }
                    };
                    self.meet(Kind::$kind, Some(key));
                    return true;
                }
            }};
        }
        least!(links, Link, |l: &Link| {
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
        least!(maps, Map, |m: &Map| mix(&[
            u64::from(match self.names.decls[usize::from(m.decl)] {
                NONE => 100 + self.packing.decl_class[usize::from(m.decl)],
                name => name,
            }),
            look_map(k, m),
        ]));
        least!(kdatas, Kdata, |d: &Kdata| look_kdata(k, d));
        least!(ksyms, Ksym, |s: &Ksym| {
            mix(&[
                s.func
                    .image
                    .map_or(0, |i| u64::from(self.names.images[i.slot()]) + 1),
                u64::from(s.func.index) | u64::from(s.listed) << 8,
            ])
        });
        least!(images, Image, |i: &Image| look_image(i));
        false
    }
}

impl Visitor for Walk<'_> {
    fn bits(&mut self, _: &mut u16, _: u32) {}
    #[inline]
    fn asks(&self) -> bool {
        self.packing.parts.asks
    }
    #[inline]
    fn many_fds(&self) -> bool {
        false
    }
    #[inline]
    fn cgroups(&self) -> usize {
        self.packing.parts.cgroups
    }
    #[inline]
    fn rings(&self) -> usize {
        self.packing.parts.rings
    }
    #[inline]
    fn hid(&self) -> bool {
        self.packing.parts.hid
    }
    #[inline]
    fn map(&mut self, key: &mut Option<MapKey>) {
        self.meet(Kind::Map, *key);
    }
    #[inline]
    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        self.meet(Kind::Kdata, *key);
    }
    #[inline]
    fn link(&mut self, key: &mut Option<LinkKey>) {
        self.meet(Kind::Link, *key);
    }
    #[inline]
    fn image(&mut self, key: &mut Option<ImageKey>) {
        self.meet(Kind::Image, *key);
    }
    #[inline]
    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        self.meet(Kind::Ksym, *key);
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
