//! Fixed-size tables with slab keys: what `kmalloc` hands out and takes back.
//!
//! Keys are reused, as the `slab` crate reuses them, but a freed slot stays recognisable: it is
//! quarantined (as KASAN does) until nobody holds its key any more. Not `slab` itself: a state of the
//! explorer is copied millions of times a second, and heap tables would cost more than the step.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU8;

/// A pointer to an object of type `T`. One byte, also inside an `Option`.
pub struct Key<T>(NonZeroU8, PhantomData<fn() -> T>);

impl<T> Key<T> {
    /// The key of a slot.
    ///
    /// # Panics
    /// If `slot` is 255 or more, which no table has.
    pub fn new(slot: usize) -> Self {
        let raw = u8::try_from(slot + 1).expect("tables have fewer than 255 slots");
        Key(NonZeroU8::new(raw).expect("slot + 1 is not 0"), PhantomData)
    }

    /// The slot.
    #[inline]
    pub fn slot(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Key<T> {}
impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.slot())
    }
}

/// A set of slots, one bit each.
pub(crate) type Slots = u32;

/// At most `N` objects. A slot without one holds the default value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<T, const N: usize> {
    slots: [T; N],
    /// Slots with an object.
    live: Slots,
    /// Slots in quarantine: freed, but a stale key is still around.
    freed: Slots,
}

impl<T: Copy + Default, const N: usize> Default for Table<T, N> {
    fn default() -> Self {
        Table {
            slots: [T::default(); N],
            live: 0,
            freed: 0,
        }
    }
}

/// Slots without an object are equal in equal tables: they need no hashing.
impl<T: std::hash::Hash + Copy + Default, const N: usize> std::hash::Hash for Table<T, N> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.live, self.freed).hash(state);
        self.iter().for_each(|(_, value)| value.hash(state));
    }
}

/// Every slot is taken: a bound of the model, not of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The members of a set, lowest first.
#[inline]
pub(crate) fn members(mut set: Slots) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = set.trailing_zeros() as usize;
        (set != 0).then(|| {
            set &= set - 1;
            slot
        })
    })
}

/// The slot of a key, whatever is in it.
impl<T, const N: usize> std::ops::Index<Key<T>> for Table<T, N> {
    type Output = T;

    #[inline]
    fn index(&self, key: Key<T>) -> &T {
        &self.slots[key.slot()]
    }
}

impl<T, const N: usize> std::ops::IndexMut<Key<T>> for Table<T, N> {
    #[inline]
    fn index_mut(&mut self, key: Key<T>) -> &mut T {
        &mut self.slots[key.slot()]
    }
}

impl<T: Copy + Default, const N: usize> Table<T, N> {
    /// A table with these live and freed slots; the objects are still to be filled in.
    pub(crate) fn with_slots(live: Slots, freed: Slots) -> Self {
        Table {
            live,
            freed,
            ..Table::default()
        }
    }

    /// Puts `value` into the lowest vacant slot.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Key<T>, Full> {
        let slot = (self.live | self.freed).trailing_ones() as usize;
        *self.slots.get_mut(slot).ok_or(Full)? = value;
        self.live |= 1 << slot;
        Ok(Key::new(slot))
    }

    /// Frees the object; its slot is reused once [`Table::release`] says that no key is left.
    pub fn remove(&mut self, key: Key<T>) {
        self.slots[key.slot()] = T::default();
        self.live &= !(1 << key.slot());
        self.freed |= 1 << key.slot();
    }

    /// Ends the quarantine of a freed slot.
    pub fn release(&mut self, key: Key<T>) {
        self.freed &= !(1 << key.slot());
    }

    /// Ends the quarantine of every slot but these.
    #[inline]
    pub(crate) fn release_but(&mut self, held: Slots) {
        self.freed &= held;
    }

    /// Slots with an object.
    #[inline]
    pub(crate) fn live(&self) -> Slots {
        self.live
    }

    /// Slots in quarantine.
    #[inline]
    pub(crate) fn freed(&self) -> Slots {
        self.freed
    }

    /// Whether the object is there: the key is not stale.
    #[inline]
    pub fn contains(&self, key: Key<T>) -> bool {
        self.live >> key.slot() & 1 != 0
    }

    /// The object, unless the key is stale.
    #[inline]
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let live = self.live >> key.slot() & 1 != 0;
        self.slots.get(key.slot()).filter(|_| live)
    }

    /// Live objects with their keys.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        members(self.live).map(|slot| (Key::new(slot), &self.slots[slot]))
    }

    /// Live objects, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let live = self.live;
        self.slots
            .iter_mut()
            .enumerate()
            .filter(move |(slot, _)| live >> slot & 1 != 0)
            .map(|(_, value)| value)
    }

    /// No live object.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Number of live objects.
    pub fn len(&self) -> usize {
        self.live.count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        /// The same operations on a `slab::Slab` beside the table: the same objects live, and a stale key
        /// finds nothing in either until its slot is handed out again.
        fn behaves_like_slab(ops: Vec<(bool, u8)>) -> bool {
            let mut table = Table::<u8, 8>::default();
            let mut slab = slab::Slab::new();
            let mut live: Vec<(Key<u8>, usize)> = Vec::new();
            for (insert, value) in ops {
                if insert && live.len() < 8 {
                    live.push((table.insert(value).unwrap(), slab.insert(value)));
                } else if !live.is_empty() {
                    let (key, slab_key) = live.swap_remove(usize::from(value) % live.len());
                    table.remove(key);
                    slab.remove(slab_key);
                    if table.get(key).is_some() || slab.contains(slab_key) {
                        return false;
                    }
                    table.release(key);
                }
                if table.len() != slab.len() || live.iter().any(|(k, s)| table.get(*k) != slab.get(*s)) {
                    return false;
                }
            }
            true
        }
    }

    #[test]
    fn a_freed_slot_is_not_reused_while_its_key_is_held() {
        let mut table = Table::<u8, 2>::default();
        let a = table.insert(1).unwrap();
        table.remove(a);
        assert_ne!(table.insert(2).unwrap(), a);
        assert_eq!(table.insert(3), Err(Full));
        table.release(a);
        assert_eq!(table.insert(3), Ok(a));
    }
}
