//! Maps, links, kdata and programs as the attach path holds them, and the tables that they are allocated from.
//!
//! Stands for the structs of kernel/bpf/bpf_struct_ops.c and include/linux/bpf.h. Pointers are numbers of table
//! places, so that following one to an object that is gone is seen, as KASAN sees it: what is freed stays in
//! quarantine until the runtime ends. Not here: what happens to them.

use std::sync::Arc;

use slab::Slab;
use struct_ops_model::kernel::MapState;
use struct_ops_model::world::Body;

use super::sync::Mutex;
use super::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst,
};

/// A pointer that may be NULL and that readers load without a lock.
#[derive(Debug)]
pub struct Ptr(AtomicUsize);

impl Ptr {
    pub(crate) fn null() -> Self {
        Ptr(AtomicUsize::new(0))
    }

    pub(crate) fn load(&self) -> Option<usize> {
        self.0.load(SeqCst).checked_sub(1)
    }

    pub(crate) fn store(&self, to: Option<usize>) {
        self.0.store(to.map_or(0, |n| n + 1), SeqCst);
    }
}

/// Objects of one kind. What is freed is still found, and known to be freed.
#[derive(Debug)]
pub struct Table<T> {
    slots: Mutex<Slab<Arc<T>>>,
    live: AtomicUsize,
}

/// Something that a table holds.
pub(crate) trait Allocated {
    fn freed(&self) -> &AtomicBool;
}

impl<T: Allocated> Table<T> {
    pub(crate) fn new() -> Self {
        Table {
            slots: Mutex::new(Slab::new()),
            live: AtomicUsize::new(0),
        }
    }

    pub(crate) fn insert(&self, make: impl FnOnce(usize) -> T) -> Arc<T> {
        let mut slots = self.slots.lock();
        let place = slots.vacant_entry();
        let object = Arc::new(make(place.key()));
        place.insert(object.clone());
        self.live.fetch_add(1, SeqCst);
        object
    }

    /// The object, freed or not.
    pub(crate) fn get(&self, id: usize) -> Arc<T> {
        self.slots.lock()[id].clone()
    }

    /// `kfree()`, into quarantine.
    pub(crate) fn free(&self, object: &T) {
        object.freed().store(true, SeqCst);
        self.live.fetch_sub(1, SeqCst);
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    /// The first live object, in the order of the table, that is looked for.
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let slots = self.slots.lock();
        let mut live = slots
            .iter()
            .map(|s| s.1)
            .filter(|o| !o.freed().load(SeqCst));
        live.find(|o| wanted(o)).cloned()
    }

    /// Some object has been freed: the model may have used its place again.
    pub(crate) fn reused(&self) -> bool {
        self.slots.lock().len() > self.live()
    }

    /// Live objects, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let slots = self.slots.lock();
        slots
            .iter()
            .map(|s| s.1.clone())
            .filter(|o| !o.freed().load(SeqCst))
            .collect()
    }

    /// Ends the quarantine: nobody holds a pointer.
    pub(crate) fn empty_quarantine(&self) {
        self.slots.lock().retain(|_, o| !o.freed().load(SeqCst));
    }
}

/// `struct bpf_struct_ops_map`.
#[derive(Debug)]
pub struct StMap {
    pub(crate) id: usize,
    pub(crate) decl: usize,
    pub(crate) link: bool,
    /// `kvalue.common.state`.
    state: AtomicU8,
    pub(crate) refs: AtomicI64,
    /// Processes with an fd; changed under `files`.
    pub(crate) fds: AtomicU8,
    /// `st_map->lock`, and what only its holder changes: members with a program in uvalue and `links[]`.
    pub(crate) lock: Mutex<Vec<bool>>,
    /// Cookie of each `bpf_tramp_link` in `links[]`.
    pub(crate) link_cookies: Box<[AtomicU64]>,
    /// The kvalue.
    pub(crate) kdata: Ptr,
    pub(crate) freed: AtomicBool,
}

impl StMap {
    pub(crate) fn new(id: usize, decl: usize, link: bool, members: usize, fds: u8) -> Self {
        StMap {
            id,
            decl,
            link,
            state: AtomicU8::new(MapState::Init as u8),
            refs: AtomicI64::new(1),
            fds: AtomicU8::new(fds),
            lock: Mutex::new(vec![false; members]),
            link_cookies: (0..members).map(|_| AtomicU64::new(0)).collect(),
            kdata: Ptr::null(),
            freed: AtomicBool::new(false),
        }
    }

    /// `smp_load_acquire(&kvalue.common.state)`.
    pub(crate) fn state(&self) -> MapState {
        MapState::ALL[usize::from(self.state.load(SeqCst))]
    }

    /// `smp_store_release(&kvalue.common.state)`.
    pub(crate) fn set_state(&self, to: MapState) {
        self.state.store(to as u8, SeqCst);
    }

    /// `cmpxchg(&kvalue.common.state)`: what was there.
    pub(crate) fn cmpxchg_state(&self, from: MapState, to: MapState) -> MapState {
        let was = self
            .state
            .compare_exchange(from as u8, to as u8, SeqCst, SeqCst)
            .unwrap_or_else(|was| was);
        MapState::ALL[usize::from(was)]
    }
}

/// Ends of list nodes: `LIST_POISON`, the head, or the `list` member of a kdata.
pub(crate) const POISON: usize = 0;
pub(crate) const HEAD: usize = 1;

/// A kdata as a list node.
pub(crate) fn node(kdata: usize) -> usize {
    kdata + 2
}

/// What was generated for a kdata.
#[derive(Debug, Default)]
pub struct Built {
    /// `ksyms[]`.
    pub(crate) ksyms: Vec<Option<usize>>,
    /// `image_pages[]`, by address.
    pub(crate) pages: [Option<usize>; 8],
}

/// What a subsystem gets, and what was generated for it: the map's own, or an attachment.
#[derive(Debug)]
pub struct Kdata {
    pub(crate) id: usize,
    pub(crate) map: usize,
    pub(crate) decl: usize,
    pub(crate) attachment: bool,
    pub(crate) refs: AtomicI64,
    /// Function pointers: addresses of trampolines.
    pub(crate) func: Box<[AtomicUsize]>,
    pub(crate) built: Mutex<Built>,
    /// `tcp_congestion_ops.list`.
    pub(crate) next: AtomicUsize,
    pub(crate) prev: AtomicUsize,
    /// The cookie with which it was last registered, for the check of what programs read.
    pub(crate) expect: AtomicU64,
    pub(crate) freed: AtomicBool,
}

impl Kdata {
    pub(crate) fn new(
        id: usize,
        map: usize,
        decl: usize,
        members: usize,
        attachment: bool,
    ) -> Self {
        Kdata {
            id,
            map,
            decl,
            attachment,
            refs: AtomicI64::new(i64::from(attachment)),
            func: (0..members).map(|_| AtomicUsize::new(0)).collect(),
            built: Mutex::new(Built {
                ksyms: vec![None; members],
                pages: Default::default(),
            }),
            next: AtomicUsize::new(POISON),
            prev: AtomicUsize::new(POISON),
            expect: AtomicU64::new(0),
            freed: AtomicBool::new(false),
        }
    }
}

/// `struct bpf_struct_ops_link`.
#[derive(Debug)]
pub struct Link {
    pub(crate) id: usize,
    pub(crate) name: u8,
    /// Index of the cookie.
    pub(crate) cookie: u8,
    /// `link->map`.
    pub(crate) map: Ptr,
    pub(crate) attachment: Ptr,
    pub(crate) refs: AtomicI64,
    /// Processes with an fd, and the pin; changed under `files`.
    pub(crate) fds: AtomicU8,
    pub(crate) pinned: AtomicBool,
    pub(crate) freed: AtomicBool,
}

impl Link {
    pub(crate) fn new(id: usize, name: u8, cookie: u8) -> Self {
        Link {
            id,
            name,
            cookie,
            map: Ptr::null(),
            attachment: Ptr::null(),
            refs: AtomicI64::new(1),
            fds: AtomicU8::new(0),
            pinned: AtomicBool::new(false),
            freed: AtomicBool::new(false),
        }
    }
}

/// `struct bpf_prog`.
#[derive(Debug)]
pub struct Prog {
    pub(crate) id: usize,
    pub(crate) sleepable: bool,
    pub(crate) body: Body,
    pub(crate) refs: AtomicI64,
    pub(crate) fds: AtomicU8,
    pub(crate) freed: AtomicBool,
    /// `prog->stats`.
    pub(crate) stats: super::enter::Stats,
}

macro_rules! allocated {
    ($($t:ty),+) => { $(impl Allocated for $t { fn freed(&self) -> &AtomicBool { &self.freed } })+ };
}
allocated!(StMap, Kdata, Link);
