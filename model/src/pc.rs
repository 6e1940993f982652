//! The steps: every label that a CPU's program counter can have, with the kernel function it stands for.
//!
//! One row, one atomic step. The code of a step is in the file of its function, in `proc` or
//! `subsys`; this table is what `explain` prints and what the reductions know of a step.

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

/// What is known of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// The label.
    pub pc: Pc,
    /// Its name in commands and JSON.
    pub name: &'static str,
    /// The kernel function.
    pub function: &'static str,
    /// The file of that function.
    pub file: &'static str,
    /// What the step does and why it is atomic.
    pub why: &'static str,
    /// What it commutes with.
    pub mover: Mover,
}

macro_rules! steps {
    ($($file:literal { $($function:literal { $($variant:ident $mover:ident $why:literal;)+ })+ })+) => {
        /// A program counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Pc {
            /// No procedure in progress.
            #[default]
            Idle,
            $($($(#[doc = $why] $variant,)+)+)+
        }

        /// Every step, in the order of [`Pc`] without `Idle`.
        pub const STEPS: &[StepInfo] = &[$($($(StepInfo {
            pc: Pc::$variant,
            name: stringify!($variant),
            function: $function,
            file: $file,
            why: $why,
            mover: Mover::$mover,
        },)+)+)+];

        impl Pc {
            /// Every value.
            pub const ALL: &[Pc] = &[Pc::Idle, $($($(Pc::$variant,)+)+)+];
        }
    };
}

steps! {
    "kernel/bpf/syscall.c" {
        "bpf_map_put" {
            MapPut No "Drops a map reference; the last one queues bpf_map_free_deferred().";
        }
        "__sys_bpf" {
            PutRefs No "Drops what the system call still holds: F_REPLACE's old map, attachments, the link.";
            Finish Both "The system call returns its result.";
        }
        "map_create" {
            MapCreate No "Looks up the type and takes its module (btf_try_get_module()).";
        }
        "map_lookup_elem" {
            MapLookup No "Copies state and uvalue; the state is read with acquire.";
        }
        "bpf_map_release" {
            MapRelease No "close(): the process's fd is gone, then bpf_map_put().";
        }
        "bpf_link_put" {
            LinkPut No "Drops a link reference; the last one deallocates.";
        }
        "bpf_link_release" {
            LinkRelease No "close(): the process's fd is gone, then bpf_link_put().";
        }
        "bpf_link_pin" {
            LinkPin No "A bpffs inode takes a reference.";
            LinkUnpin No "The inode goes, then bpf_link_put().";
        }
        "bpf_link_get_info_by_fd" {
            LinkInfo No "rcu_read_lock() and the load of link->map, which a detach may overtake.";
            LinkInfoRead No "Reads map->id under RCU and ends the reader.";
        }
        "bpf_prog_put" {
            ProgRelease No "close(): the process's fd is gone, then the program's reference.";
        }
        "exit_files" {
            ExitNext No "Closes an open link, socket or map of the process, in any order; programs last.";
        }
        "bpf_map_free_deferred" {
            MapFree No "Work item: puts the module, takes the ksyms out of kallsyms and starts the grace periods.";
            MapFreeGp No "The grace periods are over: programs are put, ksyms, pages and both values are freed.";
        }
    }
    "kernel/bpf/bpf_struct_ops.c" {
        "bpf_struct_ops_map_alloc" {
            MapAlloc No "Allocates the map and installs the fd; nobody knew it before.";
        }
        "bpf_struct_ops_map_update_elem" {
            UpdTlinks Both "Checks flags and key, allocates tlinks.";
            UpdLock Right "mutex_lock(&st_map->lock).";
            UpdMembers No "Tests the state; in INIT fills links[], ksyms[], pages and kvalue, validates and protects: all under the lock, and nobody reads them while the state is INIT.";
            UpdPublish No "Link maps: smp_store_release(state, READY). Plain maps: on to reg().";
            UpdKsymsEarly No "kallsyms learns of the trampolines before reg() makes them reachable.";
            UpdRegDone No "Plain maps: takes the registered reference, state INUSE; or resets after a failing reg().";
            UpdUnlock Left "mutex_unlock(&st_map->lock).";
            UpdKsyms No "bpf_struct_ops_map_add_ksyms(), after the unlock.";
        }
        "bpf_struct_ops_map_delete_elem" {
            DelCmpxchg No "cmpxchg(state, INUSE, TOBEFREE): the winner unregisters.";
            DelUnregDone No "Drops the registered reference.";
        }
        "bpf_struct_ops_link_create" {
            LcGet No "bpf_map_get(): a reference through the fd.";
            LcValid No "bpf_struct_ops_valid_to_reg(): link map, state READY (acquire).";
            LcAlloc Both "kzalloc(link) and bpf_link_prime(): nobody finds the link before it is settled.";
            LcBuild Both "Builds the attachment: kdata, ksyms, pages, all still private.";
            LcLock Right "mutex_lock(&update_mutex).";
            LcGuard No "One link per map: READY to INUSE, or -EBUSY.";
            LcKsymsEarly No "kallsyms learns of the trampolines before reg() makes them reachable.";
            LcReg Both "Calls the subsystem's reg().";
            LcRegDone No "link->map is set, or what was generated is taken back.";
            LcUnlock Left "mutex_unlock(&update_mutex).";
            LcSettle No "bpf_link_settle(): the fd is installed.";
            LcCleanup No "bpf_link_cleanup(): the primed link goes.";
        }
        "bpf_struct_ops_prepare_attach" {
            PrepMember No "One member: ksym, trampoline into the current page, pointer into the map's kvalue, which others may be calling through.";
            PrepSeal No "validate(), then the pages become read-only and executable.";
        }
        "bpf_struct_ops_map_link_update" {
            LuGet No "References on the link, the new map and F_REPLACE's old map.";
            LuValid No "The new map must be READY and the subsystem must have update().";
            LuBuild Both "Builds the new attachment, still private.";
            LuLock Right "mutex_lock(&update_mutex).";
            LuCheck No "Is the link attached, to the expected map, of the same type?";
            LuKsymsEarly No "kallsyms learns of the new trampolines.";
            LuUpdate Both "Calls the subsystem's update().";
            LuUpdDone No "Swaps link->map and drops the old one, or takes back what was generated.";
            LuWait No "Waits for grace periods under update_mutex.";
            LuUnlock Left "mutex_unlock(&update_mutex).";
        }
        "bpf_struct_ops_map_link_detach" {
            LdGet No "A reference on the link.";
            LdLock Right "mutex_lock(&update_mutex).";
            LdCheck No "A link without map is detached already.";
            LdUnregDone No "link->map = NULL and the map is put.";
            LdWait No "Waits for grace periods under update_mutex.";
            LdUnlock Left "mutex_unlock(&update_mutex); pollers are woken.";
        }
        "bpf_struct_ops_map_link_dealloc" {
            DeallocUnreg No "The last reference is gone: unregisters if still attached, without update_mutex.";
            DeallocFree No "Puts the map and frees the link.";
        }
        "bpf_struct_ops_attachment_free" {
            AttachmentFree No "Work item: the first grace period begins. The ksyms stay: who is inside is still named.";
            AttachmentFreeGp No "A grace period is over: the next one begins.";
            AttachmentFreeEnd No "The last grace period is over: ksyms leave kallsyms, pages and kdata go, programs and map are put.";
        }
    }
    "arch/x86/net/bpf_jit_comp.c" {
        "arch_prepare_bpf_trampoline" {
            CallRead No "The caller loads the function pointer from kdata.";
            CallEnter No "The trampoline runs: frame, run_ctx.bpf_cookie = immediate, __bpf_prog_enter().";
            CallBody No "The program runs and asks for its cookie.";
            CallSleep No "The program sleeps and wakes: a voluntary switch, a quiescent state of Tasks RCU.";
            CallExit No "__bpf_prog_exit(): the program's read side ends.";
            CallRet No "The last instructions of the trampoline, then the return to the caller.";
        }
    }
    "net/ipv4/tcp_cong.c" {
        "tcp_register_congestion_control" {
            TcpReg No "Under tcp_cong_list_lock: the name must be free, then list_add_tail_rcu().";
        }
        "tcp_unregister_congestion_control" {
            TcpUnreg No "Under tcp_cong_list_lock: list_del_rcu(); then synchronize_rcu() begins.";
        }
        "tcp_update_congestion_control" {
            TcpUpdate No "Under tcp_cong_list_lock: list_add_tail_rcu(new), list_del_rcu(old); then synchronize_rcu() begins.";
        }
        "tcp_set_congestion_control" {
            SockFind No "rcu_read_lock() and the walk of tcp_cong_list to the name.";
            SockGet No "bpf_struct_ops_get(kdata): a reference unless the count is 0; rcu_read_unlock().";
            SockCall No "lock_sock(); the socket holds its algorithm, no RCU needed.";
            SockCallDone No "release_sock().";
        }
        "tcp_cleanup_congestion_control" {
            SockRelease No "close(): bpf_struct_ops_put(kdata).";
        }
    }
    "kernel/rcu/tree.c" {
        "synchronize_rcu" {
            SyncRcu No "The grace period is over: readers that could see the old entry are gone.";
        }
    }
    "kernel/sched/ext.c" {
        "scx_ops_enable" {
            ScxEnable No "-EBUSY unless disabled; the ops struct is copied.";
            ScxInitDone No "ops.init() has returned: enabled, or disabled again.";
        }
        "scx_ops_disable" {
            ScxDisable No "No new calls; waits for the running ones.";
            ScxDisabled No "Nobody runs the scheduler any more: the copy is cleared.";
            ScxError No "An error disables the scheduler; its link stays.";
        }
        "SCX_CALL_OP" {
            ScxCall No "With preemption off: is a scheduler enabled? Loads the pointer from the copy.";
            ScxCallDone Left "Preemption is on again.";
        }
    }
    "tools/testing/selftests/bpf/bpf_testmod/bpf_testmod.c" {
        "bpf_dummy_reg" {
            AlwaysReg No "Remembers kdata and begins to call its members.";
            AlwaysRegNext No "Calls the next member.";
        }
        "bpf_dummy_unreg" {
            AlwaysUnreg No "Forgets the registration, waits for nobody.";
        }
        "st_ops_reg" {
            SingletonReg No "Under st_ops_mutex: -EEXIST if there is one.";
        }
        "st_ops_unreg" {
            SingletonUnreg No "Under st_ops_mutex: forgets kdata.";
        }
        "multi_st_ops_reg" {
            KeyedReg No "Under its lock: -EEXIST if the map's id is registered.";
        }
        "multi_st_ops_unreg" {
            KeyedUnreg No "Under its lock: removes the map's id, then synchronize_rcu() begins.";
        }
        "bpf_kfunc_st_ops_test_prologue" {
            RegCall No "Finds the registration; rcu_read_lock() for members that do not sleep, st_ops_mutex for the singleton.";
            RegCallDone Left "Ends what RegCall began.";
        }
        "bpf_testmod_exit" {
            Rmmod No "delete_module(): refused while the module is in use.";
        }
    }
    "drivers/hid/bpf/hid_bpf_struct_ops.c" {
        "hid_bpf_reg" {
            HidReg No "Under prog_list_lock: -EINVAL if the device has a rdesc_ops, else it is kdata: a probe may find it from here on.";
            HidRegData No "hid_bpf_allocate_event_data(). If that fails rdesc_ops is NULL again, and nobody waits for a probe that has found it.";
        }
        "hid_bpf_unreg" {
            HidUnreg No "Under prog_list_lock: rdesc_ops is NULL again.";
        }
    }
    "drivers/hid/bpf/hid_bpf_dispatch.c" {
        "hid_bpf_reconnect" {
            HidReconnect No "device_reprobe(): waits for device_lock(), and so for a probe in progress; then probes again, which calls the fixup if there is one.";
            HidReconnectDone Left "The probe is over: device_unlock().";
        }
        "call_hid_bpf_rdesc_fixup" {
            HidProbe No "A probe, under device_lock(), loads rdesc_ops and its member. No other lock, no read-side section.";
            HidProbeDone Left "The probe is over: device_unlock().";
        }
    }
    "include/linux/bpf.h" {
        "bpf_struct_ops.update" {
            AlwaysUpdate No "The registration points to the new kdata.";
        }
    }
    "net/bpf/bpf_dummy_struct_ops.c" {
        "bpf_dummy_reg" {
            DummyReg No "-EOPNOTSUPP.";
        }
        "bpf_struct_ops_test_run" {
            TestRun No "Generates a trampoline for one program into a page of its own and protects it.";
            TestRunDone No "Frees the page: the only caller has returned.";
        }
    }
}

impl Pc {
    /// What is known of this step; `None` for `Idle`.
    #[inline]
    pub fn info(self) -> Option<&'static StepInfo> {
        (self as usize).checked_sub(1).map(|i| &STEPS[i])
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().map_or("Idle", |i| i.name)
    }
}
