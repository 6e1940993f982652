//! The whole state: objects, locks, CPUs, deferred frees.
//!
//! Nothing here acts; the steps are in `proc` and `subsys`. Stands for the structs of
//! kernel/bpf/bpf_struct_ops.c (`bpf_struct_ops_map`, `bpf_struct_ops_link`), include/linux/bpf.h
//! (`bpf_map`, `bpf_link`, `bpf_tramp_link`, `bpf_ksym`) and the subsystems' own.

use bitflags::bitflags;

use crate::assoc::Assoc;
use crate::backend::Pointers;
use crate::lock::{HELD, LockClass};
use crate::pc::Pc;
use crate::script::{MAX_DOMAINS, MAX_OBJECTS, MAX_OWN_LOCKS, MAX_REFS};
use crate::table::{Key, Table};
use crate::world::{
    LINK_SLOTS, MAP_SLOTS, MAX_CGROUPS, MAX_CPUS, MAX_IMAGES, MAX_KDATAS, MAX_KSYMS, MAX_LINKS,
    MAX_MEMBERS, MAX_PROCS, MAX_PROGS, MAX_REGS, MAX_RINGS, MAX_SOCKS, MAX_TRAMP_IMAGE_PAGES,
    OpKind,
};

/// A `bpf_struct_ops_map`.
pub type MapKey = Key<Map>;
/// A kdata object.
pub type KdataKey = Key<Kdata>;
/// A `bpf_struct_ops_link`.
pub type LinkKey = Key<Link>;
/// An image page.
pub type ImageKey = Key<Image>;
/// A `bpf_ksym`.
pub type KsymKey = Key<Ksym>;

/// The explorer's pointers: places in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slots;

impl Pointers for Slots {
    type Map = MapKey;
    type Kdata = KdataKey;
    type Link = LinkKey;
    type Image = ImageKey;
    type Func = Func;
}

/// A set of CPUs or processes, one bit each.
pub type Mask = u8;

/// How many fds of an object a process has beyond its first one.
///
/// An fd stands for a file, and a file for a reference on its object. dup() and fork() make an fd of the same file,
/// BPF_LINK_GET_FD_BY_ID and BPF_OBJ_GET one of another file. Here each fd has a reference of its own: the count of the
/// file and that of the object are one number, which falls to 0 when the last of both does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct MoreFds(pub [u8; MAX_PROCS]);

impl MoreFds {
    /// Most of one process.
    pub const MOST: u8 = 3;

    /// Of all processes.
    pub fn count(self) -> usize {
        self.0.iter().map(|n| usize::from(*n)).sum()
    }
}

/// `enum bpf_struct_ops_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum MapState {
    /// Nothing stored yet.
    #[default]
    Init,
    /// A plain map registered with its subsystem; with `links=one`, a link map that has its link.
    InUse,
    /// Deleted.
    ToBeFree,
    /// A link map ready to be attached.
    Ready,
}

impl MapState {
    /// All states in the order of their values.
    pub const ALL: [MapState; 4] = [
        MapState::Init,
        MapState::InUse,
        MapState::ToBeFree,
        MapState::Ready,
    ];

    /// The kernel's name without its prefix.
    pub fn name(self) -> &'static str {
        ["INIT", "INUSE", "TOBEFREE", "READY"][self as usize]
    }
}

/// What a deferred free, or a task, waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Nothing is deferred.
    #[default]
    None,
    /// `queue_work()`: for a worker.
    Queued,
    /// `synchronize_rcu_tasks()`.
    Tasks,
    /// `synchronize_rcu_tasks_trace()`.
    Trace,
    /// `synchronize_rcu_mult(call_rcu, call_rcu_tasks)`.
    RcuAndTasks,
    /// `synchronize_rcu()`.
    Rcu,
    /// `synchronize_srcu()` of the domain that the task's step names, or, for a deferred free, of each domain.
    Srcu,
}

impl Stage {
    /// All stages in the order of their values.
    pub const ALL: [Stage; 7] = [
        Stage::None,
        Stage::Queued,
        Stage::Tasks,
        Stage::Trace,
        Stage::RcuAndTasks,
        Stage::Rcu,
        Stage::Srcu,
    ];

    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Stage::None => "nothing",
            Stage::Queued => "queued work",
            Stage::Tasks => "a grace period of Tasks RCU",
            Stage::Trace => "a grace period of Tasks Trace RCU",
            Stage::RcuAndTasks => "a grace period of RCU and Tasks RCU",
            Stage::Rcu => "a grace period of RCU",
            Stage::Srcu => "a grace period of SRCU",
        }
    }
}

/// A domain of SRCU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Srcu {
    /// `hdev->bpf.srcu`.
    HidDevice,
    /// One that the scenario brings, by its number.
    Own(u8),
}

/// Progress of a deferred free: which stage, and which readers it still waits for.
///
/// A grace period is the set of CPUs that were readers when it began; each leaves the set when its
/// reader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Deferred {
    /// What is waited for.
    pub stage: Stage,
    /// RCU readers still to leave, or those of the SRCU domain.
    pub rcu: Mask,
    /// Tasks RCU readers still to leave.
    pub tasks: Mask,
    /// Tasks Trace RCU readers still to leave.
    pub trace: Mask,
}

impl Deferred {
    /// Whether the grace periods of this stage are over.
    #[inline]
    pub fn elapsed(&self) -> bool {
        self.rcu | self.tasks | self.trace == 0
    }
}

/// `struct bpf_struct_ops_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Map {
    /// Its declaration in the world.
    pub decl: u8,
    /// `kvalue.common.state`.
    pub state: MapState,
    /// `st_map->lock`: the CPU that holds it.
    pub lock: Option<CpuId>,
    /// `map->refcnt`.
    pub refs: u8,
    /// Processes with an fd (`map->usercnt`).
    pub fds: Mask,
    /// Their further fds.
    pub more: MoreFds,
    /// Pinned in bpffs.
    pub pinned: bool,
    /// Members whose program is in uvalue and `links[]`.
    pub filled: Mask,
    /// Cookie of each `bpf_tramp_link` in `links[]` (index into the world's cookies).
    pub link_cookies: [u8; MAX_MEMBERS],
    /// The kvalue: embedded (owner=map), the template of attachments, or the attachment of a plain map.
    pub kdata: Option<KdataKey>,
    /// `bpf_map_free_deferred` work.
    pub free: Deferred,
}

/// A function pointer: where in which image page. All zero is NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Func {
    /// The page; `None` is a NULL pointer.
    pub image: Option<ImageKey>,
    /// Position of the trampoline in the page.
    pub index: u8,
}

/// A node of the tcp list: what its `next` or `prev` points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Node<P: Pointers = Slots> {
    /// Never initialised, or `LIST_POISON`.
    #[default]
    Poison,
    /// The list head.
    Head,
    /// The `list` member of a kdata.
    Of(P::Kdata),
}

/// What a subsystem gets (`kvalue.data`) and, in the same object, what was generated for it:
/// the map's own (`owner=map`), or one per attachment (`owner=link`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kdata {
    /// The map it was made from (`container_of`, or the attachment's reference).
    pub map: Option<MapKey>,
    /// Declaration of that map: the struct's contents, `tcp_congestion_ops.name` among them.
    pub decl: u8,
    /// Is an attachment with a reference count of its own, not the map's embedded kvalue.
    pub attachment: bool,
    /// Attachments only: references.
    pub refs: u8,
    /// Function pointers.
    pub func: [Func; MAX_MEMBERS],
    /// `ksyms[]`.
    pub ksyms: [Option<KsymKey>; MAX_MEMBERS],
    /// `image_pages[]`, filled from the front.
    pub pages: [Option<ImageKey>; MAX_TRAMP_IMAGE_PAGES],
    /// `tcp_congestion_ops.list.next`.
    pub next: Node,
    /// `tcp_congestion_ops.list.prev`.
    pub prev: Node,
    /// `hid_bpf_ops.hdev` is the device.
    pub hdev: bool,
    /// Ghost: cookie of the link through which it was last registered.
    pub expect: u8,
    /// Ghost: how many registrations point here. No step of the kernel reads it, only the checks do.
    pub registered: u8,
    /// Deferred free of an attachment.
    pub free: Deferred,
}

/// One trampoline in a page. `prog` 0 is an unused place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Code {
    /// 1 + the program's index.
    pub prog: u8,
    /// The immediate stored to `run_ctx.bpf_cookie`.
    pub cookie: u8,
}

/// One page of `image_pages[]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Image {
    /// Read-only and executable: `arch_protect_bpf_trampoline()` was here.
    pub protected: bool,
    /// Bytes used.
    pub fill: u16,
    /// Trampolines, in the order of generation.
    pub code: [Code; MAX_MEMBERS],
}

/// `struct bpf_ksym`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ksym {
    /// The trampoline that it names; NULL until it is initialised.
    pub func: Func,
    /// In the list that kallsyms walks.
    pub listed: bool,
}

/// `struct bpf_struct_ops_link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Link {
    /// Name in the world, or the number of the link in a free plan.
    pub name: u8,
    /// Cookie that link_create was given.
    pub cookie: u8,
    /// `link->map`: NULL before the attach and after the detach.
    pub map: Option<MapKey>,
    /// The attachment (owner=link).
    pub attachment: Option<KdataKey>,
    /// `link->refcnt`.
    pub refs: u8,
    /// Processes with an fd.
    pub fds: Mask,
    /// Their further fds.
    pub more: MoreFds,
    /// Pinned in bpffs.
    pub pinned: bool,
    /// `link->id` is set, and `link_idr` has it: from bpf_link_settle() until bpf_link_free(). Noted where some plan looks
    /// for links by their id.
    pub id: bool,
    /// `bpf_cgroup_link.cgroup`, plus 1: the cgroup in whose list the link is. 0: none.
    pub cgroup: u8,
    /// `schedule_work(&link->work)`: bpf_link_put_deferred() is to free it.
    pub queued: bool,
}

/// A BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Prog {
    /// References: fds and `bpf_tramp_link`s.
    pub refs: u8,
    /// Processes with an fd.
    pub fds: Mask,
    /// Memory is gone.
    pub freed: bool,
    /// Grace period before the memory goes.
    pub free: Deferred,
    /// `aux->st_ops_assoc`. Noted where some program asks.
    pub assoc: Assoc<MapKey>,
    /// Its bpf_timer or bpf_wq is started, and `bpf_async_cb.prog` holds it.
    pub armed: bool,
}

impl Prog {
    /// Its grace period is over, and a work item is to let go of the map that it is tied to.
    pub(crate) fn has_work(&self) -> bool {
        self.free.stage != Stage::None && self.free.elapsed() && self.assoc.map().is_some()
    }

    /// The memory goes as soon as its grace period is over: later would only hide a use after free, and
    /// nothing else depends on when. A program that is tied to a map goes in a step, [`crate::Pc::ProgFree`].
    pub(crate) fn free_if_elapsed(&mut self) {
        if self.free.stage != Stage::None && self.free.elapsed() && self.assoc.map().is_none() {
            self.free = Deferred::default();
            self.freed = true;
        }
    }
}

/// A socket that uses a congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Sock {
    /// `icsk_ca_ops`.
    pub kdata: Option<KdataKey>,
    /// Ghost: the cookie of the attachment through which the socket got it.
    pub expect: u8,
    /// `lock_sock()`: the CPU inside.
    pub busy: Option<CpuId>,
    /// Processes with an fd.
    pub fds: Mask,
}

/// `struct hid_bpf` of the one HID device. Its `prog_list` is the subsystem's registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HidDevice<P: Pointers = Slots> {
    /// `rdesc_ops`.
    pub rdesc_ops: Option<Reg<P>>,
    /// `device_data` is allocated.
    pub device_data: bool,
    /// Readers of `srcu`.
    pub readers: Mask,
}

impl<P: Pointers> Default for HidDevice<P> {
    fn default() -> Self {
        HidDevice {
            rdesc_ops: None,
            device_data: false,
            readers: 0,
        }
    }
}

/// An entry of a subsystem's own table (bpf_testmod's types, hid_bpf's `prog_list`, what is installed in rings).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg<P: Pointers = Slots> {
    /// What was registered.
    pub kdata: P::Kdata,
    /// Ghost: cookie of the link.
    pub expect: u8,
    /// Through which link (`None` for plain maps).
    pub link: Option<P::Link>,
    /// In which slot, for a scenario's own subsystem; in which ring.
    pub slot: u8,
}

/// `struct io_ring_ctx`. What is installed in it is a registration, in the slot with the ring's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ring<P: Pointers = Slots> {
    /// It is not freed yet.
    pub there: bool,
    /// Processes with an fd.
    pub fds: Mask,
    /// The number of that fd: the key of the maps whose `ring_fd` it is.
    pub key: u8,
    /// `uring_lock`: the CPU inside.
    pub lock: Option<CpuId>,
    /// `ctx->loop_step`.
    pub loop_step: P::Func,
}

impl<P: Pointers> Default for Ring<P> {
    fn default() -> Self {
        Ring {
            there: false,
            fds: 0,
            key: 0,
            lock: None,
            loop_step: P::Func::default(),
        }
    }
}

/// `scx_ops_enable_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ScxState {
    /// No scheduler.
    #[default]
    Disabled,
    /// scx_ops_enable() runs.
    Enabling,
    /// A scheduler runs.
    Enabled,
    /// scx_ops_disable() runs.
    Disabling,
}

/// kernel/sched/ext.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scx<P: Pointers = Slots> {
    /// Enable state.
    pub state: ScxState,
    /// The copied ops struct.
    pub ops: [P::Func; MAX_MEMBERS],
    /// Which kdata the copy was made from.
    pub kdata: Option<P::Kdata>,
    /// Ghost: cookie of the link.
    pub expect: u8,
}

impl<P: Pointers> Default for Scx<P> {
    fn default() -> Self {
        Scx {
            state: ScxState::Disabled,
            ops: [P::Func::default(); MAX_MEMBERS],
            kdata: None,
            expect: 0,
        }
    }
}

/// What a scenario's own subsystems keep besides their slots (see [`crate::script`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnState<P: Pointers = Slots> {
    /// Who holds each lock.
    pub locks: [Option<CpuId>; MAX_OWN_LOCKS],
    /// Readers of each lock.
    pub shared: [Mask; MAX_OWN_LOCKS],
    /// Readers of each SRCU domain.
    pub readers: [Mask; MAX_DOMAINS],
    /// Flags that are set.
    pub flags: Mask,
    /// Subsystems whose teardown has run, one bit each.
    pub torn_down: Mask,
    /// How many objects of each kind there are.
    pub objects: [u8; MAX_OBJECTS],
    /// References that were taken with `bpf_struct_ops_get()`, in no order, without gaps.
    pub refs: [Option<P::Kdata>; MAX_REFS],
}

impl<P: Pointers> Default for OwnState<P> {
    fn default() -> Self {
        OwnState {
            locks: Default::default(),
            shared: Default::default(),
            readers: Default::default(),
            flags: Default::default(),
            torn_down: Default::default(),
            objects: Default::default(),
            refs: Default::default(),
        }
    }
}

/// Where a cgroup is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum CgroupState {
    /// Its directory is there.
    #[default]
    Online,
    /// rmdir() has taken the directory away. Its list and its arrays are there.
    Offline,
    /// `cgroup_bpf_release()` has been here: `percpu_ref_is_zero(&cgrp->bpf.refcnt)`.
    Released,
}

impl CgroupState {
    /// All states in the order of their values.
    pub const ALL: [CgroupState; 3] = [
        CgroupState::Online,
        CgroupState::Offline,
        CgroupState::Released,
    ];

    /// The state in a word.
    pub fn name(self) -> &'static str {
        ["online", "offline", "released"][self as usize]
    }
}

/// `struct bpf_prog_list`: a link in the list of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InList<P: Pointers = Slots> {
    /// The link.
    pub link: P::Link,
    /// BPF_F_PREORDER.
    pub preorder: bool,
}

/// `struct bpf_prog_array_item` of a struct_ops attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item<P: Pointers = Slots> {
    /// `item->kdata`. `None`: the type's stubs, `cfi_stubs`, which stand for a link that is gone.
    pub kdata: Option<P::Kdata>,
    /// Ghost: cookie of the link.
    pub expect: u8,
    /// `item->bpf_cookie`: the link's, under identity=run-ctx.
    pub bpf_cookie: u8,
}

/// `struct bpf_prog_array`: the items, from the front.
pub type ItemArray<P = Slots> = [Option<Item<P>>; MAX_LINKS];

/// `struct cgroup_bpf` of one cgroup, of the one attach type that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cgroup<P: Pointers = Slots> {
    /// Whether it is still there.
    pub state: CgroupState,
    /// `progs[atype]`, from the front.
    pub list: [Option<InList<P>>; MAX_LINKS],
    /// `effective[atype]`: what its sockets walk.
    pub effective: ItemArray<P>,
}

impl<P: Pointers> Default for Cgroup<P> {
    fn default() -> Self {
        Cgroup {
            state: CgroupState::default(),
            list: [None; MAX_LINKS],
            effective: [None; MAX_LINKS],
        }
    }
}

/// A walk along an effective array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Walk<P: Pointers = Slots> {
    /// Whose array, plus 1. 0: no walk is in progress.
    pub cgroup: u8,
    /// Items that are behind it.
    pub next: u8,
    /// The array has been replaced in the meantime.
    pub replaced: bool,
    /// The array, if it has been replaced: what is left of it.
    pub array: ItemArray<P>,
    /// `bpf_cookie` of the run context that the walk itself has, which trampolines keep as `saved_run_ctx`.
    pub bpf_cookie: u8,
}

impl<P: Pointers> Default for Walk<P> {
    fn default() -> Self {
        Walk {
            cgroup: 0,
            next: 0,
            replaced: false,
            array: [None; MAX_LINKS],
            bpf_cookie: 0,
        }
    }
}

/// The subsystems' data structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Subsys {
    /// `tcp_cong_list.next`.
    pub tcp_next: Node,
    /// `tcp_cong_list.prev`.
    pub tcp_prev: Node,
    /// sched_ext.
    pub scx: Scx,
    /// bpf_testmod's registrations, oldest first and without gaps; the HID device's `bpf.prog_list`; each ring's
    /// `bpf_ops`.
    pub regs: [Option<Reg>; MAX_REGS],
    /// A scenario's own.
    pub own: OwnState,
    /// Cgroups, by their index in the world.
    pub cgroups: [Cgroup; MAX_CGROUPS],
    /// The HID device.
    pub hid: HidDevice,
    /// Rings of io_uring.
    pub rings: [Ring; MAX_RINGS],
}

/// The module that owns the types marked `module`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Module {
    /// `module->refcnt`.
    pub refs: u8,
    /// delete_module() has succeeded.
    pub unloaded: bool,
}

/// A CPU.
pub type CpuId = u8;

bitflags! {
    /// What a CPU holds until its procedure is done: references and read-side sections.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Holds: u8 {
        /// A reference on `Cpu::map`.
        const MAP = 1;
        /// A reference on `Cpu::old`.
        const OLD = 2;
        /// A reference on `Cpu::link`.
        const LINK = 4;
        /// A reference on `Cpu::attachment`.
        const ATTACHMENT = 8;
        /// A reference on `Cpu::old_attachment`.
        const OLD_ATTACHMENT = 16;
        /// The registered reference on `Cpu::map` that map_delete is about to drop.
        const REGISTERED = 32;
        /// A reference on the module.
        const MODULE = 64;
        /// A reference on the map of `Cpu::asked`.
        const ASKED = 128;
    }
}

bitflags! {
    /// What an operation has changed that others can see and that it has not taken back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Dirty: u8 {
        /// A map's state.
        const STATE = 1;
        /// A function pointer of a kdata that somebody uses.
        const FUNC = 2;
        /// kallsyms.
        const KSYM = 4;
        /// A subsystem's registrations.
        const REG = 8;
        /// Image pages of a kdata that somebody uses were freed.
        const IMAGE = 16;
        /// The map that a program of others is tied to.
        const ASSOC = 32;
        /// A program that was tied to no map is.
        const TIED = 64;
        /// `ops->hdev` of a struct that stays: hid_bpf takes it for one that is attached.
        const HDEV = 128;
    }
}

bitflags! {
    /// What an operation has met on its way; the errno contract is judged by it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Seen: u16 {
        /// The target map was INIT.
        const INIT = 1;
        /// The target map was INUSE.
        const IN_USE = 2;
        /// The target map was TOBEFREE.
        const TO_BE_FREE = 4;
        /// The target map was READY.
        const READY = 8;
        /// An allocation failed.
        const NOMEM = 16;
        /// The subsystem had something registered in the place that the operation is about.
        const TAKEN = 32;
        /// The link was not attached.
        const DETACHED = 64;
        /// The link was attached to another map than F_REPLACE said; a program was tied to another map.
        const OTHER_MAP = 128;
        /// A program returned an error to reg().
        const PROG_ERROR = 256;
        /// The target map had an attached link.
        const HAS_LINK = 512;
        /// The link was attached to something update() cannot replace by the new map.
        const MISMATCH = 1024;
        /// The module was gone.
        const NO_MODULE = 2048;
        /// The process had no ring of the number that the struct says.
        const NO_RING = 4096;
        /// The struct had no member that reg() asks for.
        const NO_MEMBER = 8192;
    }
}

/// Readers that a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Readers {
    /// `rcu_read_lock()` depth.
    pub rcu: u8,
    /// `rcu_read_lock_trace()` depth.
    pub trace: u8,
    /// Runs code that Tasks RCU waits for: no voluntary switch since it read a function pointer.
    pub tasks: bool,
}

/// A CPU: the procedure in progress and its local variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpu<P: Pointers = Slots> {
    /// Operation in progress.
    pub op: OpKind,
    /// Next step.
    pub pc: Pc,
    /// Where a subsystem's reg/unreg/update, or a put, returns to.
    pub ret: Pc,
    /// Where the call of a member returns to.
    pub call_ret: Pc,
    /// The map worked on.
    pub map: Option<P::Map>,
    /// F_REPLACE's expected old map.
    pub old: Option<P::Map>,
    /// The link worked on.
    pub link: Option<P::Link>,
    /// kdata to register, unregister, call or put.
    pub kdata: Option<P::Kdata>,
    /// link_update: the kdata to be replaced.
    pub old_kdata: Option<P::Kdata>,
    /// The attachment that this CPU built, or is about to put.
    pub attachment: Option<P::Kdata>,
    /// link_update: the attachment that was replaced.
    pub old_attachment: Option<P::Kdata>,
    /// Page that is being filled.
    pub image: Option<P::Image>,
    /// Function pointer that was read.
    pub func: P::Func,
    /// What the request names: a declaration, link name, socket, table entry, key or program.
    pub arg: u8,
    /// Member that is being prepared or called.
    pub member: u8,
    /// Result so far: 0 or a negative errno.
    pub err: i8,
    /// Cookie of the operation.
    pub cookie: u8,
    /// Ghost: the cookie that the called program should read.
    pub expect: u8,
    /// `run_ctx.bpf_cookie` of the trampoline in progress.
    pub run_ctx: u8,
    /// The program in progress, plus 1.
    pub prog: u8,
    /// References held (see [`Holds`]).
    pub holds: Holds,
    /// See [`Dirty`].
    pub dirty: Dirty,
    /// See [`Seen`].
    pub seen: Seen,
    /// Readers that this CPU is.
    pub readers: Readers,
    /// synchronize_rcu() in progress: CPUs it waits for.
    pub wait: Deferred,
    /// Operations done so far (position in a fixed plan).
    pub position: u8,
    /// Next line of a function of the scenario's own subsystem.
    pub line: u8,
    /// The cgroup that the request names, plus 1. 0: none.
    pub cgroup: u8,
    /// Where in the cgroup's list a new link is to go: [`crate::operation::Position`] as a number.
    pub list_position: u8,
    /// The walk in progress.
    pub walk: Walk<P>,
    /// The struct that a kfunc has found for the program in progress.
    pub asked: Option<P::Kdata>,
    /// The ring that the procedure is about, plus 1; whose file it uses, unless unreg() has found it. 0: none.
    pub ring: u8,
}

impl<P: Pointers> Default for Cpu<P> {
    fn default() -> Self {
        Cpu {
            op: Default::default(),
            pc: Default::default(),
            ret: Default::default(),
            call_ret: Default::default(),
            map: Default::default(),
            old: Default::default(),
            link: Default::default(),
            kdata: Default::default(),
            old_kdata: Default::default(),
            attachment: Default::default(),
            old_attachment: Default::default(),
            image: Default::default(),
            func: Default::default(),
            arg: Default::default(),
            member: Default::default(),
            err: Default::default(),
            cookie: Default::default(),
            expect: Default::default(),
            run_ctx: Default::default(),
            prog: Default::default(),
            holds: Default::default(),
            dirty: Default::default(),
            seen: Default::default(),
            readers: Default::default(),
            wait: Default::default(),
            position: Default::default(),
            line: Default::default(),
            cgroup: Default::default(),
            list_position: Default::default(),
            walk: Default::default(),
            asked: Default::default(),
            ring: Default::default(),
        }
    }
}

impl<P: Pointers> Cpu<P> {
    /// The program in progress that no trampoline has called: a syscall or tracing program, or a callback.
    pub fn runs_alone(&self) -> Option<u8> {
        let alone = self.func == P::Func::default() && self.op != OpKind::TestRun;
        self.prog.checked_sub(1).filter(|_| alone)
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Proc {
    /// exit_group() has begun: no new system call.
    pub exiting: bool,
    /// Every fd is closed.
    pub exited: bool,
}

/// The whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kernel {
    /// Maps.
    pub maps: Table<Map, MAP_SLOTS>,
    /// kdata objects.
    pub kdatas: Table<Kdata, MAX_KDATAS>,
    /// Links.
    pub links: Table<Link, LINK_SLOTS>,
    /// Image pages.
    pub images: Table<Image, MAX_IMAGES>,
    /// kallsyms entries.
    pub ksyms: Table<Ksym, MAX_KSYMS>,
    /// Programs, by their index in the world.
    pub progs: [Prog; MAX_PROGS],
    /// Sockets.
    pub socks: [Sock; MAX_SOCKS],
    /// Subsystems.
    pub subsys: Subsys,
    /// Module.
    pub module: Module,
    /// Who holds each of the locks of which there is one and that may be held when a step ends.
    pub locks: [Option<CpuId>; HELD],
    /// CPUs.
    pub cpus: [Cpu; MAX_CPUS],
    /// Processes.
    pub procs: [Proc; MAX_PROCS],
    /// Allocations that may still fail.
    pub alloc_failures: u8,
    /// A violation left the state without meaning: nothing follows.
    pub dead: bool,
}

impl Seen {
    /// The target map was in one of the states.
    pub const STATES: Seen = Seen::INIT
        .union(Seen::IN_USE)
        .union(Seen::TO_BE_FREE)
        .union(Seen::READY);

    /// The target map was in this state.
    pub fn of(state: MapState) -> Self {
        match state {
            MapState::Init => Seen::INIT,
            MapState::InUse => Seen::IN_USE,
            MapState::ToBeFree => Seen::TO_BE_FREE,
            MapState::Ready => Seen::READY,
        }
    }
}

impl Kernel {
    /// Who holds a lock of this class, if there is one of the class.
    pub fn holder(&self, class: LockClass) -> Option<CpuId> {
        class.place().and_then(|place| self.locks[place])
    }

    /// Freed objects to which somebody still holds a pointer.
    pub(crate) fn in_quarantine(&self) -> u32 {
        [
            self.maps.freed(),
            self.kdatas.freed(),
            self.links.freed(),
            self.images.freed(),
            self.ksyms.freed(),
        ]
        .into_iter()
        .map(u32::count_ones)
        .sum()
    }

    /// CPUs that are readers of the chosen kind.
    pub(crate) fn readers(&self, kind: impl Fn(&Readers) -> bool) -> Mask {
        self.cpus
            .iter()
            .enumerate()
            .fold(0, |m, (i, c)| m | (u8::from(kind(&c.readers)) << i))
    }
}
