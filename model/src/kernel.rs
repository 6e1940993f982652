//! The whole state: objects, locks, CPUs, deferred frees.
//!
//! Nothing here acts; the steps are in `proc` and `subsys`. Stands for the structs of
//! kernel/bpf/bpf_struct_ops.c (`bpf_struct_ops_map`, `bpf_struct_ops_link`), include/linux/bpf.h
//! (`bpf_map`, `bpf_link`, `bpf_tramp_link`, `bpf_ksym`) and the subsystems' own.

use bitflags::bitflags;

use crate::assoc::Assoc;
use crate::backend::Pointers;
use crate::declare::{flags, state, words};
use crate::lock::{HELD, LockClass};
use crate::operation::Arg;
use crate::pc::Pc;
use crate::script::{MAX_DOMAINS, MAX_FLAGS, MAX_OBJECTS, MAX_OWN_LOCKS, MAX_REFS};
use crate::table::{Key, Table};
use crate::visit::{Flags, Visit, Visitor, Word};
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

words! {
    /// `enum bpf_struct_ops_state`.
    MapState {
        /// Nothing stored yet.
        Init "INIT",
        /// A plain map registered with its subsystem; with `links=one`, a link map that has its link.
        InUse "INUSE",
        /// Deleted.
        ToBeFree "TOBEFREE",
        /// A link map ready to be attached.
        Ready "READY",
    }
}

words! {
    /// What a deferred free, or a task, waits for.
    Stage {
        /// Nothing is deferred.
        None "nothing",
        /// `queue_work()`: for a worker.
        Queued "queued work",
        /// `synchronize_rcu_tasks()`.
        Tasks "a grace period of Tasks RCU",
        /// `synchronize_rcu_tasks_trace()`.
        Trace "a grace period of Tasks Trace RCU",
        /// `synchronize_rcu_mult(call_rcu, call_rcu_tasks)`.
        RcuAndTasks "a grace period of RCU and Tasks RCU",
        /// `synchronize_rcu()`.
        Rcu "a grace period of RCU",
        /// `synchronize_srcu()` of the domain that the task's step names, or, for a deferred free, of each domain.
        Srcu "a grace period of SRCU",
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

state! {
    /// Progress of a deferred free: which stage, and which readers it still waits for.
    ///
    /// A grace period is the set of CPUs that were readers when it began; each leaves the set when its
    /// reader ends.
    Deferred {
        /// What is waited for.
        stage: Stage [mode] "";
        /// RCU readers still to leave, or those of the SRCU domain.
        rcu: Mask [by Deferred::visit_rcu] ": readers of RCU";
        /// Tasks RCU readers still to leave.
        tasks: Mask [cpus] ": readers of Tasks RCU";
        /// Tasks Trace RCU readers still to leave.
        trace: Mask [cpus] ": readers of Tasks Trace RCU";
    }
}

impl Deferred {
    /// One set for both: a task waits for one of them.
    #[inline(always)]
    fn visit_rcu<V: Visitor>(&mut self, v: &mut V) {
        if self.stage == Stage::Srcu {
            v.field(": readers of SRCU");
        }
        v.cpus(&mut self.rcu);
    }

    /// Whether the grace periods of this stage are over.
    #[inline]
    pub fn elapsed(&self) -> bool {
        self.rcu | self.tasks | self.trace == 0
    }
}

state! {
    /// `struct bpf_struct_ops_map`.
    Map {
        /// Its declaration in the world.
        decl: u8 [decl] "declaration";
        /// `kvalue.common.state`.
        state: MapState [word] "state";
        /// `st_map->lock`: the CPU that holds it.
        lock: Option<CpuId> [holder] "lock";
        /// `map->refcnt`.
        refs: u8 [refs] "refs";
        /// Processes with an fd (`map->usercnt`).
        fds: Mask [procs] "fds";
        /// Members whose program is in uvalue and `links[]`.
        filled: Mask [each_bit(MAX_MEMBERS)] "{member}: program";
        /// Cookie of each `bpf_tramp_link` in `links[]` (index into the world's cookies).
        link_cookies: [u8; MAX_MEMBERS] [each cookie] "{member}: cookie";
        /// The kvalue: embedded (owner=map), the template of attachments, or the attachment of a plain map.
        kdata: Option<KdataKey> [kdata] "kvalue";
        /// `bpf_map_free_deferred` work.
        free: Deferred [deferred] "free";
        when many_fds {
            /// Their further fds.
            more: MoreFds [more_fds] "further fds of process {}";
            /// Pinned in bpffs.
            pinned: bool [flag] "pinned";
        }
        end;
    }
}

state! {
    /// A function pointer: where in which image page. All zero is NULL.
    Func {
        /// The page; `None` is a NULL pointer.
        image: Option<ImageKey> [image] "page";
        /// Position of the trampoline in the page.
        index: u8 [number(2)] "place";
    }
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

state! {
    /// What a subsystem gets (`kvalue.data`) and, in the same object, what was generated for it:
    /// the map's own (`owner=map`), or one per attachment (`owner=link`).
    Kdata {
        /// The map it was made from (`container_of`, or the attachment's reference).
        map: Option<MapKey> [map] "map";
        /// Declaration of that map: the struct's contents, `tcp_congestion_ops.name` among them.
        decl: u8 [decl] "declaration";
        /// Is an attachment with a reference count of its own, not the map's embedded kvalue.
        attachment: bool [flag] "attachment";
        /// Attachments only: references.
        refs: u8 [refs] "refs";
        /// Function pointers.
        func: [Func; MAX_MEMBERS] [each func] "{member}";
        /// `ksyms[]`.
        ksyms: [Option<KsymKey>; MAX_MEMBERS] [each ksym] "{member}: ksym";
        /// `tcp_congestion_ops.list.next`.
        next: Node [node] "list.next";
        /// `tcp_congestion_ops.list.prev`.
        prev: Node [node] "list.prev";
        /// Ghost: cookie of the link through which it was last registered.
        expect: u8 [cookie] "registered with cookie";
        /// Ghost: how many registrations point here. No step of the kernel reads it, only the checks do.
        registered: u8 [refs] "registrations";
        /// Deferred free of an attachment.
        free: Deferred [deferred] "free";
        when hid {
            /// `hid_bpf_ops.hdev` is the device.
            hdev: bool [flag] "ops->hdev";
        }
        /// `image_pages[]`, filled from the front.
        pages: [Option<ImageKey>; MAX_TRAMP_IMAGE_PAGES] [front image] "image_pages[{}]";
        end;
    }
}

state! {
    /// One trampoline in a page. `prog` 0 is an unused place.
    Code {
        /// 1 + the program's index.
        prog: u8 [prog] "[{}]";
        /// The immediate stored to `run_ctx.bpf_cookie`.
        cookie: u8 [cookie] "[{}]: cookie";
    }
}

state! {
    /// One page of `image_pages[]`.
    Image {
        /// Read-only and executable: `arch_protect_bpf_trampoline()` was here.
        protected: bool [flag] "executable";
        /// Bytes used.
        fill: u16 [wide(13)] "bytes";
        /// Trampolines, in the order of generation.
        code: [Code; MAX_MEMBERS] [each of] "";
        end;
    }
}

state! {
    /// `struct bpf_ksym`.
    Ksym {
        /// The trampoline that it names; NULL until it is initialised.
        func: Func [func] "func";
        /// In the list that kallsyms walks.
        listed: bool [flag] "listed";
    }
}

state! {
    /// `struct bpf_struct_ops_link`.
    Link {
        /// Name in the world, or the number of the link in a free plan.
        name: u8 [number(8)] "name";
        /// Cookie that link_create was given.
        cookie: u8 [cookie] "cookie";
        /// `link->map`: NULL before the attach and after the detach.
        map: Option<MapKey> [map] "map";
        /// The attachment (owner=link).
        attachment: Option<KdataKey> [kdata] "attachment";
        /// `link->refcnt`.
        refs: u8 [refs] "refs";
        /// Processes with an fd.
        fds: Mask [procs] "fds";
        /// Pinned in bpffs.
        pinned: bool [flag] "pinned";
        /// `schedule_work(&link->work)`: bpf_link_put_deferred() is to free it.
        queued: bool [flag] "bpf_link_put_deferred() is queued";
        when many_fds {
            /// Their further fds.
            more: MoreFds [more_fds] "further fds of process {}";
            /// `link->id` is set, and `link_idr` has it: from bpf_link_settle() until bpf_link_free(). Noted where some plan looks
            /// for links by their id.
            id: bool [flag] "link_idr has it";
        }
        when has_cgroups {
            /// `bpf_cgroup_link.cgroup`, plus 1: the cgroup in whose list the link is. 0: none.
            cgroup: u8 [cgroup] "cgroup";
        }
        end;
    }
}

state! {
    /// A BPF program.
    Prog {
        /// References: fds and `bpf_tramp_link`s.
        refs: u8 [refs] "refs";
        /// Processes with an fd.
        fds: Mask [procs] "fds";
        /// Memory is gone.
        freed: bool [flag] "freed";
        /// Grace period before the memory goes.
        free: Deferred [deferred] "free";
        when asks {
            /// `aux->st_ops_assoc`. Noted where some program asks.
            assoc: Assoc<MapKey> [assoc] "st_ops_assoc";
            /// Its bpf_timer or bpf_wq is started, and `bpf_async_cb.prog` holds it.
            armed: bool [flag] "its callback is started";
        }
    }
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

state! {
    /// A socket that uses a congestion control.
    Sock {
        /// `icsk_ca_ops`.
        kdata: Option<KdataKey> [kdata] "icsk_ca_ops";
        /// Ghost: the cookie of the attachment through which the socket got it.
        expect: u8 [cookie] "attached with cookie";
        /// `lock_sock()`: the CPU inside.
        busy: Option<CpuId> [holder] "lock_sock";
        /// Processes with an fd.
        fds: Mask [procs] "fds";
    }
}

state! {
    /// `struct hid_bpf` of the one HID device. Its `prog_list` is the subsystem's registrations.
    HidDevice<P> {
        /// `rdesc_ops`.
        rdesc_ops: Option<Reg<P>> [reg] "rdesc_ops";
        /// `device_data` is allocated.
        device_data: bool [flag] "device_data";
        /// Readers of `srcu`.
        readers: Mask [cpus] "readers of srcu";
        end;
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

state! {
    /// `struct io_ring_ctx`. What is installed in it is a registration, in the slot with the ring's number.
    Ring<P> {
        /// It is not freed yet.
        there: bool [flag] "{of}";
        if (ring: ring.there) {
            /// Processes with an fd.
            fds: Mask [procs] "fds";
            /// The number of that fd: the key of the maps whose `ring_fd` it is.
            key: u8 [number(3)] "key";
            /// `uring_lock`: the CPU inside.
            lock: Option<CpuId> [holder] "lock uring_lock of {of}";
            /// `ctx->loop_step`.
            loop_step: P::Func [func] "loop_step";
        }
    }
}

words! {
    /// `scx_ops_enable_state`.
    ScxState {
        /// No scheduler.
        Disabled "DISABLED",
        /// scx_ops_enable() runs.
        Enabling "ENABLING",
        /// A scheduler runs.
        Enabled "ENABLED",
        /// scx_ops_disable() runs.
        Disabling "DISABLING",
    }
}

state! {
    /// kernel/sched/ext.c.
    Scx<P> {
        /// Enable state.
        state: ScxState [mode] "state";
        if (scx: scx.state != ScxState::Disabled) {
            /// The copied ops struct.
            ops: [P::Func; MAX_MEMBERS] [each func] "ops.{called}";
            /// Which kdata the copy was made from.
            kdata: Option<P::Kdata> [kdata] "copied from";
            /// Ghost: cookie of the link.
            expect: u8 [cookie] "attached with cookie";
        }
    }
}

state! {
    /// What a scenario's own subsystems keep besides their slots (see [`crate::script`]).
    OwnState<P> {
        /// Who holds each lock.
        locks: [Option<CpuId>; MAX_OWN_LOCKS] [each holder] "lock {lock}";
        /// Readers of each lock.
        shared: [Mask; MAX_OWN_LOCKS] [each cpus] "lock {lock}: readers";
        /// Readers of each SRCU domain.
        readers: [Mask; MAX_DOMAINS] [each cpus] "readers of {domain}";
        /// Flags that are set.
        flags: Mask [each_bit(MAX_FLAGS)] "flag {flag}";
        /// Subsystems whose teardown has run, one bit each.
        torn_down: Mask [subsystems] "torn down";
        /// How many objects of each kind there are.
        objects: [u8; MAX_OBJECTS] [each number(3)] "objects {object}";
        /// References that were taken with `bpf_struct_ops_get()`, in no order, without gaps.
        refs: [Option<P::Kdata>; MAX_REFS] [front kdata] "reference {}";
    }
}

words! {
    /// Where a cgroup is on its way out.
    CgroupState {
        /// Its directory is there.
        Online "online",
        /// rmdir() has taken the directory away. Its list and its arrays are there.
        Offline "offline",
        /// `cgroup_bpf_release()` has been here: `percpu_ref_is_zero(&cgrp->bpf.refcnt)`.
        Released "released",
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

state! {
    /// `struct bpf_prog_array_item` of a struct_ops attachment.
    Item<P> {
        /// `item->kdata`. `None`: the type's stubs, `cfi_stubs`, which stand for a link that is gone.
        kdata: Option<P::Kdata> [kdata_or_stubs] "";
        /// Ghost: cookie of the link.
        expect: u8 [cookie] ": cookie";
        /// `item->bpf_cookie`: the link's, under identity=run-ctx.
        bpf_cookie: u8 [cookie] ": bpf_cookie";
    }
}

/// `struct bpf_prog_array`: the items, from the front.
pub type ItemArray<P = Slots> = [Option<Item<P>>; MAX_LINKS];

state! {
    /// `struct cgroup_bpf` of one cgroup, of the one attach type that there is.
    Cgroup<P> {
        /// Whether it is still there.
        state: CgroupState [word] "{of}";
        /// Its arrays have been freed, and there were some: bpf_empty_prog_array is not freed. `effective[atype]` leads there
        /// still. Noted where some plan asks for what is effective.
        dangling: bool [flag] "array freed";
        /// How often its list has changed: `revisions[atype]` is one more. Not counted in worlds where no plan asks
        /// ([`crate::World::asks_revision`]).
        changes: u8 [number(8)] "changes of the list";
        /// `progs[atype]`, from the front.
        list: [Option<InList<P>>; MAX_LINKS] [in_lists] "link {}";
        /// `effective[atype]`: what its sockets walk.
        effective: ItemArray<P> [items] "effective {}";
        end;
    }
}

state! {
    /// A walk along an effective array.
    Walk<P> {
        /// Whose array, plus 1. 0: no walk is in progress.
        cgroup: u8 [cgroup] "walks the array of";
        if (walk: walk.cgroup != 0) {
            /// Items that are behind it.
            next: u8 [number(3)] "items behind it";
            /// The array has been replaced in the meantime.
            replaced: bool [flag] "the array has been replaced";
            if (walk: walk.replaced) {
                /// The array, if it has been replaced: what is left of it.
                array: ItemArray<P> [items] "old item {}";
            }
            /// `bpf_cookie` of the run context that the walk itself has, which trampolines keep as `saved_run_ctx`.
            bpf_cookie: u8 [cookie] "the walk's run_ctx.bpf_cookie";
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

state! {
    /// The module that owns the types marked `module`.
    Module {
        /// `module->refcnt`.
        refs: u8 [refs] "refs";
        /// delete_module() has succeeded.
        unloaded: bool [flag] "unloaded";
    }
}

/// A CPU.
pub type CpuId = u8;

flags! {
    /// What a CPU holds until its procedure is done: references and read-side sections.
    Holds: u8 {
        /// A reference on `Cpu::map`.
        MAP = 1 "map";
        /// A reference on `Cpu::old`.
        OLD = 2 "old map";
        /// A reference on `Cpu::link`.
        LINK = 4 "link";
        /// A reference on `Cpu::attachment`.
        ATTACHMENT = 8 "attachment";
        /// A reference on `Cpu::old_attachment`.
        OLD_ATTACHMENT = 16 "old attachment";
        /// The registered reference on `Cpu::map` that map_delete is about to drop.
        REGISTERED = 32 "registration";
        /// A reference on the module.
        MODULE = 64 "module";
        /// A reference on the map of `Cpu::asked`.
        ASKED = 128 "the map of the struct that the program has found";
    }
}

flags! {
    /// What an operation has changed that others can see and that it has not taken back.
    Dirty: u8 {
        /// A map's state.
        STATE = 1 "state";
        /// A function pointer of a kdata that somebody uses.
        FUNC = 2 "function pointers";
        /// kallsyms.
        KSYM = 4 "kallsyms";
        /// A subsystem's registrations.
        REG = 8 "registrations";
        /// Image pages of a kdata that somebody uses were freed.
        IMAGE = 16 "image pages";
        /// The map that a program of others is tied to.
        ASSOC = 32 "what a program of others is tied to";
        /// A program that was tied to no map is.
        TIED = 64 "what a program is tied to";
        /// `ops->hdev` of a struct that stays: hid_bpf takes it for one that is attached.
        HDEV = 128 "ops->hdev";
    }
}

flags! {
    /// What an operation has met on its way; the errno contract is judged by it.
    Seen: u16 {
        /// The target map was INIT.
        INIT = 1 "INIT";
        /// The target map was INUSE.
        IN_USE = 2 "INUSE";
        /// The target map was TOBEFREE.
        TO_BE_FREE = 4 "TOBEFREE";
        /// The target map was READY.
        READY = 8 "READY";
        /// An allocation failed.
        NOMEM = 16 "no memory";
        /// The subsystem had something registered in the place that the operation is about.
        TAKEN = 32 "place taken";
        /// The link was not attached.
        DETACHED = 64 "link detached";
        /// The link was attached to another map than F_REPLACE said; a program was tied to another map.
        OTHER_MAP = 128 "another map";
        /// A program returned an error to reg().
        PROG_ERROR = 256 "a program's error";
        /// The target map had an attached link.
        HAS_LINK = 512 "map has a link";
        /// The link was attached to something update() cannot replace by the new map.
        MISMATCH = 1024 "no replacement";
        /// The module was gone.
        NO_MODULE = 2048 "module gone";
        /// The process had no ring of the number that the struct says.
        NO_RING = 4096 "no ring";
        /// The struct had no member that reg() asks for.
        NO_MEMBER = 8192 "no member";
    }
}

state! {
    /// Readers that a CPU is.
    Readers {
        /// `rcu_read_lock()` depth.
        rcu: u8 [number(3)] "rcu_read_lock";
        /// `rcu_read_lock_trace()` depth.
        trace: u8 [number(3)] "rcu_read_lock_trace";
        /// Runs code that Tasks RCU waits for: no voluntary switch since it read a function pointer.
        tasks: bool [flag] "Tasks RCU reader";
    }
}

state! {
    /// A CPU: the procedure in progress and its local variables.
    Cpu<P> {
        /// Operations done so far (position in a fixed plan).
        position: u8 [number(8)] "operations done";
        /// Next step.
        pc: Pc [step] "step";
        if (c: c.pc != Pc::Idle) {
            /// Operation in progress.
            op: OpKind [op] "operation";
            /// Where a subsystem's reg/unreg/update, or a put, returns to.
            ret: Pc [step] "returns to";
            /// Where the call of a member returns to.
            call_ret: Pc [step] "call returns to";
            /// The map worked on.
            map: Option<P::Map> [map] "map";
            /// F_REPLACE's expected old map.
            old: Option<P::Map> [map] "old map";
            /// The link worked on.
            link: Option<P::Link> [link] "link";
            /// kdata to register, unregister, call or put.
            kdata: Option<P::Kdata> [kdata] "kdata";
            /// link_update: the kdata to be replaced.
            old_kdata: Option<P::Kdata> [kdata] "old kdata";
            /// The attachment that this CPU built, or is about to put.
            attachment: Option<P::Kdata> [kdata] "attachment";
            /// link_update: the attachment that was replaced.
            old_attachment: Option<P::Kdata> [kdata] "old attachment";
            /// Page that is being filled.
            image: Option<P::Image> [image] "page";
            /// Function pointer that was read.
            func: P::Func [func] "function pointer";
            /// What the request names: a declaration, link name, socket, table entry, key or program.
            arg: u8 [by Cpu::visit_arg] "argument";
            /// Member that is being prepared or called.
            member: u8 [number(2)] "member";
            /// Result so far: 0 or a negative errno.
            err: i8 [errno] "result";
            /// Cookie of the operation.
            cookie: u8 [cookie] "cookie";
            /// Ghost: the cookie that the called program should read.
            expect: u8 [cookie] "cookie to be read";
            /// `run_ctx.bpf_cookie` of the trampoline in progress.
            run_ctx: u8 [cookie] "run_ctx.bpf_cookie";
            /// The program in progress, plus 1.
            prog: u8 [prog] "program";
            /// References held (see [`Holds`]).
            holds: Holds [flags(8)] "holds references";
            /// See [`Dirty`].
            dirty: Dirty [flags(7)] "has changed";
            /// See [`Seen`].
            seen: Seen [flags(14)] "has met";
            /// Readers that this CPU is.
            readers: Readers [of] "";
            /// synchronize_rcu() in progress: CPUs it waits for.
            wait: Deferred [deferred] "waits";
            if (c: matches!(c.pc, Pc::Script | Pc::ScriptWaited) || c.call_ret == Pc::Script) {
                /// Next line of a function of the scenario's own subsystem.
                line: u8 [number(8)] "line";
            }
            again op [rare_op];
            when has_cgroups {
                /// The cgroup that the request names, plus 1. 0: none.
                cgroup: u8 [cgroup] "cgroup";
                /// Where in the cgroup's list a new link is to go: [`crate::operation::Position`] as a number.
                list_position: u8 [number(8)] "position in the list";
                /// `cgroup.expected_revision`. 0: any.
                revision: u8 [number(8)] "expected revision";
                /// The walk in progress.
                walk: Walk<P> [of] "";
            }
            when asks {
                /// The struct that a kfunc has found for the program in progress.
                asked: Option<P::Kdata> [kdata] "the struct that the program has found";
            }
            when has_rings {
                /// The ring that the procedure is about, plus 1; whose file it uses, unless unreg() has found it. 0: none.
                ring: u8 [number(2)] "ring, plus 1";
            }
            when hid {
                again dirty [flag_at(7)];
            }
        }
        end;
    }
}

impl Cpu {
    /// What the request names depends on what it asks for.
    #[inline(always)]
    fn visit_arg<V: Visitor>(&mut self, v: &mut V) {
        let what = match self.op.is_rare() {
            false => self.op.info().arg,
            // Not known yet to whom reads.
            true => Arg::Number,
        };
        let what = match self.pc {
            Pc::ProgRelease if what != Arg::Decl => Arg::Prog,
            _ => what,
        };
        v.arg(&mut self.arg, what);
    }
}

impl<P: Pointers> Cpu<P> {
    /// The program in progress that no trampoline has called: a syscall or tracing program, or a callback.
    pub fn runs_alone(&self) -> Option<u8> {
        let alone = self.func == P::Func::default() && self.op != OpKind::TestRun;
        self.prog.checked_sub(1).filter(|_| alone)
    }
}

state! {
    /// A process.
    Proc {
        /// exit_group() has begun: no new system call.
        exiting: bool [flag] "exiting";
        /// Every fd is closed.
        exited: bool [flag] "gone";
    }
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
        if self.maps.freed() | self.kdatas.freed() | self.links.freed() == 0
            && self.images.freed() | self.ksyms.freed() == 0
        {
            return 0;
        }
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
