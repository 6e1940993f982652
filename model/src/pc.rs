//! The steps: every label that a CPU's program counter can have, where each is carried out.
//!
//! One row, one atomic step. The code of a step is in `proc` or `subsys`, in the file of its function; this table
//! is what `explain` prints and what the reductions know of a step.

use crate::place::{Code, Place, always, moved, new_in_7_3, new_in_7_4, series};
use crate::subsys::Subsystem;

use Procedure::{
    Assoc, Call, Cgroup, Link, LinkCreate, LinkDetach, LinkUpdate, Map, MapUpdate, Of, Prepare,
    Syscall, Worker,
};
use Subsystem::{Always, Dummy, HidBpf, IoUring, SchedExt, TcpCong};

/// What a step commutes with, after Lipton: it decides which steps may be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// Touches only what nobody else can reach: commutes with every step of others, both ways.
    Both,
    /// Acquires a lock: others' steps that come after it could as well come before.
    Right,
    /// Releases a lock or ends a reader: others' steps that come before it could as well come after.
    Left,
    /// Others may observe it.
    No,
}

/// What a step is a step of: the file that has its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Procedure {
    Syscall,
    Map,
    Link,
    MapUpdate,
    LinkCreate,
    LinkUpdate,
    LinkDetach,
    Prepare,
    /// Of what attaches to cgroups.
    Cgroup,
    Call,
    /// Of programs that are tied to maps.
    Assoc,
    /// Of a deferred free.
    Worker,
    /// Of this subsystem, or of its family.
    Of(Subsystem),
}

/// What is known of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// The label.
    pub pc: Pc,
    /// Its name in commands and JSON.
    pub name: &'static str,
    /// What it is a step of.
    pub(crate) procedure: Procedure,
    /// Where it is carried out.
    pub place: Place,
    /// What the step does and why it is atomic.
    pub why: &'static str,
    /// What it commutes with.
    pub mover: Mover,
}

macro_rules! steps {
    ($($procedure:expr, $place:expr => { $($variant:ident $mover:ident $why:literal;)+ })+) => {
        /// A program counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Pc {
            /// No procedure in progress.
            #[default]
            Idle,
            $($(#[doc = $why] $variant,)+)+
        }

        /// Every step, in the order of [`Pc`] without `Idle`.
        pub const STEPS: &[StepInfo] = &[$($(StepInfo {
            pc: Pc::$variant,
            name: stringify!($variant),
            procedure: $procedure,
            place: $place,
            why: $why,
            mover: Mover::$mover,
        },)+)+];

        impl Pc {
            /// Every value.
            pub const ALL: &[Pc] = &[Pc::Idle, $($(Pc::$variant,)+)+];
        }
    };
}

const SYSCALL: &str = "kernel/bpf/syscall.c";
const INODE: &str = "kernel/bpf/inode.c";
const STRUCT_OPS: &str = "kernel/bpf/bpf_struct_ops.c";
const TCP: &str = "net/ipv4/tcp_cong.c";
const SCX: &str = "kernel/sched/ext.c";
const SCX_7_3: &str = "kernel/sched/ext/ext.c";
const TESTMOD: &str = "tools/testing/selftests/bpf/bpf_testmod/bpf_testmod.c";
const TESTMOD_7_3: &str = "tools/testing/selftests/bpf/test_kmods/bpf_testmod.c";
const HID: &str = "drivers/hid/bpf/hid_bpf_struct_ops.c";
const HID_DISPATCH: &str = "drivers/hid/bpf/hid_bpf_dispatch.c";
const CGROUP: &str = "kernel/bpf/cgroup.c";
const CORE: &str = "kernel/bpf/core.c";
const TEST_RUN: &str = "net/bpf/test_run.c";
const HELPERS: &str = "kernel/bpf/helpers.c";
const DUMMY: &str = "net/bpf/bpf_dummy_struct_ops.c";
const BPF_OPS: &str = "io_uring/bpf-ops.c";
const IO_URING: &str = "io_uring/io_uring.c";

steps! {
    Map, always("bpf_map_put", SYSCALL) => {
        MapPut No "Drops a map reference; the last one queues bpf_map_free_deferred().";
    }
    Link, always("link_update", SYSCALL) => {
        LuPutRefs No "Drops what the system call still holds: the maps, which link_update_map() puts, attachments, the link.";
    }
    Syscall, Place::Code(Code::Return) => {
        Finish Both "The operation returns its result.";
    }
    Map, always("bpf_struct_ops_map_alloc", STRUCT_OPS) => {
        MapCreate No "Looks up the type and takes its module (btf_try_get_module()).";
    }
    Map, always("bpf_struct_ops_map_sys_lookup_elem", STRUCT_OPS) => {
        MapLookup No "Copies state and uvalue; the state is read with acquire.";
    }
    Map, always("bpf_map_release", SYSCALL) => {
        MapRelease No "close(): the process's fd is gone, then bpf_map_put().";
    }
    Link, always("bpf_link_put", SYSCALL) => {
        LinkPut No "Drops a link reference; the last one deallocates.";
    }
    Link, always("bpf_link_release", SYSCALL) => {
        LinkRelease No "close(): the process's fd is gone, then bpf_link_put().";
    }
    Link, always("bpf_obj_pin_user", INODE) => {
        ObjPin No "A bpffs inode takes a reference.";
    }
    Link, always("bpf_destroy_inode", INODE) => {
        ObjUnpin No "unlink(): the inode goes, then bpf_link_put() or bpf_map_put().";
    }
    Link, always("bpf_struct_ops_map_link_fill_link_info", STRUCT_OPS) => {
        LinkInfo No "rcu_read_lock() and the load of link->map, which a detach may overtake.";
        LinkInfoRead No "Reads map->id under RCU and ends the reader.";
    }
    Syscall, always("bpf_prog_release", SYSCALL) => {
        ProgRelease No "close(): the process's fd is gone, then the program's reference.";
    }
    Syscall, always("exit_files", "fs/file.c") => {
        ExitNext No "Closes an open link, socket or map of the process, in any order; programs last.";
    }
    Worker, always("bpf_struct_ops_map_free", STRUCT_OPS) => {
        MapFree No "Work item: puts the module, takes the ksyms out of kallsyms and starts the grace periods.";
        MapFreeGp No "A grace period is over. The next one begins, if the design has several; then programs are put, ksyms, pages and both values are freed.";
    }
    Map, always("map_create", SYSCALL) => {
        MapAlloc No "The map is allocated, and nobody knows it before its fd is installed (bpf_map_new_fd()).";
    }
    MapUpdate, always("bpf_struct_ops_map_update_elem", STRUCT_OPS) => {
        UpdTlinks Both "Checks flags and key, allocates the arguments of the generator.";
        UpdLock Right "mutex_lock(&st_map->lock).";
        UpdMembers No "Tests the state; in INIT fills links[], ksyms[], pages and kvalue, validates and protects: all under the lock, and nobody reads them while the state is INIT.";
        UpdPublish No "Link maps: smp_store_release(state, READY). Plain maps: on to reg().";
    }
    MapUpdate, series("link-owned", "bpf_struct_ops_attachment_create", STRUCT_OPS) => {
        UpdKsymsEarly No "kallsyms learns of the trampolines before reg() makes them reachable.";
    }
    MapUpdate, always("bpf_struct_ops_map_update_elem", STRUCT_OPS) => {
        UpdRegDone No "Plain maps: takes the registered reference, state INUSE; or resets after a failing reg().";
        UpdUnlock Left "mutex_unlock(&st_map->lock).";
        UpdKsyms No "bpf_struct_ops_map_add_ksyms(), after the unlock.";
    }
    Map, always("bpf_struct_ops_map_delete_elem", STRUCT_OPS) => {
        DelCmpxchg No "cmpxchg(state, INUSE, TOBEFREE): the winner unregisters.";
        DelUnregDone No "Drops the registered reference.";
    }
    LinkCreate, always("bpf_struct_ops_link_create", STRUCT_OPS) => {
        LcGet No "bpf_map_get(): a reference through the fd.";
        LcValid No "bpf_struct_ops_valid_to_reg(): link map, state READY (acquire).";
        LcAlloc Both "The link is allocated, and bpf_link_prime(): nobody finds the link before it is settled.";
    }
    LinkCreate, series("link-owned", "bpf_struct_ops_attachment_create", STRUCT_OPS) => {
        LcBuild Both "Builds the attachment: kdata, ksyms, pages, all still private.";
    }
    LinkCreate, always("bpf_struct_ops_link_create", STRUCT_OPS) => {
        LcLock Right "mutex_lock(&update_mutex).";
    }
    LinkCreate, Place::Code(Code::Model) => {
        LcGuard No "One link per map: READY to INUSE, or -EBUSY.";
    }
    LinkCreate, series("link-owned", "bpf_struct_ops_attachment_create", STRUCT_OPS) => {
        LcKsymsEarly No "kallsyms learns of the trampolines before reg() makes them reachable.";
    }
    LinkCreate, always("bpf_struct_ops_link_create", STRUCT_OPS) => {
        LcReg Both "Calls the subsystem's reg().";
        LcRegDone No "link->map is set, or what was generated is taken back.";
        LcUnlock Left "mutex_unlock(&update_mutex).";
        LcSettle No "bpf_link_settle(): the fd is installed.";
        LcCleanup No "bpf_link_cleanup(): the primed link goes.";
    }
    Prepare, series("rfc", "bpf_struct_ops_prepare_attach", STRUCT_OPS) => {
        PrepMember No "One member: ksym, trampoline into the current page, pointer into the map's kvalue, which others may be calling through.";
        PrepSeal No "validate(), then the pages become read-only and executable.";
    }
    LinkUpdate, always("link_update", SYSCALL) => {
        LuGet No "References on the link and, in link_update_map(), on the new map and F_REPLACE's old map.";
    }
    LinkUpdate, always("bpf_struct_ops_map_link_update", STRUCT_OPS) => {
        LuValid No "The new map must be READY and the subsystem must have update().";
    }
    LinkUpdate, series("link-owned", "bpf_struct_ops_attachment_create", STRUCT_OPS) => {
        LuBuild Both "Builds the new attachment, still private.";
    }
    LinkUpdate, always("bpf_struct_ops_map_link_update", STRUCT_OPS) => {
        LuLock Right "mutex_lock(&update_mutex).";
        LuCheck No "Is the link attached, to the expected map, of the same type?";
    }
    LinkUpdate, series("link-owned", "bpf_struct_ops_attachment_create", STRUCT_OPS) => {
        LuKsymsEarly No "kallsyms learns of the new trampolines.";
    }
    LinkUpdate, always("bpf_struct_ops_map_link_update", STRUCT_OPS) => {
        LuUpdate Both "Calls the subsystem's update().";
        LuUpdDone No "Swaps link->map and drops the old one, or takes back what was generated.";
    }
    LinkUpdate, Place::Code(Code::Model) => {
        LuWait No "Waits for grace periods under update_mutex.";
    }
    LinkUpdate, always("bpf_struct_ops_map_link_update", STRUCT_OPS) => {
        LuUnlock Left "mutex_unlock(&update_mutex).";
    }
    LinkDetach, always("link_detach", SYSCALL) => {
        LdGet No "A reference on the link.";
    }
    LinkDetach, always("bpf_struct_ops_map_link_detach", STRUCT_OPS) => {
        LdLock Right "mutex_lock(&update_mutex).";
        LdCheck No "A link without map is detached already.";
        LdUnregDone No "link->map = NULL and the map is put.";
    }
    LinkDetach, Place::Code(Code::Model) => {
        LdWait No "Waits for grace periods under update_mutex.";
    }
    LinkDetach, always("bpf_struct_ops_map_link_detach", STRUCT_OPS) => {
        LdUnlock Left "mutex_unlock(&update_mutex); pollers are woken.";
    }
    LinkDetach, always("bpf_struct_ops_map_link_dealloc", STRUCT_OPS) => {
        DeallocUnreg No "The last reference is gone: unregisters if still attached, without update_mutex.";
        DeallocFree No "Puts the map and frees the link.";
    }
    Worker, series("link-owned", "bpf_struct_ops_attachment_free_deferred", STRUCT_OPS) => {
        AttachmentFree No "Work item: the first grace period begins. The ksyms stay: who is inside is still named.";
        AttachmentFreeGp No "A grace period is over: the next one begins.";
        AttachmentFreeEnd No "The last grace period is over: ksyms leave kallsyms, then pages and kdata go, programs and map are put.";
    }
    Call, Place::Code(Code::Caller) => {
        CallRead No "Loads the function pointer from kdata.";
    }
    Call, Place::Code(Code::Trampoline) => {
        CallEnter No "Frame, run_ctx.bpf_cookie = immediate, then __bpf_prog_enter() or __bpf_prog_enter_sleepable().";
    }
    Call, Place::Code(Code::Program) => {
        CallBody No "The program runs and asks for its cookie.";
        CallSleep No "The program sleeps and wakes: a voluntary switch, a quiescent state of Tasks RCU.";
    }
    Call, Place::Code(Code::Trampoline) => {
        CallExit No "__bpf_prog_exit() or __bpf_prog_exit_sleepable(): the program's read side ends.";
        CallRet No "The last instructions, then the return to the caller.";
    }
    Of(TcpCong), always("tcp_register_congestion_control", TCP) => {
        TcpReg No "Under tcp_cong_list_lock: the name must be free, then list_add_tail_rcu().";
    }
    Of(TcpCong), always("tcp_unregister_congestion_control", TCP) => {
        TcpUnreg No "Under tcp_cong_list_lock: list_del_rcu(); then synchronize_rcu() begins.";
    }
    Of(TcpCong), always("tcp_update_congestion_control", TCP) => {
        TcpUpdate No "Under tcp_cong_list_lock: list_add_tail_rcu(new), list_del_rcu(old); then synchronize_rcu() begins.";
    }
    Of(TcpCong), always("tcp_set_congestion_control", TCP) => {
        SockFind No "setsockopt(): rcu_read_lock() and the walk of tcp_cong_list to the name.";
        SockGet No "bpf_struct_ops_get(kdata): a reference unless the count is 0; rcu_read_unlock().";
    }
    Of(TcpCong), Place::Code(Code::Caller) => {
        SockCall No "A system call on the socket: lock_sock(). The socket holds its algorithm, no RCU needed.";
    }
    Of(TcpCong), always("release_sock", "net/core/sock.c") => {
        SockCallDone No "The socket's lock is free again.";
    }
    Of(TcpCong), always("tcp_cleanup_congestion_control", TCP) => {
        SockRelease No "close(): bpf_struct_ops_put(kdata).";
    }
    Of(TcpCong), always("synchronize_rcu", "kernel/rcu/tree.c") => {
        SyncRcu No "The grace period is over: readers that could see the old entry are gone.";
    }
    Of(SchedExt), moved("scx_ops_enable_workfn", SCX, "scx_root_enable_workfn", SCX_7_3) => {
        ScxEnable No "-EBUSY unless disabled; the ops struct is copied.";
        ScxInitDone No "ops.init() has returned: enabled, or disabled again.";
    }
    Of(SchedExt), moved("scx_ops_disable_workfn", SCX, "scx_disable_workfn", SCX_7_3) => {
        ScxDisable No "No new calls; waits for the running ones.";
    }
    Of(SchedExt), moved("scx_ops_disable_workfn", SCX, "scx_root_disable", SCX_7_3) => {
        ScxDisabled No "Nobody runs the scheduler any more: no caller finds the copy.";
    }
    Of(SchedExt), moved("scx_ops_disable_workfn", SCX, "scx_disable_workfn", SCX_7_3) => {
        ScxError No "An error disables the scheduler; its link stays.";
    }
    Of(SchedExt), Place::Code(Code::Caller) => {
        ScxCall No "With preemption off: is a scheduler enabled? SCX_CALL_OP() loads the pointer from the copy.";
        ScxCallDone Left "Preemption is on again.";
    }
    Of(Always), moved("bpf_dummy_reg", TESTMOD, "bpf_dummy_reg", TESTMOD_7_3) => {
        AlwaysReg No "Begins to call the members. That kdata is remembered is the model's.";
        AlwaysRegNext No "Calls the next member.";
    }
    Of(Always), moved("bpf_dummy_unreg", TESTMOD, "bpf_dummy_unreg", TESTMOD_7_3) => {
        AlwaysUnreg No "Waits for nobody. That the registration is forgotten is the model's.";
    }
    Of(Always), moved("st_ops_reg", TESTMOD, "st_ops_reg", TESTMOD_7_3) => {
        SingletonReg No "Under st_ops_mutex: -EEXIST if there is one.";
    }
    Of(Always), moved("st_ops_unreg", TESTMOD, "st_ops_unreg", TESTMOD_7_3) => {
        SingletonUnreg No "Under st_ops_mutex: forgets kdata.";
    }
    Of(Always), new_in_7_3("multi_st_ops_reg", TESTMOD_7_3) => {
        KeyedReg No "Under its lock: -EEXIST if the map's id is registered.";
    }
    Of(Always), new_in_7_3("multi_st_ops_unreg", TESTMOD_7_3) => {
        KeyedUnreg No "Under its lock: removes the map's id. Calls hold that lock in the kernel; in the model they are RCU readers, and a grace period waits for them.";
    }
    Of(Always), Place::Code(Code::Model) => {
        AlwaysCall No "Finds the registration; rcu_read_lock() for members that do not sleep.";
        AlwaysCallDone Left "The reader ends.";
    }
    Of(Always), always("try_stop_module", "kernel/module/main.c") => {
        Rmmod No "delete_module(): refused while the module is in use.";
    }
    Of(HidBpf), always("hid_bpf_reg", HID) => {
        HidReg No "Under no lock of its own: -EINVAL if ops->hdev is set, else it is set.";
        HidRegData No "hid_bpf_allocate_event_data(), where the device has no buffer yet; then the struct goes into prog_list, and synchronize_srcu() begins.";
    }
    Of(HidBpf), always("hid_bpf_unreg", HID) => {
        HidUnreg No "Nothing to do where ops->hdev is NULL.";
    }
    Of(HidBpf), always("hid_bpf_reconnect", HID_DISPATCH) => {
        HidReconnect No "device_reprobe(): waits for device_lock(), and so for a probe in progress; then probes again, which looks whether there is a rdesc_ops.";
    }
    Of(HidBpf), always("call_hid_bpf_rdesc_fixup", HID_DISPATCH) => {
        HidProbe No "A probe, under device_lock(), looks whether there is a rdesc_ops. No other lock, no read-side section.";
    }
    Of(HidBpf), Place::Code(Code::Caller) => {
        HidProbed Left "The probe is over: device_unlock().";
    }
    Of(Always), Place::Code(Code::Model) => {
        AlwaysUpdate No "The registration points to the new kdata.";
    }
    Of(Subsystem::Own(0)), Place::Code(Code::Subsystem) => {
        Script No "One line of a function of the scenario's own subsystem.";
        ScriptWaited No "The grace period that a line has asked for is over.";
    }
    Of(Dummy), always("bpf_dummy_reg", DUMMY) => {
        DummyReg No "-EOPNOTSUPP.";
    }
    Of(Dummy), always("bpf_struct_ops_test_run", DUMMY) => {
        TestRun No "Generates a trampoline for one program into a page of its own and protects it.";
        TestRunDone No "Frees the page: the only caller has returned.";
    }
    Link, always("link_detach", SYSCALL) => {
        LdPutRefs No "Drops what the system call still holds: the attachment that the link has let go of, the link.";
    }
    Of(Always), moved("bpf_kfunc_st_ops_test_prologue", TESTMOD, "bpf_kfunc_st_ops_test_prologue", TESTMOD_7_3) => {
        SingletonCall No "Takes st_ops_mutex and finds the registration.";
        SingletonCallDone Left "mutex_unlock(&st_ops_mutex).";
    }
    Of(Always), new_in_7_3("bpf_kfunc_multi_st_ops_test_1", TESTMOD_7_3) => {
        KeyedCall No "Finds the registration by the map's id, under multi_st_ops_lock; the model has an RCU reader in its place.";
        KeyedCallDone Left "The reader ends.";
    }
    Link, always("bpf_any_get", INODE) => {
        ObjGet No "BPF_OBJ_GET: the path leads to a bpffs inode, whose reference is there; one more is taken.";
    }
    Link, always("bpf_link_by_id", SYSCALL) => {
        LinkById No "Under link_idr_lock: -ENOENT if no link has the id, -EAGAIN before bpf_link_settle(), else a reference unless the count is 0.";
    }
    Link, always("bpf_link_new_fd", SYSCALL) => {
        LinkNewFd No "A new file for the link, and its fd is installed.";
    }
    Map, always("bpf_map_get_fd_by_id", SYSCALL) => {
        MapById No "Under map_idr_lock: -ENOENT if no map has the id, else a reference unless the count is 0.";
    }
    Map, always("bpf_map_new_fd", SYSCALL) => {
        MapNewFd No "A new file for the map, and its fd is installed.";
    }
    Link, always("fd_install", "fs/file.c") => {
        Dup No "dup(): one more fd of the file.";
    }
    Syscall, always("dup_fd", "fs/file.c") => {
        Fork No "The child has every fd that its parent has.";
    }
    Cgroup, new_in_7_4("cgroup_bpf_struct_ops_attach", CGROUP) => {
        CgTarget No "cgroup_get_from_fd(): a reference on the cgroup; -ENOENT if it is offline.";
        CgAttach No "Under cgroup_mutex: the link goes into the cgroup's list at its anchor; new effective arrays of the cgroup and its descendants are allocated, then all activated. No reg() is called.";
    }
    Cgroup, new_in_7_4("cgroup_struct_ops_link_detach", CGROUP) => {
        CgDetach No "Under cgroup_mutex: new effective arrays without the link, or, where one cannot be allocated, the stubs in the link's place of the old ones; the map is put. Waits for nobody.";
    }
    Cgroup, new_in_7_4("cgroup_struct_ops_link_update", CGROUP) => {
        CgUpdate No "Under cgroup_mutex: link->map is swapped, and the new kdata written into the arrays in place, at the link's position in the lists. No update() is called.";
    }
    Cgroup, new_in_7_4("cgroup_bpf_offline", CGROUP) => {
        CgOffline No "rmdir(): the cgroup is offline, and percpu_ref_kill() begins to wait for its sockets.";
    }
    Cgroup, new_in_7_4("cgroup_bpf_release", CGROUP) => {
        CgRelease No "Work item, when the last socket of the cgroup is gone: under cgroup_mutex every link of its list is detached, and its arrays go.";
    }
    Cgroup, new_in_7_4("cgroup_bpf_prog_query", CGROUP) => {
        CgQuery No "cgroup_get_from_fd(): a reference on the cgroup; -ENOENT if it is offline.";
        CgQueryRead No "Under cgroup_mutex, if there is a link on any cgroup: the effective array is counted, and the id of the map of each kdata copied.";
    }
    Cgroup, Place::Code(Code::Caller) => {
        CgWalk No "A socket of the cgroup: rcu_read_lock_dont_migrate() and the load of the effective array.";
        CgNext No "The next item of the array: its kdata, whose member is called if it is there. After the last one the reader ends.";
    }
    Assoc, new_in_7_3("prog_assoc_struct_ops", SYSCALL) => {
        ProgAssoc No "BPF_PROG_ASSOC_STRUCT_OPS: -EINVAL for a struct_ops program, -EBUSY for one that is tied to another map; else it is tied to the map, and holds it.";
    }
    Assoc, always("bpf_prog_test_run_syscall", TEST_RUN) => {
        ProgRun No "BPF_PROG_TEST_RUN of a syscall program: rcu_read_lock_trace(), and the program runs. Or the hook of a tracing program: rcu_read_lock().";
    }
    Assoc, always("bpf_timer_cb", HELPERS) => {
        TimerCb No "The callback of a bpf_timer is entered, in a softirq: a reader of RCU.";
    }
    Assoc, always("bpf_wq_work", HELPERS) => {
        WqWork No "The callback of a bpf_wq is entered, in a kworker: rcu_read_lock_trace().";
    }
    Assoc, new_in_7_3("bpf_prog_get_assoc_struct_ops", STRUCT_OPS) => {
        AssocGet No "The kfunc that the program calls loads its st_ops_assoc: the struct of the map, or NULL for none and for POISON. No state is looked at.";
    }
    Assoc, Place::Code(Code::Program) => {
        AssocUse No "The kfunc reads the struct, if it has found one.";
    }
    Assoc, always("bpf_prog_test_run_syscall", TEST_RUN) => {
        ProgRunDone No "The read side ends; the program is put.";
    }
    Assoc, Place::Code(Code::Program) => {
        CallbackDone No "The callback returns: its read side ends, and the program is put.";
    }
    Of(IoUring), new_in_7_3("bpf_io_reg", BPF_OPS) => {
        IoReg No "io_uring_ctx_get_file(): which ring ring_fd is in the process that attaches, -EBADF if none; its file is held.";
        IoRegLock Right "mutex_lock(&io_bpf_ctrl_mutex).";
    }
    Of(IoUring), new_in_7_3("io_install_bpf", BPF_OPS) => {
        IoInstall No "Under uring_lock as well: -EBUSY if the ring has a struct or the struct a ring; else each points to the other, and the ring has a copy of loop_step. fput().";
    }
    Of(IoUring), new_in_7_3("bpf_io_unreg", BPF_OPS) => {
        IoUnreg No "Under io_bpf_ctrl_mutex: ops->priv is the ring, or NULL if the ring has gone.";
        IoEject No "Under uring_lock as well: io_eject_bpf(), whichever link has put the struct there.";
    }
    Of(IoUring), always("io_uring_create", IO_URING) => {
        RingSetup No "A ring, and its descriptor in the process.";
    }
    Of(IoUring), always("io_uring_release", IO_URING) => {
        RingClose No "close(): the process's fd is gone; with the last one the ring begins to go.";
    }
    Of(IoUring), new_in_7_3("io_unregister_bpf_ops", BPF_OPS) => {
        RingExit No "Work item, once nobody uses the ring's file: under uring_lock, has the ring a struct? If it has none the ring is freed.";
        RingExitLock Right "mutex_lock(&io_bpf_ctrl_mutex).";
        RingEject No "Under uring_lock as well: io_eject_bpf() if the struct is still there. Its link stays. The ring is freed.";
    }
    Of(IoUring), new_in_7_3("io_run_loop", "io_uring/loop.c") => {
        RingEnter No "io_uring_enter(): mutex_lock(&ctx->uring_lock), then one step of the loop through the ring's copy of loop_step.";
        RingEnterDone Left "mutex_unlock(&ctx->uring_lock).";
    }
    Of(HidBpf), always("hid_bpf_reg", HID) => {
        HidRegLock No "Under prog_list_lock: a struct with a fixup is -EINVAL if the device has a rdesc_ops, else it is rdesc_ops: a probe may find it from here on.";
        HidRegSynced Left "mutex_unlock(&hdev->bpf.prog_list_lock).";
        HidRegUndo No "It has failed: under no lock, rdesc_ops is NULL again if it was this struct, and nobody waits for a probe that has found it. ops->hdev stays.";
    }
    Of(HidBpf), always("hid_bpf_unreg", HID) => {
        HidUnregLock No "Under prog_list_lock: list_del_rcu(), and synchronize_srcu() begins.";
        HidUnregSynced No "ops->hdev is NULL, and rdesc_ops if it was this struct; mutex_unlock(&hdev->bpf.prog_list_lock).";
    }
    Of(HidBpf), always("call_hid_bpf_rdesc_fixup", HID_DISPATCH) => {
        HidFixup No "rdesc_ops is loaded again, and its member from it.";
    }
    Of(HidBpf), always("dispatch_hid_bpf_raw_requests", HID_DISPATCH) => {
        HidRequest No "srcu_read_lock(&hdev->bpf.srcu), and an entry of prog_list is found.";
        HidRequestDone Left "srcu_read_unlock(&hdev->bpf.srcu).";
    }
    Worker, always("bpf_prog_free_deferred", CORE) => {
        ProgFree No "Work item, after the program's grace period: it lets go of the map that it is tied to.";
    }
}

/// A set of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSet([u64; StepSet::WORDS]);

impl StepSet {
    /// Words of 64 bits that hold a bit for every step.
    pub const WORDS: usize = Pc::ALL.len().div_ceil(u64::BITS as usize);

    /// Adds a step.
    #[inline]
    pub fn insert(&mut self, step: Pc) {
        self.0[step as usize / 64] |= 1 << (step as u32 % 64);
    }

    /// Whether a step is in it.
    pub fn contains(&self, step: Pc) -> bool {
        self.0[step as usize / 64] & 1 << (step as u32 % 64) != 0
    }

    /// Adds the steps of another set.
    pub fn extend(&mut self, other: &StepSet) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// The steps in the order of [`STEPS`]; `Idle` is none.
    pub fn iter(&self) -> impl Iterator<Item = Pc> {
        STEPS
            .iter()
            .map(|info| info.pc)
            .filter(|step| self.contains(*step))
    }

    /// As words, for whoever shares a set between threads.
    pub fn words(&self) -> &[u64; StepSet::WORDS] {
        &self.0
    }

    /// From [`StepSet::words`].
    pub fn from_words(words: [u64; StepSet::WORDS]) -> Self {
        StepSet(words)
    }
}

impl FromIterator<Pc> for StepSet {
    fn from_iter<I: IntoIterator<Item = Pc>>(steps: I) -> Self {
        let mut set = StepSet::default();
        steps.into_iter().for_each(|step| set.insert(step));
        set
    }
}

impl Pc {
    /// What is known of this step; `None` for `Idle`.
    #[inline]
    pub fn info(self) -> Option<&'static StepInfo> {
        (self as usize).checked_sub(1).map(|i| &STEPS[i])
    }

    /// Where it is carried out.
    pub fn place(self) -> Place {
        self.info().map_or(Place::Code(Code::Return), |i| i.place)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().map_or("Idle", |i| i.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_steps_has_those_that_were_put_in() {
        let all = || STEPS.iter().map(|s| s.pc);
        for step in all() {
            let set = StepSet::from_iter([step]);
            assert!(set.iter().eq([step]), "{step:?}");
            assert!(all().all(|other| set.contains(other) == (other == step)));
            let mut both = StepSet::from_words(*set.words());
            both.extend(&StepSet::from_iter([Pc::CallBody]));
            assert!(both.contains(step) && both.contains(Pc::CallBody));
        }
        assert!(StepSet::from_iter(all()).iter().eq(all()));
        assert_eq!(StepSet::default().iter().count(), 0);
    }
}
