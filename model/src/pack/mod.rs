//! Packed states: a short byte string per state, equal if and only if the states are.
//!
//! [`Packing::pack`] writes a state as it is, or the representative of its symmetry class: CPUs that do
//! the same, slots of every table, interchangeable maps and cookies are renamed in the order in which a
//! fixed walk meets them. Renaming is always faithful; where two orders look alike to the walk, a class may
//! keep two representatives, which costs states but hides none.

use crate::kernel::{Cpu, ImageKey, Kdata, KdataKey, Kernel, KsymKey, LinkKey, Map, MapKey};
use crate::pc::Pc;
use crate::table::{Key, Slots, Table, members};
use crate::visit::{self, Visitor};
use crate::world::{
    LINK_SLOTS, MAP_SLOTS, MAX_CGROUPS, MAX_CPUS, MAX_IMAGES, MAX_KDATAS, MAX_KSYMS, MAX_MEMBERS,
    MAX_PROGS, MAX_RINGS, Plan, World,
};

const NONE: u8 = u8::MAX;
const MAX_COOKIES: usize = 16;

/// New numbers for old ones, and what a walk has met so far.
#[derive(Clone)]
struct Names {
    cpus: [u8; MAX_CPUS],
    maps: [u8; MAP_SLOTS],
    kdatas: [u8; MAX_KDATAS],
    links: [u8; LINK_SLOTS],
    images: [u8; MAX_IMAGES],
    ksyms: [u8; MAX_KSYMS],
    cookies: [u8; MAX_COOKIES],
    decls: [u8; MAX_PROGS],
    progs: [u8; MAX_PROGS],
}

fn identity<const N: usize>() -> [u8; N] {
    std::array::from_fn(|i| i as u8)
}

/// What has a name.
#[derive(Clone, Copy)]
enum Kind {
    Cpu,
    Map,
    Kdata,
    Link,
    Image,
    Ksym,
    Cookie,
    Decl,
    Prog,
}

/// The name under which something is written.
trait Naming {
    /// Nothing is renamed.
    const AS_IS: bool;

    fn name(&self, kind: Kind, old: u8) -> u8;
}

/// Everything keeps its name.
struct AsIs;

impl Naming for AsIs {
    const AS_IS: bool = true;

    #[inline(always)]
    fn name(&self, _: Kind, old: u8) -> u8 {
        old
    }
}

impl Naming for Names {
    const AS_IS: bool = false;

    #[inline(always)]
    fn name(&self, kind: Kind, old: u8) -> u8 {
        let old = usize::from(old);
        match kind {
            Kind::Cpu => self.cpus[old],
            Kind::Map => self.maps[old],
            Kind::Kdata => self.kdatas[old],
            Kind::Link => self.links[old],
            Kind::Image => self.images[old],
            Kind::Ksym => self.ksyms[old],
            Kind::Cookie => self.cookies[old],
            Kind::Decl => self.decls[old],
            Kind::Prog => self.progs[old],
        }
    }
}

/// How states of one world are packed.
#[derive(Clone, Debug)]
pub struct Packing {
    cpus: usize,
    progs: usize,
    symmetry: bool,
    /// CPUs with equal numbers do the same.
    cpu_class: [u8; MAX_CPUS],
    /// Cookies other than 0 are interchangeable.
    free_cookies: bool,
    /// Map declarations with equal numbers are interchangeable.
    decl_class: [u8; MAX_PROGS],
    /// Program of each member of each declaration.
    decl_progs: [[Option<u8>; MAX_MEMBERS]; MAX_PROGS],
    /// Declaration of each program (`NONE` if shared or unused).
    prog_decl: [u8; MAX_PROGS],
    parts: Parts,
}

/// What the states of a world have that those of others have not.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// See [`World::many_fds`].
    many_fds: bool,
    /// See [`World::asks`].
    asks: bool,
    /// How many cgroups there are.
    cgroups: usize,
    /// How many rings there may be.
    rings: usize,
}

impl Packing {
    /// For states of `world`; with `symmetry`, one representative per symmetry class.
    pub fn new(world: &World, symmetry: bool) -> Self {
        let free = world
            .cpus
            .iter()
            .all(|c| matches!(c.plan, Plan::Free { .. }));
        let cpu_class = std::array::from_fn(|i| {
            let class = world.cpus.iter().position(|c| Some(c) == world.cpus.get(i));
            class.unwrap_or(i) as u8
        });
        let mut prog_decl = [NONE; MAX_PROGS];
        let mut shared = false;
        for (d, decl) in world.maps.iter().enumerate() {
            for prog in decl.progs.iter().flatten() {
                shared |= prog_decl[usize::from(*prog)] != NONE;
                prog_decl[usize::from(*prog)] = d as u8;
            }
        }
        let alike = |a: usize, b: usize| {
            let (a, b) = (&world.maps[a], &world.maps[b]);
            (a.ty, a.link, a.key, a.owner_set) == (b.ty, b.link, b.key, b.owner_set)
                && a.progs.iter().zip(&b.progs).all(|(p, q)| match (p, q) {
                    (Some(p), Some(q)) => {
                        world.progs[usize::from(*p)].body == world.progs[usize::from(*q)].body
                    }
                    (None, None) => true,
                    _ => false,
                })
        };
        let decl_class = std::array::from_fn(|d| {
            // Operations on programs are among the rare ones, whose operands keep their numbers.
            if !free || shared || world.asks() || d >= world.maps.len() {
                return d as u8;
            }
            (0..=d).find(|e| alike(*e, d)).unwrap_or(d) as u8
        });
        let decl_progs = std::array::from_fn(|d| {
            let progs = world.maps.get(d).map(|m| m.progs.as_slice());
            std::array::from_fn(|i| progs.and_then(|p| p.get(i).copied().flatten()))
        });
        Packing {
            cpus: world.tasks(),
            progs: world.progs.len(),
            symmetry,
            cpu_class,
            free_cookies: free,
            decl_class,
            decl_progs,
            prog_decl,
            parts: Parts {
                many_fds: world.many_fds(),
                asks: world.asks(),
                cgroups: world.cgroups.len(),
                rings: if world.has_rings() { MAX_RINGS } else { 0 },
            },
        }
    }

    /// Appends the packed state to `out`.
    pub fn pack(&self, k: &Kernel, out: &mut Vec<u8>) {
        let start = out.len();
        if !self.symmetry {
            self.write(k, &AsIs, &identity(), out);
            return;
        }
        let (order, groups) = self.cpu_order(k);
        self.write(k, &self.names(k, &order), &order, out);
        if groups.iter().any(|g| g.1 > 1) {
            let mut other = Vec::with_capacity(out.len() - start);
            permutations(&order, &groups, &mut |order| {
                other.clear();
                self.write(k, &self.names(k, order), order, &mut other);
                if other[..] < out[start..] {
                    out.truncate(start);
                    out.extend_from_slice(&other);
                }
            });
        }
    }

    /// The state that `bytes` stand for.
    ///
    /// # Panics
    /// If `bytes` were not written by [`Packing::pack`] for the same world.
    pub fn unpack(&self, bytes: &[u8]) -> Kernel {
        let mut reader = Reader::new(bytes, self.parts);
        let r = &mut reader;
        let mut k = Kernel {
            maps: read_slots(r),
            kdatas: read_slots(r),
            links: read_slots(r),
            images: read_slots(r),
            ksyms: read_slots(r),
            ..Kernel::default()
        };
        r.end();
        for cpu in k.cpus.iter_mut().take(self.cpus) {
            visit::cpu(r, cpu);
        }
        visit::globals(r, &mut k);
        read_objects(r, &mut k.maps, visit::map);
        read_objects(r, &mut k.kdatas, visit::kdata);
        read_objects(r, &mut k.links, visit::link);
        read_objects(r, &mut k.images, visit::image);
        read_objects(r, &mut k.ksyms, visit::ksym);
        for prog in k.progs.iter_mut().take(self.progs) {
            visit::prog(r, prog);
        }
        k
    }

    fn write(&self, k: &Kernel, names: &impl Naming, order: &[u8; MAX_CPUS], out: &mut Vec<u8>) {
        let mut words = [0; WORDS];
        let mut w = Writer {
            names,
            words: &mut words,
            len: 0,
            word: 0,
            used: 0,
            lost: 0,
            parts: self.parts,
        };
        write_slots(&mut w, &k.maps, Kind::Map);
        write_slots(&mut w, &k.kdatas, Kind::Kdata);
        write_slots(&mut w, &k.links, Kind::Link);
        write_slots(&mut w, &k.images, Kind::Image);
        write_slots(&mut w, &k.ksyms, Kind::Ksym);
        w.flush();
        for old in order.iter().take(self.cpus) {
            visit::cpu(&mut w, &mut { k.cpus[usize::from(*old)] });
        }
        visit::read_globals(&mut w, k);
        write_objects(&mut w, &k.maps, Kind::Map, visit::map);
        write_objects(&mut w, &k.kdatas, Kind::Kdata, visit::kdata);
        write_objects(&mut w, &k.links, Kind::Link, visit::link);
        write_objects(&mut w, &k.images, Kind::Image, visit::image);
        write_objects(&mut w, &k.ksyms, Kind::Ksym, visit::ksym);
        let mut progs = [0; MAX_PROGS];
        for old in 0..self.progs {
            progs[usize::from(names.name(Kind::Prog, old as u8))] = old;
        }
        for old in progs.into_iter().take(self.progs) {
            visit::prog(&mut w, &mut { k.progs[old] });
        }
        w.flush();
        w.append_to(out);
    }

    /// CPUs sorted by what they do; groups `(start, length)` of those that the sort cannot tell apart.
    fn cpu_order(&self, k: &Kernel) -> ([u8; MAX_CPUS], Vec<(usize, usize)>) {
        // Asked only where there is something to tell apart, and once.
        let shared = |i: usize| {
            let class = self.cpu_class[i];
            self.cpu_class[..self.cpus]
                .iter()
                .filter(|c| **c == class)
                .count()
                > 1
        };
        let looks: [u64; MAX_CPUS] = std::array::from_fn(|i| {
            if i < self.cpus && shared(i) {
                look(k, &k.cpus[i])
            } else {
                0
            }
        });
        let mut keys: [(u8, u64, u8); MAX_CPUS] =
            std::array::from_fn(|i| (self.cpu_class[i], looks[i], i as u8));
        // Within a class only: a class's positions are those of its members.
        keys[..self.cpus].sort_unstable();
        let mut order = identity();
        let mut taken = [false; MAX_CPUS];
        for (i, place) in order.iter_mut().enumerate().take(self.cpus) {
            let class = self.cpu_class[i];
            let next = (0..self.cpus)
                .find(|j| !taken[*j] && keys[*j].0 == class)
                .expect("as many as positions");
            taken[next] = true;
            *place = keys[next].2;
        }
        let mut groups = Vec::new();
        let alike = |a: u8, b: u8| {
            let (a, b) = (usize::from(a), usize::from(b));
            self.cpu_class[a] == self.cpu_class[b]
                && k.cpus[a].pc != Pc::Idle
                && looks[a] == looks[b]
        };
        let mut start = 0;
        while start < self.cpus {
            let mut len = 1;
            while start + len < self.cpus && alike(order[start], order[start + len]) {
                len += 1;
            }
            if len > 1 {
                groups.push((start, len));
            }
            start += len;
        }
        (order, groups)
    }

    /// Names in the order in which the walk meets things.
    fn names(&self, k: &Kernel, order: &[u8; MAX_CPUS]) -> Names {
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
        least!(links, 2, |l: &crate::kernel::Link| {
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
        least!(ksyms, 4, |s: &crate::kernel::Ksym| {
            mix(&[
                s.func
                    .image
                    .map_or(0, |i| u64::from(self.names.images[i.slot()]) + 1),
                u64::from(s.func.index) | u64::from(s.listed) << 8,
            ])
        });
        least!(images, 3, |i: &crate::kernel::Image| look_image(i));
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

// ---- what things look like without names ----------------------------------------------------------

fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |h, w| {
        let x = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^ (x >> 29)
    })
}

fn look_image(i: &crate::kernel::Image) -> u64 {
    let used = i.code.iter().filter(|c| c.prog != 0).count() as u64;
    used | u64::from(i.protected) << 8 | u64::from(i.fill) << 16
}

/// Which of these cookies, and of those in the trampolines of a kdata, are equal.
fn look_cookies(k: &Kernel, first: &[u8], kdata: Option<KdataKey>) -> u64 {
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

fn look_map(k: &Kernel, m: &Map) -> u64 {
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

fn look_kdata(k: &Kernel, d: &Kdata) -> u64 {
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

fn look(k: &Kernel, c: &Cpu) -> u64 {
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

fn permutations(
    order: &[u8; MAX_CPUS],
    groups: &[(usize, usize)],
    f: &mut impl FnMut(&[u8; MAX_CPUS]),
) {
    fn go(
        order: &mut [u8; MAX_CPUS],
        groups: &[(usize, usize)],
        at: usize,
        f: &mut impl FnMut(&[u8; MAX_CPUS]),
    ) {
        let Some(((start, len), rest)) = groups.split_first() else {
            return f(order);
        };
        if at + 1 >= *len {
            return go(order, rest, 0, f);
        }
        for i in at..*len {
            order.swap(start + at, start + i);
            go(order, groups, at + 1, f);
            order.swap(start + at, start + i);
        }
    }
    go(&mut order.clone(), groups, 0, f);
}

// ---- bits ----------------------------------------------------------------------------------------

/// Bits of a pointer into a table of `slots`; 0 is NULL.
const fn key_bits(slots: usize) -> u32 {
    usize::BITS - slots.leading_zeros()
}

const MAP: u32 = key_bits(MAP_SLOTS);
const KDATA: u32 = key_bits(MAX_KDATAS);
const LINK: u32 = key_bits(LINK_SLOTS);
const IMAGE: u32 = key_bits(MAX_IMAGES);
const KSYM: u32 = key_bits(MAX_KSYMS);
const CPU: u32 = key_bits(MAX_CPUS);
const CPUS: u32 = MAX_CPUS as u32;
const COOKIE: u32 = key_bits(MAX_COOKIES - 1);
const DECL: u32 = visit::ARG;
const PROG: u32 = visit::ARG;

/// More words than any state has: three for a CPU and two for its walk, three for a kdata, one for every other object.
const WORDS: usize = 5 * MAX_CPUS
    + MAX_CGROUPS
    + MAX_RINGS
    + MAP_SLOTS
    + 3 * MAX_KDATAS
    + LINK_SLOTS
    + MAX_IMAGES
    + MAX_KSYMS
    + MAX_PROGS
    + 8;

/// Collects a state's fields in words. A field never crosses from one word into the next.
///
/// The words are borrowed, so that everything else is in registers, and where a field lies in its word is
/// known to the compiler, if everything that moves them is inlined: they are on the way of every field.
struct Writer<'a, N> {
    names: &'a N,
    words: &'a mut [u64; WORDS],
    len: usize,
    word: u64,
    used: u32,
    /// What did not fit into its field.
    lost: u16,
    parts: Parts,
}

impl<N: Naming> Writer<'_, N> {
    #[inline(always)]
    fn put(&mut self, width: u32, value: u64) {
        if self.used + width > u64::BITS {
            self.flush();
        }
        self.word |= value << self.used;
        self.used += width;
    }

    #[inline(always)]
    fn flush(&mut self) {
        self.words[self.len] = self.word;
        self.len += 1;
        self.word = 0;
        self.used = 0;
    }

    /// # Panics
    /// If a field is too narrow for its value: to lose a bit would merge two states silently.
    fn append_to(self, out: &mut Vec<u8>) {
        assert_eq!(self.lost, 0, "a field of the packed state is too narrow");
        let start = out.len();
        out.resize(start + 8 * self.len, 0);
        for (bytes, word) in out[start..].chunks_exact_mut(8).zip(self.words.iter()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    #[inline(always)]
    fn name(&mut self, width: u32, kind: Kind, old: u8) {
        self.put(width, u64::from(self.names.name(kind, old)));
    }

    /// A name, or 0 for none.
    #[inline(always)]
    fn some(&mut self, width: u32, kind: Kind, old: Option<u8>) {
        let name = old.map_or(0, |old| self.names.name(kind, old) + 1);
        self.put(width, u64::from(name));
    }

    #[inline(always)]
    fn key<T>(&mut self, width: u32, kind: Kind, key: &Option<Key<T>>) {
        self.some(width, kind, key.map(|k| k.slot() as u8));
    }
}

impl<N: Naming> Visitor for Writer<'_, N> {
    #[inline(always)]
    fn bits(&mut self, width: u32, value: &mut u16) {
        self.lost |= *value >> width;
        self.put(width, u64::from(*value));
    }
    #[inline(always)]
    fn end(&mut self) {
        self.flush();
    }
    #[inline(always)]
    fn many_fds(&self) -> bool {
        self.parts.many_fds
    }
    #[inline]
    fn asks(&self) -> bool {
        self.parts.asks
    }
    #[inline(always)]
    fn cgroups(&self) -> usize {
        self.parts.cgroups
    }
    #[inline(always)]
    fn rings(&self) -> usize {
        self.parts.rings
    }
    #[inline(always)]
    fn map(&mut self, key: &mut Option<MapKey>) {
        self.key(MAP, Kind::Map, key);
    }
    #[inline(always)]
    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        self.key(KDATA, Kind::Kdata, key);
    }
    #[inline(always)]
    fn link(&mut self, key: &mut Option<LinkKey>) {
        self.key(LINK, Kind::Link, key);
    }
    #[inline(always)]
    fn image(&mut self, key: &mut Option<ImageKey>) {
        self.key(IMAGE, Kind::Image, key);
    }
    #[inline(always)]
    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        self.key(KSYM, Kind::Ksym, key);
    }
    #[inline(always)]
    fn cpu(&mut self, value: &mut u8) {
        self.some(CPU, Kind::Cpu, value.checked_sub(1));
    }
    #[inline(always)]
    fn cpus(&mut self, mask: &mut u8) {
        let mut new = 0;
        if *mask != 0 {
            for cpu in (0..MAX_CPUS as u8).filter(|c| *mask & (1 << c) != 0) {
                new |= 1 << self.names.name(Kind::Cpu, cpu);
            }
        }
        self.put(CPUS, new);
    }
    #[inline(always)]
    fn cookie(&mut self, value: &mut u8) {
        self.name(COOKIE, Kind::Cookie, *value);
    }
    #[inline(always)]
    fn decl(&mut self, value: &mut u8) {
        self.name(DECL, Kind::Decl, *value);
    }
    #[inline(always)]
    fn prog(&mut self, value: &mut u8) {
        self.some(PROG, Kind::Prog, value.checked_sub(1));
    }
}

/// Which slots are live and which are freed, by their names.
#[inline(always)]
fn write_slots<M: Naming, T: Copy + Default, const N: usize>(
    w: &mut Writer<'_, M>,
    table: &Table<T, N>,
    kind: Kind,
) {
    let named = |set: Slots| {
        if M::AS_IS {
            return u64::from(set);
        }
        members(set).fold(0, |new, slot| new | 1 << w.names.name(kind, slot as u8))
    };
    let (live, freed) = (named(table.live()), named(table.freed()));
    w.put(N as u32, live);
    w.put(N as u32, freed);
}

/// The live objects in the order of their names.
#[inline(always)]
fn write_objects<'a, M: Naming, T: Copy + Default, const N: usize>(
    w: &mut Writer<'a, M>,
    table: &Table<T, N>,
    kind: Kind,
    object: impl Fn(&mut Writer<'a, M>, &mut T),
) {
    if M::AS_IS {
        return table
            .iter()
            .for_each(|(_, value)| object(w, &mut { *value }));
    }
    let mut objects = [None; N];
    let mut names: Slots = 0;
    for (key, value) in table.iter() {
        let name = w.names.name(kind, key.slot() as u8);
        objects[usize::from(name)] = Some(value);
        names |= 1 << name;
    }
    for value in members(names).filter_map(|name| objects[name]) {
        object(w, &mut { *value });
    }
}

/// Gives the fields back.
struct Reader<'a> {
    bytes: &'a [u8],
    word: u64,
    used: u32,
    parts: Parts,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], parts: Parts) -> Self {
        let mut reader = Reader {
            bytes,
            word: 0,
            used: 0,
            parts,
        };
        reader.load();
        reader
    }

    #[inline(always)]
    fn load(&mut self) {
        // The word after the last one is never read from.
        let (word, rest) = self.bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.word = u64::from_le_bytes(*word);
        self.bytes = rest;
        self.used = 0;
    }

    #[inline(always)]
    fn take(&mut self, width: u32) -> u64 {
        if self.used + width > u64::BITS {
            self.load();
        }
        let value = self.word >> self.used & ((1 << width) - 1);
        self.used += width;
        value
    }

    #[inline(always)]
    fn key<T>(&mut self, width: u32, key: &mut Option<Key<T>>) {
        *key = self
            .take(width)
            .checked_sub(1)
            .map(|slot| Key::new(slot as usize));
    }
}

impl Visitor for Reader<'_> {
    #[inline(always)]
    fn bits(&mut self, width: u32, value: &mut u16) {
        *value = self.take(width) as u16;
    }
    #[inline(always)]
    fn end(&mut self) {
        self.load();
    }
    #[inline(always)]
    fn many_fds(&self) -> bool {
        self.parts.many_fds
    }
    #[inline]
    fn asks(&self) -> bool {
        self.parts.asks
    }
    #[inline(always)]
    fn cgroups(&self) -> usize {
        self.parts.cgroups
    }
    #[inline(always)]
    fn rings(&self) -> usize {
        self.parts.rings
    }
    #[inline(always)]
    fn map(&mut self, key: &mut Option<MapKey>) {
        self.key(MAP, key);
    }
    #[inline(always)]
    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        self.key(KDATA, key);
    }
    #[inline(always)]
    fn link(&mut self, key: &mut Option<LinkKey>) {
        self.key(LINK, key);
    }
    #[inline(always)]
    fn image(&mut self, key: &mut Option<ImageKey>) {
        self.key(IMAGE, key);
    }
    #[inline(always)]
    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        self.key(KSYM, key);
    }
    #[inline(always)]
    fn cpu(&mut self, value: &mut u8) {
        *value = self.take(CPU) as u8;
    }
    #[inline(always)]
    fn cpus(&mut self, mask: &mut u8) {
        *mask = self.take(CPUS) as u8;
    }
    #[inline(always)]
    fn cookie(&mut self, value: &mut u8) {
        *value = self.take(COOKIE) as u8;
    }
    #[inline(always)]
    fn decl(&mut self, value: &mut u8) {
        *value = self.take(DECL) as u8;
    }
    #[inline(always)]
    fn prog(&mut self, value: &mut u8) {
        *value = self.take(PROG) as u8;
    }
}

/// Vacant, freed or live with nothing in it yet.
#[inline(always)]
fn read_slots<T: Copy + Default, const N: usize>(r: &mut Reader<'_>) -> Table<T, N> {
    let live = r.take(N as u32);
    let freed = r.take(N as u32);
    Table::with_slots(live as Slots, freed as Slots)
}

#[inline(always)]
fn read_objects<'a, T: Copy + Default, const N: usize>(
    r: &mut Reader<'a>,
    table: &mut Table<T, N>,
    object: impl Fn(&mut Reader<'a>, &mut T),
) {
    table.values_mut().for_each(|value| object(r, value));
}
