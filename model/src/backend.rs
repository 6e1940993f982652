//! The vocabulary of steps: all that a step may do to anything that others can see, as a trait per subject and one of all.
//!
//! A procedure in `proc` or `subsys` is written once, over this vocabulary. A *backend* carries it out: the
//! explorer's tables (`tables`), or the threads, locks and pages of a runtime. Each method here is one *primitive*:
//! nobody comes between its beginning and its end. Between two primitives of one step a runtime may let others
//! in; the explorer does not. Stands for kmalloc/kfree, mutexes, reference counts, RCU, and the loads and stores
//! that the kernel writes as plain C.

use std::fmt::{Arguments, Debug};
use std::hash::Hash;

use crate::assoc::Assoc;
use crate::design::Design;
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{
    Cgroup, Code, Cpu, Dirty, Holds, Item, ItemArray, MapState, Node, OwnState, Reg, Ring, Scx,
    Seen, Srcu, Stage,
};
use crate::lock::Lock;
use crate::pc::Pc;
use crate::world::{Subsystem, World};

/// The step broke something and left no state to go on from.
#[derive(Debug)]
pub struct Stop;

/// What a step, or a part of it, ends with.
pub type Step<T = ()> = Result<T, Stop>;

/// A pointer to an object, as a backend represents it.
pub trait Pointer: Copy + Eq + Hash + Debug {}
impl<T: Copy + Eq + Hash + Debug> Pointer for T {}

/// How a backend points at objects.
pub trait Pointers: Copy + Eq + Hash + Debug {
    /// A `struct bpf_struct_ops_map`.
    type Map: Pointer;
    /// The struct that a subsystem gets, with what was generated for it: the map's kvalue, or an attachment.
    type Kdata: Pointer;
    /// A `struct bpf_struct_ops_link`.
    type Link: Pointer;
    /// A page of `image_pages[]`.
    type Image: Pointer;
    /// A function pointer member of kdata: the address of a trampoline. The default is NULL.
    type Func: Pointer + Default;
}

/// What has pointers; apart from [`Backend`] so that the types below need no lifetime.
pub trait HasPointers {
    /// Its pointers.
    type P: Pointers;
}

/// A backend's pointer to a map.
pub type MapOf<X> = <<X as HasPointers>::P as Pointers>::Map;
/// A backend's pointer to a kdata.
pub type KdataOf<X> = <<X as HasPointers>::P as Pointers>::Kdata;
/// A backend's pointer to a link.
pub type LinkOf<X> = <<X as HasPointers>::P as Pointers>::Link;
/// A backend's pointer to an image page.
pub type ImageOf<X> = <<X as HasPointers>::P as Pointers>::Image;
/// A backend's function pointer.
pub type FuncOf<X> = <<X as HasPointers>::P as Pointers>::Func;

/// An object with a reference count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted<P: Pointers> {
    /// `map->refcnt`.
    Map(P::Map),
    /// The attachment's own count.
    Attachment(P::Kdata),
    /// `link->refcnt`.
    Link(P::Link),
    /// `prog->aux->refcnt`.
    Prog(u8),
    /// `module->refcnt`.
    Module,
}

impl<P: Pointers> Counted<P> {
    /// What it is, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Counted::Map(_) => "map",
            Counted::Attachment(_) => "attachment",
            Counted::Link(_) => "link",
            Counted::Prog(_) => "program",
            Counted::Module => "module",
        }
    }
}

/// An object that is freed in deferred work, after grace periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed<P: Pointers> {
    /// `bpf_map_free_deferred()`.
    Map(P::Map),
    /// `bpf_struct_ops_attachment_free()`.
    Attachment(P::Kdata),
    /// `__bpf_prog_put_noref()`: the memory goes when the grace period ends, without a step of its own unless the program
    /// is tied to a map.
    Prog(u8),
}

/// An open file of a process, to be closed when it exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFile<P: Pointers> {
    /// A link.
    Link(P::Link),
    /// A socket.
    Sock(u8),
    /// A ring.
    Ring(u8),
    /// A map.
    Map(P::Map),
    /// A program.
    Prog(u8),
}

/// What was used after it was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// An image page.
    Image,
    /// A kdata.
    Kdata,
    /// A program.
    Prog,
    /// A map.
    Map,
    /// A link.
    Link,
    /// A kallsyms entry.
    Ksym,
    /// A list node: `LIST_POISON`.
    ListNode,
    /// An object of a scenario's own subsystem.
    Object,
    /// The module that has the subsystem's functions.
    Module,
}

impl Gone {
    /// The sentence in traces and findings.
    pub fn text(self) -> &'static str {
        match self {
            Gone::Image => "USE AFTER FREE: the image page is gone",
            Gone::Kdata => "USE AFTER FREE: the kdata is gone",
            Gone::Prog => "USE AFTER FREE: the program is gone",
            Gone::Map => "USE AFTER FREE: the map is gone",
            Gone::Link => "USE AFTER FREE: the link is gone",
            Gone::Ksym => "USE AFTER FREE: the ksym is gone",
            Gone::ListNode => "USE AFTER FREE: the list node is poisoned",
            Gone::Object => "USE AFTER FREE: the object is gone",
            Gone::Module => "USE AFTER FREE: the module's functions are gone",
        }
    }
}

/// Appends to the event of the step, when somebody listens.
macro_rules! event {
    ($x:expr, $($arg:tt)+) => {
        if $x.listening() { $x.say(format_args!($($arg)+)); }
    };
}
pub(crate) use event;

/// Objects come and go: `kmalloc()` and `kfree()`, reference counts, deferred work.
pub trait Memory: HasPointers + Sized {
    // ---- memory ------------------------------------------------------------------------------------

    /// One `kmalloc()`, told to fail where this gives `false`.
    fn alloc(&mut self) -> bool;
    /// A new map of this declaration with one reference, which nobody finds yet.
    fn new_map(&mut self, decl: u8) -> Step<MapOf<Self>>;
    /// A new kdata of a map: its kvalue, or (`attachment`) an object with a reference of its own.
    fn new_kdata(&mut self, map: MapOf<Self>, decl: u8, attachment: bool) -> Step<KdataOf<Self>>;
    /// A new link with one reference, which nobody finds yet.
    fn new_link(&mut self, name: u8, cookie: u8) -> Step<LinkOf<Self>>;
    /// `kfree()` of a map.
    fn free_map(&mut self, map: MapOf<Self>) -> Step;
    /// `kfree()` of a kdata.
    fn free_kdata(&mut self, kdata: KdataOf<Self>) -> Step;
    /// `kfree()` of a link.
    fn free_link(&mut self, link: LinkOf<Self>) -> Step;

    // ---- references and deferred work --------------------------------------------------------------

    /// `refcount_inc()`.
    fn get(&mut self, what: Counted<Self::P>) -> Step;
    /// `refcount_inc_not_zero()`.
    fn get_unless_zero(&mut self, what: Counted<Self::P>) -> Step<bool>;
    /// `refcount_dec_and_test()`.
    fn put(&mut self, what: Counted<Self::P>) -> Step<bool>;
    /// Whether one reference is left: nobody else can have another one.
    fn is_last(&mut self, what: Counted<Self::P>) -> Step<bool>;
    /// `queue_work()`, or a callback after a grace period.
    fn defer(&mut self, what: Freed<Self::P>, after: Stage) -> Step;
    /// `schedule_work(&link->work)`: a worker is to free the link. Whether there is one; else the caller frees it.
    fn queue_link(&mut self, link: LinkOf<Self>) -> Step<bool>;
    /// What the deferred work waited for last.
    fn deferred(&mut self, what: Freed<Self::P>) -> Step<Stage>;
}

/// Locks, and the read sides and grace periods of RCU.
pub trait Locking: HasPointers + Sized {
    // ---- locks -------------------------------------------------------------------------------------

    /// Takes a lock. The first primitive of its step: a step begins when its lock is free.
    fn lock(&mut self, lock: Lock<Self::P>) -> Step;
    /// Releases a lock that the task holds.
    fn unlock(&mut self, lock: Lock<Self::P>) -> Step;
    /// Takes one of the scenario's own locks for reading. The first primitive of its step, too.
    fn lock_shared(&mut self, own: u8);
    /// Whether this task holds the lock, and not for reading.
    fn holds_lock(&mut self, lock: Lock<Self::P>) -> bool;

    // ---- RCU ---------------------------------------------------------------------------------------

    /// `rcu_read_lock()`.
    fn rcu_read_lock(&mut self);
    /// `rcu_read_unlock()`.
    fn rcu_read_unlock(&mut self);
    /// `rcu_read_lock_trace()`.
    fn rcu_read_lock_trace(&mut self);
    /// `rcu_read_unlock_trace()`.
    fn rcu_read_unlock_trace(&mut self);
    /// From here on Tasks RCU waits for this task: it has no voluntary switch.
    fn tasks_enter(&mut self);
    /// A voluntary context switch: a quiescent state of Tasks RCU.
    fn tasks_quiescent(&mut self);
    /// A grace period begins, for which this task will wait in its next step.
    fn wait_begin(&mut self, stage: Stage);
    /// `srcu_read_lock()`.
    fn srcu_read_lock(&mut self, domain: Srcu);
    /// `srcu_read_unlock()`.
    fn srcu_read_unlock(&mut self, domain: Srcu);
    /// `synchronize_srcu()` begins, for which this task will wait in its next step.
    fn srcu_wait_begin(&mut self, domain: Srcu);
    /// The task has waited: for this.
    fn waited(&mut self) -> Stage;
}

/// Fields of maps, kdata and links.
pub trait Objects: HasPointers + Sized {
    // ---- maps --------------------------------------------------------------------------------------

    /// Index of the map's declaration.
    fn map_decl(&mut self, map: MapOf<Self>) -> Step<u8>;
    /// `smp_load_acquire(&kvalue.common.state)`.
    fn map_state(&mut self, map: MapOf<Self>) -> Step<MapState>;
    /// `smp_store_release(&kvalue.common.state)`.
    fn set_map_state(&mut self, map: MapOf<Self>, to: MapState) -> Step;
    /// `cmpxchg(&kvalue.common.state)`: what was there.
    fn cmpxchg_map_state(
        &mut self,
        map: MapOf<Self>,
        from: MapState,
        to: MapState,
    ) -> Step<MapState>;
    /// The kvalue.
    fn map_kdata(&mut self, map: MapOf<Self>) -> Step<Option<KdataOf<Self>>>;
    /// Another kvalue, or none.
    fn set_map_kdata(&mut self, map: MapOf<Self>, to: Option<KdataOf<Self>>) -> Step;
    /// Whether the member has its program in uvalue and `links[]`.
    fn filled(&mut self, map: MapOf<Self>, member: usize) -> Step<bool>;
    /// Puts the member's program into uvalue and `links[]`, or takes it out.
    fn set_filled(&mut self, map: MapOf<Self>, member: usize, to: bool) -> Step;
    /// The cookie of a `bpf_tramp_link` in `links[]`.
    fn set_link_cookie(&mut self, map: MapOf<Self>, member: usize, cookie: u8) -> Step;
    /// `bpf_map_new_fd()`: one more fd of the process; the task's reference is the file's now.
    fn install_map_fd(&mut self, map: MapOf<Self>) -> Step;
    /// One fd of the process is gone; the reference behind it is the task's now.
    fn close_map_fd(&mut self, map: MapOf<Self>) -> Step;
    /// A bpffs inode refers to the map, or no longer.
    fn set_map_pinned(&mut self, map: MapOf<Self>, to: bool) -> Step;
    /// Ghost: some link is attached to the map.
    fn has_link(&mut self, map: MapOf<Self>) -> bool;

    // ---- kdata -------------------------------------------------------------------------------------

    /// The map it was made from: `container_of()`.
    fn kdata_map(&mut self, kdata: KdataOf<Self>) -> Step<MapOf<Self>>;
    /// Index of that map's declaration.
    fn kdata_decl(&mut self, kdata: KdataOf<Self>) -> Step<u8>;
    /// It is an attachment with a reference count of its own.
    fn is_attachment(&mut self, kdata: KdataOf<Self>) -> Step<bool>;
    /// `READ_ONCE()` of a function pointer.
    fn func(&mut self, kdata: KdataOf<Self>, member: usize) -> Step<FuncOf<Self>>;
    /// A function pointer becomes visible.
    fn set_func(&mut self, kdata: KdataOf<Self>, member: usize, to: FuncOf<Self>) -> Step;
    /// `memset(kvalue->data, 0)`.
    fn clear_funcs(&mut self, kdata: KdataOf<Self>) -> Step;
    /// Ghost: a registration in `slot`, or in any, is of the map of `kdata`. On mainline, where a map has one kdata, it
    /// would be of this struct.
    fn has_one_of_its_map(&mut self, kdata: KdataOf<Self>, slot: Option<u8>) -> bool;
    /// The attachment of the map, if it has one and no more.
    fn only_attachment(&mut self, map: MapOf<Self>) -> Step<Option<KdataOf<Self>>>;
    /// Ghost: the kdata for which a trampoline was generated.
    fn generated_for(&mut self, func: FuncOf<Self>) -> Option<KdataOf<Self>>;
    /// Ghost: one more registration points here, with this cookie.
    fn note_registered(&mut self, kdata: KdataOf<Self>, cookie: u8) -> Step;
    /// Ghost: one registration less.
    fn note_unregistered(&mut self, kdata: KdataOf<Self>) -> Step;
    /// Ghost: the cookie with which it was registered last.
    fn registered_cookie(&mut self, kdata: KdataOf<Self>) -> Step<u8>;

    // ---- links -------------------------------------------------------------------------------------

    /// The cookie that link_create was given.
    fn link_cookie(&mut self, link: LinkOf<Self>) -> Step<u8>;
    /// `link->map`.
    fn link_map(&mut self, link: LinkOf<Self>) -> Step<Option<MapOf<Self>>>;
    /// The attachment of the link.
    fn link_attachment(&mut self, link: LinkOf<Self>) -> Step<Option<KdataOf<Self>>>;
    /// Attached to this map, through this attachment; or to nothing.
    fn set_link(
        &mut self,
        link: LinkOf<Self>,
        map: Option<MapOf<Self>>,
        attachment: Option<KdataOf<Self>>,
    ) -> Step;
    /// One more fd of the process; the task's reference is the file's now.
    fn install_link_fd(&mut self, link: LinkOf<Self>) -> Step;
    /// One fd of the process is gone; the reference behind it is the task's now.
    fn close_link_fd(&mut self, link: LinkOf<Self>) -> Step;
    /// A bpffs inode refers to the link, or no longer.
    fn set_pinned(&mut self, link: LinkOf<Self>, to: bool) -> Step;
    /// `link_idr` leads to the link by its id, or no longer.
    fn set_link_id(&mut self, link: LinkOf<Self>, to: bool) -> Step;
    /// `link->id`: whether bpf_link_settle() has set it, and nobody has taken it out of `link_idr`.
    fn link_has_id(&mut self, link: LinkOf<Self>) -> Step<bool>;

    /// The cgroup in whose list the link is.
    fn link_cgroup(&mut self, link: LinkOf<Self>) -> Step<Option<u8>>;
    /// In the list of this cgroup; or of none.
    fn set_link_cgroup(&mut self, link: LinkOf<Self>, to: Option<u8>) -> Step;
    /// The link of this name that the process has open; by its id, the one that anybody has.
    fn anchor(&mut self, name: u8, by_id: bool) -> Option<LinkOf<Self>>;
}

/// Image pages, kallsyms, and the call of a member.
pub trait Trampolines: HasPointers + Sized {
    // ---- trampolines -------------------------------------------------------------------------------

    /// What belongs together for somebody who looks at executable memory or kallsyms: under `text_mutex`.
    fn under_text_mutex<T>(&mut self, act: impl FnOnce(&mut Self) -> Step<T>) -> Step<T>;
    /// A new `bpf_ksym` in `ksyms[place]`. What was there is overwritten, not freed: kallsyms may still list it.
    fn new_ksym(&mut self, owner: KdataOf<Self>, place: usize) -> Step;
    /// `bpf_image_ksym_init()`: what `ksyms[place]` names.
    fn name_ksym(&mut self, owner: KdataOf<Self>, place: usize, func: FuncOf<Self>) -> Step;
    /// `bpf_struct_ops_map_add_ksyms()`: up to the first NULL.
    fn add_ksyms(&mut self, owner: KdataOf<Self>) -> Step;
    /// `bpf_struct_ops_map_del_ksyms()`.
    fn del_ksyms(&mut self, owner: KdataOf<Self>) -> Step;
    /// `bpf_struct_ops_map_free_ksyms()`: kfree() does not look whether kallsyms still has the entry.
    fn free_ksyms(&mut self, owner: KdataOf<Self>) -> Step;
    /// Bytes used in a page.
    fn page_fill(&mut self, page: ImageOf<Self>) -> Step<u16>;
    /// `arch_alloc_bpf_trampoline()` into `image_pages[]`; `None` if all its places are taken.
    fn new_page(&mut self, owner: KdataOf<Self>) -> Step<Option<ImageOf<Self>>>;
    /// Whether `image_pages[]` has a place left.
    fn has_page_slot(&mut self, owner: KdataOf<Self>) -> Step<bool>;
    /// `arch_prepare_bpf_trampoline()`: the trampoline that calls `prog` with `cookie`, `size` bytes of the page.
    fn write_trampoline(
        &mut self,
        page: ImageOf<Self>,
        size: u16,
        code: Code,
    ) -> Step<FuncOf<Self>>;
    /// `arch_protect_bpf_trampoline()` of every page: read-only and executable.
    fn protect(&mut self, owner: KdataOf<Self>) -> Step;
    /// `bpf_struct_ops_map_free_image()`: whether there was any.
    fn free_images(&mut self, owner: KdataOf<Self>) -> Step<bool>;
    /// A page that belongs to no map: one trampoline, executable at once (BPF_PROG_TEST_RUN).
    fn new_test_page(&mut self, code: Code) -> Step<(ImageOf<Self>, FuncOf<Self>)>;
    /// That page goes.
    fn free_test_page(&mut self, page: ImageOf<Self>) -> Step;

    // ---- the call of a member ----------------------------------------------------------------------

    /// The jump: the page must be there and executable. Until [`Trampolines::leave_trampoline`] the task is inside.
    fn enter_trampoline(&mut self, func: FuncOf<Self>) -> Step<Code>;
    /// The instructions under the task's instruction pointer, which must still be there.
    fn code_at(&mut self, func: FuncOf<Self>) -> Step<Code>;
    /// The return.
    fn leave_trampoline(&mut self, func: FuncOf<Self>);
    /// kallsyms has the trampoline.
    fn named(&mut self, func: FuncOf<Self>) -> bool;
    /// The trampoline stores the immediate to `run_ctx.bpf_cookie`.
    fn set_run_ctx(&mut self, code: Code);
    /// `bpf_get_attach_cookie()`: what `run_ctx.bpf_cookie` holds now.
    fn run_ctx_cookie(&mut self) -> u64;
}

/// What processes have open, what programs are tied to, and the module.
pub trait Processes: HasPointers + Sized {
    /// The process has an fd of the program.
    fn has_prog_fd(&mut self, prog: u8) -> bool;
    /// The process's fd is gone; the reference behind it is the task's now.
    fn close_prog_fd(&mut self, prog: u8);
    /// Notes whether its bpf_timer or bpf_wq is started, which then has a callback of it to run. Whether it was before.
    fn set_armed(&mut self, prog: u8, to: bool) -> bool;
    /// The program's memory is gone.
    fn prog_freed(&mut self, prog: u8) -> bool;
    /// `aux->st_ops_assoc`.
    fn assoc(&mut self, prog: u8) -> Assoc<MapOf<Self>>;
    /// A change of it, under `aux->st_ops_assoc_mutex`.
    fn change_assoc<T>(&mut self, prog: u8, change: impl FnOnce(&mut Assoc<MapOf<Self>>) -> T)
    -> T;
    /// The program's memory goes, in the work item that frees it.
    fn free_prog(&mut self, prog: u8);
    /// An operation of the task's plan begins.
    fn count_operation(&mut self);
    /// exit_group(): no other thread of the process begins anything.
    fn begin_exit(&mut self);
    /// The next file that the process has open, programs last.
    fn open_file(&mut self) -> Option<OpenFile<Self::P>>;
    /// Nothing is open any more.
    fn process_is_gone(&mut self);
    /// A child process that has open what this one has; `false` if there is one already.
    fn dup_fd(&mut self) -> Step<bool>;
    /// `try_module_get()`.
    fn try_module_get(&mut self) -> bool;
    /// delete_module() has succeeded.
    fn module_unloaded(&mut self) -> bool;
    /// `try_stop_module()`: refused while somebody holds the module.
    fn unload_module(&mut self) -> bool;
}

/// What subsystems, cgroups and a scenario's own subsystems keep.
pub trait Structures: HasPointers + Sized {
    // ---- what subsystems keep -------------------------------------------------------------------------

    /// `node->next` of the tcp list.
    fn list_next(&mut self, node: Node<Self::P>) -> Step<Node<Self::P>>;
    /// `WRITE_ONCE(node->next)`.
    fn set_list_next(&mut self, node: Node<Self::P>, to: Node<Self::P>) -> Step;
    /// `node->prev`.
    fn list_prev(&mut self, node: Node<Self::P>) -> Step<Node<Self::P>>;
    /// `node->prev = to`.
    fn set_list_prev(&mut self, node: Node<Self::P>, to: Node<Self::P>) -> Step;
    /// More nodes than the list can have.
    fn list_bound(&self) -> usize;
    /// A new socket of the process with this algorithm.
    fn new_sock(&mut self, kdata: KdataOf<Self>, cookie: u8) -> Step<u8>;
    /// The socket's algorithm and, ghost, the cookie of the attachment through which it got it.
    fn sock(&mut self, sock: u8) -> Option<(KdataOf<Self>, u8)>;
    /// The process's fd of the socket is gone: whether another process has one.
    fn close_sock_fd(&mut self, sock: u8) -> bool;
    /// The socket has no algorithm any more.
    fn close_sock(&mut self, sock: u8);
    /// The n-th registration in the subsystem's table.
    fn registration(&mut self, place: usize) -> Option<Reg<Self::P>>;
    /// One more at the end of the table; gives its place.
    fn push_registration(&mut self, reg: Reg<Self::P>) -> Step<usize>;
    /// The n-th registration has another kdata now.
    fn set_registration(&mut self, place: usize, reg: Reg<Self::P>);
    /// The n-th registration goes; the later ones move up.
    fn remove_registration(&mut self, place: usize);
    /// kernel/sched/ext.c's state.
    fn scx(&mut self) -> Scx<Self::P>;
    /// Another state.
    fn set_scx(&mut self, scx: Scx<Self::P>);

    /// `ops->hdev` is set.
    fn hdev(&mut self, kdata: KdataOf<Self>) -> Step<bool>;
    /// `ops->hdev` is the device, or NULL.
    fn set_hdev(&mut self, kdata: KdataOf<Self>, to: bool) -> Step;
    /// `hdev->bpf.rdesc_ops`.
    fn rdesc_ops(&mut self) -> Option<Reg<Self::P>>;
    /// Another one, or NULL.
    fn set_rdesc_ops(&mut self, to: Option<Reg<Self::P>>);
    /// `hdev->bpf.device_data` is allocated.
    fn device_data(&mut self) -> bool;
    /// It is from now on.
    fn set_device_data(&mut self);

    /// A ring of io_uring; of no such number one that is not there.
    fn ring(&mut self, ring: u8) -> Ring<Self::P>;
    /// Another state of it.
    fn set_ring(&mut self, ring: u8, to: Ring<Self::P>);

    // ---- cgroups --------------------------------------------------------------------------------------

    /// `cgrp->bpf` as whoever holds `cgroup_mutex` finds it.
    fn cgroup(&mut self, cgroup: u8) -> Cgroup<Self::P>;
    /// Another list, or another item in the same array: who walks the array meets it.
    fn set_cgroup(&mut self, cgroup: u8, to: Cgroup<Self::P>);
    /// `rcu_replace_pointer()` of the array: who walks the old one goes on along that.
    fn activate(&mut self, cgroup: u8, array: ItemArray<Self::P>);
    /// `rcu_dereference()` of the array: the task begins to walk it.
    fn walk_begin(&mut self, cgroup: u8);
    /// `READ_ONCE()` of the next item; `None` behind the last one, and the walk is over.
    fn walk_next(&mut self) -> Option<Item<Self::P>>;

    // ---- a scenario's own subsystems -------------------------------------------------------------------

    /// What they keep besides registrations.
    fn own(&mut self) -> OwnState<Self::P>;
    /// Another state.
    fn set_own(&mut self, own: OwnState<Self::P>);
}

/// The vocabulary. `'w` is the life of what does not change: the world and the design.
pub trait Backend<'w>: Memory + Locking + Objects + Trampolines + Processes + Structures {
    // ---- what does not change, and what is the task's own ------------------------------------------

    /// Types, programs, maps and CPUs.
    fn world(&self) -> &'w World;
    /// How programs are attached.
    fn design(&self) -> &'w Design;
    /// The step that is being carried out.
    fn pc(&self) -> Pc;
    /// The task's local variables. Work items have none.
    fn cpu(&mut self) -> &mut Cpu<Self::P>;
    /// The process that the task belongs to.
    fn proc(&self) -> u8;

    /// The next step.
    #[inline]
    fn goto(&mut self, pc: Pc) -> Step {
        self.cpu().pc = pc;
        Ok(())
    }

    /// Sets the result and goes on at `pc`.
    fn fail(&mut self, err: i8, pc: Pc) -> Step {
        event!(self, "{}", errno::name(err));
        self.cpu().err = err;
        self.goto(pc)
    }

    /// Notes what the operation has met (see [`crate::kernel::Seen`]).
    #[inline]
    fn saw(&mut self, what: Seen) {
        self.cpu().seen |= what;
    }

    /// Marks a change that others can see (see [`crate::kernel::Dirty`]); taken back by [`Backend::undo`].
    fn touch(&mut self, what: Dirty) {
        self.cpu().dirty |= what;
    }

    /// The change was taken back.
    fn undo(&mut self, what: Dirty) {
        self.cpu().dirty.remove(what);
    }

    /// Gives up the reference that `flag` stands for without dropping it: somebody else owns it now.
    fn hand_over(&mut self, flag: Holds) {
        debug_assert!(self.cpu().holds.contains(flag));
        self.cpu().holds.remove(flag);
    }

    /// The map that this task works on.
    fn my_map(&mut self) -> MapOf<Self> {
        self.cpu().map.expect("the procedure has a map")
    }

    /// The link that this task works on.
    fn my_link(&mut self) -> LinkOf<Self> {
        self.cpu().link.expect("the procedure has a link")
    }

    /// The number by which locks and read sides know this task.
    fn task(&self) -> u8;

    // ---- what is told ------------------------------------------------------------------------------

    /// Somebody wants a sentence about each step.
    fn listening(&self) -> bool;
    /// Appends to the sentence.
    fn say(&mut self, text: Arguments<'_>);
    /// The invariant's `sometimes` event happened.
    fn witness(&mut self, invariant: Invariant);
    /// The invariant is broken, and the state still has a meaning.
    fn violate(&mut self, invariant: Invariant, text: Arguments<'_>);
    /// The invariant is broken, and nothing that follows would mean anything.
    fn broken(&mut self, invariant: Invariant, text: Arguments<'_>) -> Stop;
    /// Something was used after it was gone.
    fn gone(&mut self, what: Gone) -> Stop {
        self.broken(Invariant::NoUseAfterFree, format_args!("{}", what.text()))
    }
    /// The system call returns: its result is judged, and the task forgets its local variables.
    fn returns(&mut self) -> Step;
    /// Checks of kdata that somebody calls through: it must be built to the end.
    fn check_whole(&mut self, kdata: KdataOf<Self>) -> Step;

    /// A bound of the model is reached: what follows is unknown.
    fn table_full(&mut self) -> Stop;

    // ---- derived -----------------------------------------------------------------------------------

    /// `st_ops` of a map's type: functions that live in the type's module.
    fn st_ops(&mut self, decl: u8) -> Step<Subsystem> {
        let world = self.world();
        let ty = &world.types[world.maps[usize::from(decl)].ty];
        if ty.module && self.module_unloaded() {
            return Err(self.gone(Gone::Module));
        }
        Ok(ty.subsystem)
    }

    /// The place of the first registration that is looked for.
    fn find_registration(&mut self, wanted: impl Fn(&Reg<Self::P>) -> bool) -> Option<usize> {
        for place in 0.. {
            if wanted(&self.registration(place)?) {
                return Some(place);
            }
        }
        None
    }

    /// kallsyms learns of trampolines before they are reachable.
    fn ksyms_early(&self) -> bool {
        self.design().kallsyms == crate::design::KsymTime::BeforeReg
    }
}
