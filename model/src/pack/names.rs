//! The names under which a state is written: those that its objects have, or others.
//!
//! Not here: which others (`order` for CPUs, `walk` for all else).

use crate::world::{LINK_SLOTS, MAP_SLOTS, MAX_CPUS, MAX_IMAGES, MAX_KDATAS, MAX_KSYMS, MAX_PROGS};

pub(super) const NONE: u8 = u8::MAX;

pub(super) const MAX_COOKIES: usize = 16;

/// New numbers for old ones, and what a walk has met so far.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) cpus: [u8; MAX_CPUS],
    pub(super) maps: [u8; MAP_SLOTS],
    pub(super) kdatas: [u8; MAX_KDATAS],
    pub(super) links: [u8; LINK_SLOTS],
    pub(super) images: [u8; MAX_IMAGES],
    pub(super) ksyms: [u8; MAX_KSYMS],
    pub(super) cookies: [u8; MAX_COOKIES],
    pub(super) decls: [u8; MAX_PROGS],
    pub(super) progs: [u8; MAX_PROGS],
}

pub(super) fn identity<const N: usize>() -> [u8; N] {
    std::array::from_fn(|i| i as u8)
}

/// What has a name.
#[derive(Clone, Copy)]
pub(super) enum Kind {
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
pub(super) trait Naming {
    /// Nothing is renamed.
    const AS_IS: bool;

    fn name(&self, kind: Kind, old: u8) -> u8;
}

/// Everything keeps its name.
pub(super) struct AsIs;

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
