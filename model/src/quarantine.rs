//! Which freed slots somebody still holds a key to: those stay recognisable, as memory in KASAN's quarantine does.

use crate::kernel::{ImageKey, KdataKey, Kernel, KsymKey, LinkKey, MapKey};
use crate::table::{Key, Table};
use crate::visit::{self, Visit, Visitor};

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
    fn bits(&mut self, _: &mut u16, _: u32) {}
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

fn live<T: Visit + Copy + Default, const N: usize>(held: &mut Held, table: &Table<T, N>) {
    table.iter().for_each(|(_, value)| { *value }.visit(held));
}

/// Ends the quarantine of every freed slot whose key nobody holds any more.
pub(crate) fn collect_freed(k: &mut Kernel) {
    if k.in_quarantine() == 0 {
        return;
    }
    let mut held = Held::default();
    let v = &mut held;
    k.cpus.iter().for_each(|c| { *c }.visit(v));
    visit::read_globals(v, k);
    k.progs
        .iter()
        .for_each(|p| mark(&mut v.maps, p.assoc.map()));
    live(v, &k.maps);
    live(v, &k.kdatas);
    live(v, &k.links);
    live(v, &k.images);
    live(v, &k.ksyms);
    k.maps.release_but(held.maps);
    k.kdatas.release_but(held.kdatas);
    k.links.release_but(held.links);
    k.images.release_but(held.images);
    k.ksyms.release_but(held.ksyms);
}
