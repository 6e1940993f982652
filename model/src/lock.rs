//! The locks of the attach path and of the subsystems: each has a class and an identity.
//!
//! Not the read sides of RCU, and no lock that guards one load or store. Stands for the mutexes and spinlocks
//! named in [`LockClass::name`].

use crate::backend::Pointers;
use crate::kernel::Slots;

/// A lock of which there is one per class, map or socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock<P: Pointers = Slots> {
    /// `st_map->lock` of this map.
    Map(P::Map),
    /// `lock_sock()` of this socket.
    Sock(u8),
    /// The only one of its class.
    The(LockClass),
}

impl<P: Pointers> Lock<P> {
    /// Its class: what lockdep would call its key.
    pub fn class(self) -> LockClass {
        match self {
            Lock::Map(_) => LockClass::StMap,
            Lock::Sock(_) => LockClass::Sock,
            Lock::The(class) => class,
        }
    }
}

macro_rules! classes {
    ($($variant:ident $name:literal $file:literal;)+) => {
        /// A class of locks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum LockClass { $(#[doc = concat!("`", $name, "` of ", $file, ".")] $variant),+ }

        impl LockClass {
            /// Every class.
            pub const ALL: &[LockClass] = &[$(LockClass::$variant),+];

            /// The kernel's name of the lock.
            pub fn name(self) -> &'static str {
                match self { $(LockClass::$variant => $name),+ }
            }

            /// The file that has it.
            pub fn file(self) -> &'static str {
                match self { $(LockClass::$variant => $file),+ }
            }
        }
    };
}

// Those that may be held when a step ends come first: each has a place in `Kernel::locks`. The others have their holder
// in the object, or are taken and released within one step.
classes! {
    UpdateMutex "update_mutex" "kernel/bpf/bpf_struct_ops.c";
    StOps "st_ops_mutex" "tools/testing/selftests/bpf/bpf_testmod/bpf_testmod.c";
    ProgList "prog_list_lock" "drivers/hid/bpf/hid_bpf_struct_ops.c";
    Device "device_lock" "include/linux/device.h";
    ScxEnable "scx_ops_enable_mutex" "kernel/sched/ext.c";
    StMap "st_map->lock" "kernel/bpf/bpf_struct_ops.c";
    Sock "lock_sock" "include/net/sock.h";
    TcpCongList "tcp_cong_list_lock" "net/ipv4/tcp_cong.c";
    MultiStOps "multi_st_ops_lock" "tools/testing/selftests/bpf/test_kmods/bpf_testmod.c";
}

/// How many classes have a place in [`crate::kernel::Kernel::locks`].
pub(crate) const HELD: usize = LockClass::ScxEnable as usize + 1;

impl LockClass {
    /// The place in [`crate::kernel::Kernel::locks`], if it has one.
    #[inline]
    pub(crate) fn place(self) -> Option<usize> {
        Some(self as usize).filter(|place| *place < HELD)
    }
}
