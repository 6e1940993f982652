//! The states seen so far, and from which one each was first reached. Split into shards, each
//! owned by one thread while it grows. Not the frontier: a state cannot be read back from here.

use std::collections::{HashMap, TryReserveError};

use crate::bounds::{Memory, Scarce};

/// Shards are picked by the high bits of the fingerprint, and their number does not depend on
/// the number of threads: the order of insertions, and so every count, is the same for any.
pub const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 4;

/// The parent of the initial state. No fingerprint and no id is 0.
pub const NO_PARENT: u64 = 0;

/// How packed states are hashed. A parameter, so that a test can plug in a bad one.
pub trait Fingerprint {
    /// The fingerprint of a packed state.
    fn hash(bytes: &[u8]) -> u64;
}

/// XXH3, 64 bits: fast on short inputs, and good enough in all its bits that 20 million states
/// collide with a probability of about 1 in 100 000.
pub struct Xxh3;

impl Fingerprint for Xxh3 {
    #[inline]
    fn hash(bytes: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64(bytes)
    }
}

/// The hash, moved away from 0, which marks an empty slot.
#[inline]
pub fn fingerprint<F: Fingerprint>(bytes: &[u8]) -> u64 {
    F::hash(bytes).max(1)
}

/// The shard of a fingerprint, and of an id.
#[inline]
pub fn shard_of(id: u64) -> usize {
    (id >> (u64::BITS - SHARD_BITS)) as usize
}

/// One shard. Every state has an id that never changes and says in which shard it is.
pub trait Visited: Default + Send + Sync {
    /// Whether an equal fingerprint means the same state.
    const BY_FINGERPRINT: bool;

    /// Reads the cache line that a lookup will need. Done for a batch in a row, the misses
    /// overlap; done one by one inside the lookups, each would be waited for.
    fn touch(&self, fingerprint: u64) -> u64;

    fn find(&self, fingerprint: u64, bytes: &[u8]) -> Option<u64>;

    /// Adds a state; its new id, or nothing if it was there, or if there is no room to grow in `memory`.
    fn insert(
        &mut self,
        fingerprint: u64,
        bytes: &[u8],
        parent: u64,
        memory: &Memory,
    ) -> Option<u64>;

    /// Why nothing can be added any more, if so.
    fn full(&self) -> Option<Scarce>;

    /// The parent of a stored state.
    fn parent(&self, id: u64) -> u64;

    fn len(&self) -> usize;

    /// Bytes really allocated.
    fn allocated(&self) -> usize;
}

/// Keys in one cache line, filled from the front; 0 is free.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; LINE]);

const LINE: usize = 8;

impl Line {
    /// All eight keys are compared, which is quicker than to guess where to stop.
    #[inline]
    fn has(&self, key: u64) -> bool {
        self.0.iter().fold(false, |found, &k| found | (k == key))
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.0[LINE - 1] != 0
    }

    fn position(&self, key: u64) -> Option<usize> {
        self.0.iter().position(|&k| k == key)
    }
}

/// States as fingerprints: the id is the fingerprint itself.
///
/// Open addressing by cache lines. A full line overflows into the other one of its pair, which
/// the processor fetches along, and then into the following pairs. The pair grows with the
/// fingerprint, so growing copies from front to back and can afford a small factor: between 70 %
/// and 84 % of the keys are in use, 19 to 23 bytes per state. Keys and parents are apart, because
/// a state already known, which is the common case, needs only its key.
pub struct Fingerprints {
    keys: Vec<Line>,
    parents: Vec<[u64; LINE]>,
    len: usize,
    full: Option<Scarce>,
}

impl Fingerprints {
    /// `lines` is even.
    fn with_lines(lines: usize) -> Result<Self, TryReserveError> {
        Ok(Fingerprints {
            keys: filled(Line::default(), lines)?,
            parents: filled([NO_PARENT; LINE], lines)?,
            len: 0,
            full: None,
        })
    }

    #[inline]
    fn home(&self, fingerprint: u64) -> usize {
        ((u128::from(fingerprint << SHARD_BITS) * self.keys.len() as u128) >> 64) as usize
    }

    /// The first line from its home on that holds the fingerprint, as `holds` says, or else
    /// that has room for it.
    #[inline]
    fn probe(&self, fingerprint: u64, holds: impl Fn(&Line) -> bool) -> Result<usize, usize> {
        let mut line = self.home(fingerprint);
        loop {
            for line in [line, line ^ 1] {
                let keys = &self.keys[line];
                if holds(keys) {
                    return Ok(line);
                }
                if !keys.is_full() {
                    return Err(line);
                }
            }
            line += 2;
            if line >= self.keys.len() {
                line &= 1;
            }
        }
    }

    #[inline]
    fn line(&self, fingerprint: u64) -> Result<usize, usize> {
        self.probe(fingerprint, |line| line.has(fingerprint))
    }

    fn grow(&mut self, memory: &Memory) -> Result<(), Scarce> {
        let lines = (self.keys.len() * 6).div_ceil(5).next_multiple_of(2);
        let _room = memory.room(lines * size_of::<(Line, [u64; LINE])>())?;
        let mut grown = Self::with_lines(lines).map_err(|_| Scarce::Allocation)?;
        for (keys, parents) in self.keys.iter().zip(&self.parents) {
            for (&key, &parent) in keys.0.iter().zip(parents).take_while(|&(&key, _)| key != 0) {
                // No key is there twice: the first line with room will do.
                let line = grown.probe(key, |_| false).unwrap_or_else(|free| free);
                grown.put(line, key, parent);
            }
        }
        *self = grown;
        Ok(())
    }

    fn put(&mut self, line: usize, key: u64, parent: u64) {
        if let Some(slot) = self.keys[line].position(0) {
            self.keys[line].0[slot] = key;
            self.parents[line][slot] = parent;
            self.len += 1;
        }
    }
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self::with_lines(2).expect("two cache lines")
    }
}

impl Visited for Fingerprints {
    const BY_FINGERPRINT: bool = true;

    #[inline]
    fn touch(&self, fingerprint: u64) -> u64 {
        let home = self.home(fingerprint);
        self.keys[home].0[0] ^ self.keys[home ^ 1].0[0]
    }

    #[inline]
    fn find(&self, fingerprint: u64, _: &[u8]) -> Option<u64> {
        self.line(fingerprint).ok().map(|_| fingerprint)
    }

    fn insert(&mut self, fingerprint: u64, _: &[u8], parent: u64, memory: &Memory) -> Option<u64> {
        let line = self.line(fingerprint).err()?;
        if self.full.is_some() {
            return None;
        }
        self.put(line, fingerprint, parent);
        if self.len * 25 > self.keys.len() * LINE * 21 {
            self.full = self.grow(memory).err();
        }
        Some(fingerprint)
    }

    fn full(&self) -> Option<Scarce> {
        self.full
    }

    fn parent(&self, id: u64) -> u64 {
        let place = self
            .line(id)
            .ok()
            .and_then(|line| Some((line, self.keys[line].position(id)?)));
        place.map_or(NO_PARENT, |(line, slot)| self.parents[line][slot])
    }

    fn len(&self) -> usize {
        self.len
    }

    fn allocated(&self) -> usize {
        self.keys.capacity() * size_of::<Line>()
            + self.parents.capacity() * size_of::<[u64; LINE]>()
    }
}

/// A vector that may not be had.
fn filled<T: Copy>(value: T, len: usize) -> Result<Vec<T>, TryReserveError> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(len)?;
    vector.resize(len, value);
    Ok(vector)
}

/// States in full, so that a weak hash cannot lose one. Slow and large: the judge of the other.
#[derive(Default)]
pub struct Exact {
    ids: HashMap<Box<[u8]>, u64>,
    parents: Vec<u64>,
    bytes: usize,
    full: Option<Scarce>,
}

impl Exact {
    /// Room for one more state.
    fn grow(&mut self, memory: &Memory) -> Result<(), Scarce> {
        let full = |_| Scarce::Allocation;
        if self.ids.len() == self.ids.capacity() {
            // One control byte per slot, and twice as many slots.
            let slot = size_of::<(Box<[u8]>, u64)>() + 1;
            let _room = memory.room(3 * slot * self.ids.capacity())?;
            self.ids.try_reserve(1).map_err(full)?;
        }
        self.parents.try_reserve(1).map_err(full)
    }
}

impl Visited for Exact {
    const BY_FINGERPRINT: bool = false;

    fn touch(&self, _: u64) -> u64 {
        0
    }

    fn find(&self, _: u64, bytes: &[u8]) -> Option<u64> {
        self.ids.get(bytes).copied()
    }

    fn insert(
        &mut self,
        fingerprint: u64,
        bytes: &[u8],
        parent: u64,
        memory: &Memory,
    ) -> Option<u64> {
        if self.ids.contains_key(bytes) || self.full.is_some() {
            return None;
        }
        self.full = self.grow(memory).err();
        if self.full.is_some() {
            return None;
        }
        self.parents.push(parent);
        let shard = (shard_of(fingerprint) as u64) << (u64::BITS - SHARD_BITS);
        let id = shard | self.parents.len() as u64;
        self.ids.insert(bytes.into(), id);
        self.bytes += bytes.len();
        Some(id)
    }

    fn parent(&self, id: u64) -> u64 {
        let index = (id << SHARD_BITS) >> SHARD_BITS;
        self.parents[index as usize - 1]
    }

    fn full(&self) -> Option<Scarce> {
        self.full
    }

    fn len(&self) -> usize {
        self.parents.len()
    }

    fn allocated(&self) -> usize {
        // One control byte per slot of the hash table.
        self.bytes
            + self.ids.capacity() * (size_of::<(Box<[u8]>, u64)>() + 1)
            + self.parents.capacity() * size_of::<u64>()
    }
}

/// All shards, once nobody writes any more.
pub struct Store<V>(pub Vec<V>);

impl<V: Visited> Store<V> {
    pub fn find(&self, fingerprint: u64, bytes: &[u8]) -> Option<u64> {
        self.0[shard_of(fingerprint)].find(fingerprint, bytes)
    }

    pub fn parent(&self, id: u64) -> u64 {
        self.0[shard_of(id)].parent(id)
    }
}
