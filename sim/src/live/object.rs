//! Maps, links, kdata and programs as the attach path holds them, and the tables that they are allocated from.
//!
//! Stands for the structs of kernel/bpf/bpf_struct_ops.c and include/linux/bpf.h. Pointers are numbers of table
//! places, so that following one to an object that is gone is seen, as KASAN sees it: what is freed stays in
//! quarantine until the runtime ends. Not here: what happens to them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use slab::Slab;
use struct_ops_model::assoc::Assoc;
use struct_ops_model::backend::Pointers;
use struct_ops_model::kernel::MapState;
use struct_ops_model::visit::Word;
use struct_ops_model::world::MAX_PROCS;

use super::lock::RawLock;
use super::sync::Mutex;
use super::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst,
};

/// A pointer to an object of a table: its place.
pub struct Place<T>(usize, PhantomData<fn() -> T>);

impl<T> Place<T> {
    pub(crate) fn new(place: usize) -> Self {
        Place(place, PhantomData)
    }

    /// The number of the place; none is used again while the runtime lives.
    pub(crate) fn number(self) -> usize {
        self.0
    }
}

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Place<T> {}
impl<T> PartialEq for Place<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Place<T> {}
impl<T> std::hash::Hash for Place<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The runtime's pointers: places in its tables, and addresses of executable memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Places;

impl Pointers for Places {
    type Map = Place<StMap>;
    type Kdata = Place<Kdata>;
    type Link = Place<Link>;
    type Image = usize;
    type Func = usize;
}

/// A pointer that may be NULL and that readers load without a lock.
#[derive(Debug)]
pub struct Ptr<T>(AtomicUsize, PhantomData<fn() -> T>);

impl<T> Ptr<T> {
    pub(crate) fn null() -> Self {
        Ptr(AtomicUsize::new(0), PhantomData)
    }

    pub(crate) fn load(&self) -> Option<Place<T>> {
        self.0.load(SeqCst).checked_sub(1).map(Place::new)
    }

    pub(crate) fn store(&self, to: Option<Place<T>>) {
        self.0.store(to.map_or(0, |n| n.0 + 1), SeqCst);
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

    pub(crate) fn insert(&self, object: T) -> Place<T> {
        self.live.fetch_add(1, SeqCst);
        Place::new(self.slots.lock().insert(Arc::new(object)))
    }

    /// The object, freed or not.
    pub(crate) fn get(&self, place: Place<T>) -> Arc<T> {
        self.slots.lock()[place.0].clone()
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
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<Place<T>> {
        let slots = self.slots.lock();
        let mut live = slots.iter().filter(|(_, o)| !o.freed().load(SeqCst));
        live.find(|(_, o)| wanted(o)).map(|(n, _)| Place::new(n))
    }

    /// Some object has been freed: the model may have used its place again.
    pub(crate) fn reused(&self) -> bool {
        self.slots.lock().len() > self.live()
    }

    /// Live objects, oldest first.
    pub(crate) fn all(&self) -> Vec<(Place<T>, Arc<T>)> {
        let slots = self.slots.lock();
        let live = slots.iter().filter(|(_, o)| !o.freed().load(SeqCst));
        live.map(|(n, o)| (Place::new(n), o.clone())).collect()
    }

    /// Ends the quarantine: nobody holds a pointer.
    pub(crate) fn empty_quarantine(&self) {
        self.slots.lock().retain(|_, o| !o.freed().load(SeqCst));
    }
}

/// `struct bpf_struct_ops_map`.
#[derive(Debug)]
pub struct StMap {
    pub(crate) decl: u8,
    /// `kvalue.common.state`.
    state: AtomicU8,
    pub(crate) refs: AtomicI64,
    /// Processes with an fd, their further fds, and the pin; changed under `files`.
    pub(crate) fds: AtomicU8,
    pub(crate) more: [AtomicU8; MAX_PROCS],
    pub(crate) pinned: AtomicBool,
    /// `st_map->lock`.
    pub(crate) lock: RawLock,
    /// Members with a program in uvalue and `links[]`, one bit each.
    pub(crate) filled: AtomicU64,
    /// Cookie of each `bpf_tramp_link` in `links[]` (index).
    pub(crate) link_cookies: Box<[AtomicU8]>,
    /// The kvalue.
    pub(crate) kdata: Ptr<Kdata>,
    pub(crate) freed: AtomicBool,
}

impl StMap {
    pub(crate) fn new(decl: u8, members: usize) -> Self {
        StMap {
            decl,
            state: AtomicU8::new(MapState::Init as u8),
            refs: AtomicI64::new(1),
            fds: AtomicU8::new(0),
            more: Default::default(),
            pinned: AtomicBool::new(false),
            lock: RawLock::new(),
            filled: AtomicU64::new(0),
            link_cookies: (0..members).map(|_| AtomicU8::new(0)).collect(),
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

/// What was generated for a kdata.
#[derive(Debug, Default)]
pub struct Built {
    /// `ksyms[]`.
    pub(crate) ksyms: Vec<Option<usize>>,
    /// `image_pages[]`, by address.
    pub(crate) pages: [Option<usize>; struct_ops_model::world::MAX_TRAMP_IMAGE_PAGES],
}

/// What a subsystem gets, and what was generated for it: the map's own, or an attachment.
#[derive(Debug)]
pub struct Kdata {
    pub(crate) map: Place<StMap>,
    pub(crate) decl: u8,
    pub(crate) attachment: bool,
    pub(crate) refs: AtomicI64,
    /// Function pointers: addresses of trampolines.
    pub(crate) func: Box<[AtomicUsize]>,
    pub(crate) built: Mutex<Built>,
    /// `tcp_congestion_ops.list`, as numbers of nodes.
    pub(crate) next: AtomicUsize,
    pub(crate) prev: AtomicUsize,
    /// `hid_bpf_ops.hdev` is the device.
    pub(crate) hdev: AtomicBool,
    /// The cookie (index) with which it was last registered, for the check of what programs read.
    pub(crate) expect: AtomicU8,
    pub(crate) freed: AtomicBool,
}

impl Kdata {
    pub(crate) fn new(map: Place<StMap>, decl: u8, members: usize, attachment: bool) -> Self {
        Kdata {
            map,
            decl,
            attachment,
            refs: AtomicI64::new(i64::from(attachment)),
            func: (0..members).map(|_| AtomicUsize::new(0)).collect(),
            built: Mutex::new(Built {
                ksyms: vec![None; members],
                pages: Default::default(),
            }),
            next: AtomicUsize::new(0),
            prev: AtomicUsize::new(0),
            hdev: AtomicBool::new(false),
            expect: AtomicU8::new(0),
            freed: AtomicBool::new(false),
        }
    }
}

/// `struct bpf_struct_ops_link`.
#[derive(Debug)]
pub struct Link {
    pub(crate) name: u8,
    /// Index of the cookie.
    pub(crate) cookie: u8,
    /// `link->map`.
    pub(crate) map: Ptr<StMap>,
    pub(crate) attachment: Ptr<Kdata>,
    pub(crate) refs: AtomicI64,
    /// Processes with an fd, their further fds, and the pin; changed under `files`.
    pub(crate) fds: AtomicU8,
    pub(crate) more: [AtomicU8; MAX_PROCS],
    pub(crate) pinned: AtomicBool,
    /// `link_idr` has it.
    pub(crate) id: AtomicBool,
    pub(crate) freed: AtomicBool,
}

impl Link {
    pub(crate) fn new(name: u8, cookie: u8) -> Self {
        Link {
            name,
            cookie,
            map: Ptr::null(),
            attachment: Ptr::null(),
            refs: AtomicI64::new(1),
            fds: AtomicU8::new(0),
            more: Default::default(),
            pinned: AtomicBool::new(false),
            id: AtomicBool::new(false),
            freed: AtomicBool::new(false),
        }
    }
}

/// `struct bpf_prog`.
#[derive(Debug)]
pub struct Prog {
    pub(crate) sleepable: bool,
    pub(crate) refs: AtomicI64,
    pub(crate) fds: AtomicU8,
    pub(crate) freed: AtomicBool,
    pub(crate) st_ops_assoc_mutex: RawLock,
    /// `aux->st_ops_assoc`, which the getter loads without that mutex: a load and a store are atomic.
    pub(crate) assoc: Mutex<Assoc<Place<StMap>>>,
    /// `prog->stats`.
    pub(crate) stats: super::enter::Stats,
}

macro_rules! allocated {
    ($($t:ty),+) => { $(impl Allocated for $t { fn freed(&self) -> &AtomicBool { &self.freed } })+ };
}
allocated!(StMap, Kdata, Link);
