//! How much memory the process may still take, so that it stops by itself before the kernel kills it or an allocation
//! fails.
//!
//! Stands for what would end it: the limits of its control groups (versions 1 and 2), the limit of its address space
//! (`ulimit -v`), the memory of the machine, and `--max-memory`. Where the system does not say, a limit is not there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tables below this size are allocated without asking: what is kept in reserve is more.
const SMALL: u64 = 1 << 20;

/// What a thread takes: of the address space a stack and an arena of the allocator, of memory what it works with.
const THREAD_MAPPED: u64 = 72 << 20;
const THREAD: u64 = 4 << 20;

/// What leaves no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// `--max-memory`.
    Given,
    /// The limit of the address space.
    AddressSpace,
    /// The limit of a control group.
    Group,
    /// The memory of the machine.
    Machine,
    /// An allocation failed, whatever the limits say.
    Allocation,
}

impl Scarce {
    /// Each.
    pub const ALL: [Scarce; 5] = [
        Scarce::Given,
        Scarce::AddressSpace,
        Scarce::Group,
        Scarce::Machine,
        Scarce::Allocation,
    ];

    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            Scarce::Given => "--max-memory was reached",
            Scarce::AddressSpace => "the address space is almost used up (ulimit -v)",
            Scarce::Group => "the memory of the control group is almost used up",
            Scarce::Machine => "the memory of the machine is almost used up",
            Scarce::Allocation => "an allocation failed",
        }
    }
}

/// A limit, and how to learn what counts against it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Limit {
    /// `--max-memory`: resident memory of the process.
    Resident(u64),
    /// `RLIMIT_AS`: everything that is mapped.
    Mapped(u64),
    /// A control group: what its files say is in use, file pages that can be dropped apart.
    Group {
        limit: u64,
        usage: PathBuf,
        stat: PathBuf,
    },
    /// `MemAvailable` of the machine, and its `MemTotal`.
    Machine(u64),
}

impl Limit {
    /// The limit itself, in bytes.
    fn bytes(&self) -> u64 {
        match self {
            Limit::Resident(limit)
            | Limit::Mapped(limit)
            | Limit::Group { limit, .. }
            | Limit::Machine(limit) => *limit,
        }
    }

    /// What is not in use and not kept in reserve.
    fn left(&self) -> Option<u64> {
        Some(self.free()?.saturating_sub(self.reserve()))
    }

    fn scarce(&self) -> Scarce {
        match self {
            Limit::Resident(_) => Scarce::Given,
            Limit::Mapped(_) => Scarce::AddressSpace,
            Limit::Group { .. } => Scarce::Group,
            Limit::Machine(_) => Scarce::Machine,
        }
    }

    /// Kept back for what is allocated without asking: blocks of the frontier, traces, results.
    fn reserve(&self) -> u64 {
        match self {
            // Nobody dies of exceeding it.
            Limit::Resident(limit) => (limit / 32).min(64 << 20),
            other => (other.bytes() / 16).clamp(24 << 20, 512 << 20),
        }
    }

    /// What is not in use; `None` if that cannot be learned.
    fn free(&self) -> Option<u64> {
        let memory = || memory_stats::memory_stats();
        let used = match self {
            Limit::Resident(_) => memory()?.physical_mem as u64,
            Limit::Mapped(_) => memory()?.virtual_mem as u64,
            Limit::Group { usage, stat, .. } => {
                let droppable = std::fs::read_to_string(stat).ok().and_then(|text| {
                    field(&text, "total_inactive_file").or_else(|| field(&text, "inactive_file"))
                });
                number(usage)?.saturating_sub(droppable.unwrap_or(0))
            }
            Limit::Machine(_) => return meminfo("MemAvailable:"),
        };
        Some(self.bytes().saturating_sub(used))
    }
}

/// The number behind a word that begins a line.
fn field(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(word)).then(|| words.next()?.parse().ok())?
    })
}

/// A file that holds one number. `max` of version 2 is none.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn meminfo(word: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(field(&text, word)? << 10)
}

/// Control groups of this process that have a limit, its own and those around it.
fn groups() -> Vec<Limit> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in text.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (mount, limit, usage) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            "memory" => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => continue,
        };
        // Inside a container the path may be that of the host: what is mounted then is the group itself.
        let inner = Path::new(mount).join(path.trim_start_matches('/'));
        for folder in inner.ancestors().take_while(|f| f.starts_with(mount)) {
            if let Some(bytes) = number(&folder.join(limit)) {
                limits.push(Limit::Group {
                    limit: bytes,
                    usage: folder.join(usage),
                    stat: folder.join("memory.stat"),
                });
            }
        }
    }
    limits
}

#[cfg(unix)]
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}

/// What may still be allocated. Several threads may ask at once.
#[derive(Debug)]
pub struct Memory {
    limits: Vec<Limit>,
    /// Bytes of the [`Room`]s that are there.
    promised: AtomicU64,
    /// Held for writing by a thread that waits until the tables that others replace are gone.
    replacing: RwLock<()>,
}

impl Memory {
    /// What the system leaves, and no more than `max` bytes of resident memory.
    pub fn new(max: Option<u64>) -> Self {
        let machine = meminfo("MemTotal:");
        let mut limits = groups();
        // The limit of a group that has none is larger than the machine.
        limits.retain(|l| machine.is_none_or(|total| l.bytes() < total));
        limits.extend(machine.map(Limit::Machine));
        limits.extend(address_space().map(Limit::Mapped));
        limits.extend(max.map(Limit::Resident));
        Memory {
            limits,
            ..Memory::endless()
        }
    }

    /// No limit at all.
    pub const fn endless() -> Self {
        Memory {
            limits: Vec::new(),
            promised: AtomicU64::new(0),
            replacing: RwLock::new(()),
        }
    }

    /// Bytes that can still be allocated, what is kept in reserve apart, and what says so; `None` if nothing does.
    fn left(&self) -> Option<(u64, Scarce)> {
        let left = self.limits.iter();
        let left = left.filter_map(|limit| Some((limit.left()?, limit.scarce())));
        left.min_by_key(|(left, _)| *left)
    }

    /// Whether nothing is left but what is kept in reserve, and why.
    pub fn scarce(&self) -> Option<Scarce> {
        self.left().filter(|(left, _)| *left == 0).map(|l| l.1)
    }

    /// How many of the threads that are asked for there is room for: at least one.
    pub fn threads(&self, asked: usize) -> usize {
        let more = self.limits.iter().filter_map(|limit| {
            let each = match limit {
                Limit::Mapped(_) => THREAD_MAPPED,
                _ => THREAD,
            };
            Some(limit.left()? / each)
        });
        let more = more.min().and_then(|n| usize::try_from(n).ok());
        asked.min(more.unwrap_or(usize::MAX).saturating_add(1))
    }

    /// Room for a table of so many bytes that replaces another one, for as long as both are there.
    ///
    /// # Errors
    /// What leaves no room.
    pub fn room(&self, bytes: usize) -> Result<Room<'_>, Scarce> {
        let bytes = bytes as u64;
        if bytes < SMALL {
            return Ok(Room {
                memory: self,
                bytes: 0,
                _turn: Turn::None,
            });
        }
        let together = Turn::Together(read(&self.replacing));
        // What others replace at this moment goes when they are done.
        self.promise(bytes, together)
            .or_else(|_| self.promise(bytes, Turn::Alone(write(&self.replacing))))
    }

    fn promise<'a>(&'a self, bytes: u64, turn: Turn<'a>) -> Result<Room<'a>, Scarce> {
        let promised = self.promised.fetch_add(bytes, Relaxed) + bytes;
        let room = Room {
            memory: self,
            bytes,
            _turn: turn,
        };
        match self.left() {
            Some((left, scarce)) if left < promised => Err(scarce),
            _ => Ok(room),
        }
    }
}

/// Memory that is about to be allocated, or was: to be dropped when what it replaces is gone.
#[derive(Debug)]
pub struct Room<'a> {
    memory: &'a Memory,
    bytes: u64,
    _turn: Turn<'a>,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.memory.promised.fetch_sub(self.bytes, Relaxed);
    }
}

#[derive(Debug)]
enum Turn<'a> {
    None,
    Together(#[allow(dead_code)] RwLockReadGuard<'a, ()>),
    Alone(#[allow(dead_code)] RwLockWriteGuard<'a, ()>),
}

fn read(lock: &RwLock<()>) -> RwLockReadGuard<'_, ()> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(lock: &RwLock<()>) -> RwLockWriteGuard<'_, ()> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_until_it_is_used_up() {
        let bounded = Memory::new(Some(1));
        assert_eq!(bounded.scarce(), Some(Scarce::Given));
        assert_eq!(bounded.room(SMALL as usize).err(), Some(Scarce::Given));
        assert!(bounded.room(SMALL as usize - 1).is_ok());
        assert_eq!(bounded.threads(64), 1);

        let endless = Memory::endless();
        assert_eq!(endless.scarce(), None);
        assert_eq!(endless.threads(64), 64);
        let room = endless.room(1 << 40).unwrap();
        assert_eq!(endless.promised.load(Relaxed), 1 << 40);
        drop(room);
        assert_eq!(endless.promised.load(Relaxed), 0);
    }

    #[test]
    fn what_is_promised_is_not_promised_twice() {
        let memory = Memory::new(Some(1 << 50));
        memory.promised.store(1 << 50, Relaxed);
        assert!(memory.room(SMALL as usize).is_err());
    }

    #[test]
    fn numbers_of_files_are_read() {
        let text = "inactive_file 5\ntotal_inactive_file 12\nMemTotal:  7 kB\n";
        assert_eq!(field(text, "total_inactive_file"), Some(12));
        assert_eq!(field(text, "MemTotal:"), Some(7));
        assert_eq!(field(text, "file"), None);
        assert_eq!(number(Path::new("/no/such/file")), None);
    }
}
