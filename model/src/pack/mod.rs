//! Packed states: a short byte string per state, equal if and only if the states are.
//!
//! [`Packing::pack`] writes a state as it is, or the representative of its symmetry class: CPUs that do
//! the same, slots of every table, interchangeable maps and cookies are renamed in the order in which a
//! fixed walk meets them. Renaming is always faithful; where two orders look alike to the walk, a class may
//! keep two representatives, which costs states but hides none.

mod bits;
mod look;
mod names;
mod order;
mod walk;

use crate::kernel::Kernel;
use crate::visit::{self, Visit, Visitor};
use crate::world::{MAX_CPUS, MAX_MEMBERS, MAX_PROGS, MAX_RINGS, Plan, World};
use bits::{Reader, WORDS, Writer, read_objects, read_slots, write_objects, write_slots};
use names::{AsIs, Kind, NONE, Naming, identity};
use order::permutations;

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
    /// The names of map declarations: their own where they are like no other, else `NONE`.
    decl_names: [u8; MAX_PROGS],
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
    /// There is a HID device.
    hid: bool,
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
        let decl_class: [u8; MAX_PROGS] = std::array::from_fn(|d| {
            // Operations on programs are among the rare ones, whose operands keep their numbers.
            if !free || shared || world.asks() || d >= world.maps.len() {
                return d as u8;
            }
            (0..=d).find(|e| alike(*e, d)).unwrap_or(d) as u8
        });
        let decl_names = std::array::from_fn(|d| {
            let mut others = decl_class.iter().enumerate().filter(|(e, _)| *e != d);
            let alike = others.any(|(_, class)| *class == decl_class[d]);
            if alike { NONE } else { d as u8 }
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
            decl_names,
            decl_progs,
            prog_decl,
            parts: Parts {
                many_fds: world.many_fds(),
                asks: world.asks(),
                cgroups: world.cgroups.len(),
                rings: if world.has_rings() { MAX_RINGS } else { 0 },
                hid: world.has_hid_device(),
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
            cpu.visit(r);
        }
        visit::globals(r, &mut k);
        read_objects(r, &mut k.maps);
        read_objects(r, &mut k.kdatas);
        read_objects(r, &mut k.links);
        read_objects(r, &mut k.images);
        read_objects(r, &mut k.ksyms);
        for prog in k.progs.iter_mut().take(self.progs) {
            prog.visit(r);
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
            { k.cpus[usize::from(*old)] }.visit(&mut w);
        }
        visit::read_globals(&mut w, k);
        write_objects(&mut w, &k.maps, Kind::Map);
        write_objects(&mut w, &k.kdatas, Kind::Kdata);
        write_objects(&mut w, &k.links, Kind::Link);
        write_objects(&mut w, &k.images, Kind::Image);
        write_objects(&mut w, &k.ksyms, Kind::Ksym);
        let mut progs = [0; MAX_PROGS];
        for old in 0..self.progs {
            progs[usize::from(names.name(Kind::Prog, old as u8))] = old;
        }
        for old in progs.into_iter().take(self.progs) {
            { k.progs[old] }.visit(&mut w);
        }
        w.flush();
        w.append_to(out);
    }
}
