//! Fields as bits of words: what writes them, under whichever names, and what reads them back.
//!
//! Not here: which fields there are and how wide they are ([`crate::visit`]), and which names are chosen.

use super::Parts;
use super::names::{Kind, MAX_COOKIES, Naming};
use crate::kernel::{ImageKey, KdataKey, KsymKey, LinkKey, MapKey};
use crate::table::{Key, Slots, Table, members};
use crate::visit::{ARG, Visit, Visitor};
use crate::world::{
    LINK_SLOTS, MAP_SLOTS, MAX_CGROUPS, MAX_CPUS, MAX_IMAGES, MAX_KDATAS, MAX_KSYMS, MAX_PROGS,
    MAX_RINGS,
};

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
const DECL: u32 = ARG;
const PROG: u32 = ARG;

/// More words than any state has: three for a CPU and two for its walk, three for a kdata, one for every other object.
pub(super) const WORDS: usize = 5 * MAX_CPUS
    + MAX_CGROUPS
    + MAX_RINGS
    + MAP_SLOTS
    + 3 * MAX_KDATAS
    + LINK_SLOTS
    + MAX_IMAGES
    + MAX_KSYMS
    + MAX_PROGS
    + 9;

/// Collects a state's fields in words. A field never crosses from one word into the next.
///
/// The words are borrowed, so that everything else is in registers, and where a field lies in its word is
/// known to the compiler, if everything that moves them is inlined: they are on the way of every field.
pub(super) struct Writer<'a, N> {
    pub(super) names: &'a N,
    pub(super) words: &'a mut [u64; WORDS],
    pub(super) len: usize,
    pub(super) word: u64,
    pub(super) used: u32,
    /// What did not fit into its field.
    pub(super) lost: u16,
    pub(super) parts: Parts,
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
    pub(super) fn flush(&mut self) {
        self.words[self.len] = self.word;
        self.len += 1;
        self.word = 0;
        self.used = 0;
    }

    /// # Panics
    /// If a field is too narrow for its value: to lose a bit would merge two states silently.
    pub(super) fn append_to(self, out: &mut Vec<u8>) {
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
    fn bits(&mut self, value: &mut u16, width: u32) {
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
    fn hid(&self) -> bool {
        self.parts.hid
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
pub(super) fn write_slots<M: Naming, T: Copy + Default, const N: usize>(
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
pub(super) fn write_objects<M: Naming, T: Visit + Copy + Default, const N: usize>(
    w: &mut Writer<'_, M>,
    table: &Table<T, N>,
    kind: Kind,
) {
    if M::AS_IS {
        return table.iter().for_each(|(_, value)| { *value }.visit(w));
    }
    let mut objects = [None; N];
    let mut names: Slots = 0;
    for (key, value) in table.iter() {
        let name = w.names.name(kind, key.slot() as u8);
        objects[usize::from(name)] = Some(value);
        names |= 1 << name;
    }
    for value in members(names).filter_map(|name| objects[name]) {
        { *value }.visit(w);
    }
}

/// Gives the fields back.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    word: u64,
    used: u32,
    parts: Parts,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], parts: Parts) -> Self {
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
    fn bits(&mut self, value: &mut u16, width: u32) {
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
    fn hid(&self) -> bool {
        self.parts.hid
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
pub(super) fn read_slots<T: Copy + Default, const N: usize>(r: &mut Reader<'_>) -> Table<T, N> {
    let live = r.take(N as u32);
    let freed = r.take(N as u32);
    Table::with_slots(live as Slots, freed as Slots)
}

#[inline(always)]
pub(super) fn read_objects<T: Visit + Copy + Default, const N: usize>(
    r: &mut Reader<'_>,
    table: &mut Table<T, N>,
) {
    table.values_mut().for_each(|value| value.visit(r));
}
