//! Packs: 2 MiB of executable memory that many images share.
//!
//! Stands for `bpf_prog_pack_alloc()` and `bpf_prog_pack_free()` of `kernel/bpf/core.c`: pieces of 64 bytes, first fit,
//! filled with int3 where nothing is. The kernel pokes text through a mapping that only the poking CPU has; here it is
//! written through the file behind the mapping, which itself is never writable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::map::Shared;
use super::{Error, Image, Memory};

/// `BPF_PROG_PACK_SIZE` on one node.
pub const PACK_SIZE: usize = 2 << 20;

/// `BPF_PROG_CHUNK_SIZE`.
pub const CHUNK_SIZE: usize = 64;

/// What jumps into a hole must not run.
const INT3: u8 = 0xcc;

/// All packs; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Packs {
    list: Arc<Mutex<Vec<Arc<Pack>>>>,
}

#[derive(Debug)]
struct Pack {
    memory: Shared,
    /// Which chunks are in use.
    used: Mutex<Vec<bool>>,
}

impl Packs {
    /// A piece of a pack within reach of the code at `near`: packs are made as they are needed.
    pub fn alloc(&self, size: usize, near: u64) -> Result<Image, Error> {
        let mut list = lock(&self.list);
        let found = list
            .iter()
            .find_map(|pack| Some((pack.clone(), pack.take(size)?)));
        let (pack, chunk) = match found {
            Some(found) => found,
            None => {
                let memory = Shared::near(PACK_SIZE, near)?;
                memory.write(0, &vec![INT3; PACK_SIZE])?;
                let used = Mutex::new(vec![false; PACK_SIZE / CHUNK_SIZE]);
                let pack = Arc::new(Pack { memory, used });
                let chunk = pack.take(size).ok_or(Error::Full { pages: 0 })?;
                list.push(pack.clone());
                (pack, chunk)
            }
        };
        let piece = Piece { pack, chunk, size };
        Ok(Image {
            memory: Memory::Pack(piece),
            executable: false,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.list).len()
    }
}

impl Pack {
    /// `bitmap_find_next_zero_area()`, taken.
    fn take(&self, size: usize) -> Option<usize> {
        let chunks = size.div_ceil(CHUNK_SIZE);
        let mut used = lock(&self.used);
        let first = used
            .windows(chunks)
            .position(|area| !area.contains(&true))?;
        used[first..first + chunks].fill(true);
        Some(first)
    }
}

/// A piece of a pack; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Piece {
    pack: Arc<Pack>,
    chunk: usize,
    size: usize,
}

impl Piece {
    fn offset(&self) -> usize {
        self.chunk * CHUNK_SIZE
    }

    pub(super) fn addr(&self) -> u64 {
        self.pack.memory.addr() + self.offset() as u64
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Text into executable memory; the caller has checked the bounds.
    pub(super) fn poke(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.pack.memory.write(self.offset() + offset, bytes)
    }

    /// `jit_fill_hole()`.
    pub(super) fn fill_hole(&self) -> Result<(), Error> {
        self.poke(0, &vec![INT3; self.size.next_multiple_of(CHUNK_SIZE)])
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // a hole that cannot be filled is not given back
        if self.fill_hole().is_ok() {
            let chunks = self.size.div_ceil(CHUNK_SIZE);
            lock(&self.pack.used)[self.chunk..self.chunk + chunks].fill(false);
        }
    }
}

/// The tables are whole between any two statements, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
