//! The locks of the attach path and of the subsystems: each has a class and an identity.
//!
//! Not the read sides of RCU, and no lock that guards one load or store. Stands for the mutexes and spinlocks
//! named in [`LockClass::name`].

use crate::backend::Pointers;
use crate::kernel::Slots;
use crate::pc::Pc;
use crate::script::{MAX_OWN_LOCKS, Script};

/// A lock of which there is one per class, map, program, socket or ring, or one that the scenario brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock<P: Pointers = Slots> {
    /// `st_map->lock` of this map.
    Map(P::Map),
    /// `lock_sock()` of this socket.
    Sock(u8),
    /// `aux->st_ops_assoc_mutex` of this program.
    Prog(u8),
    /// `uring_lock` of this ring.
    Ring(u8),
    /// One of the scenario's own subsystems: index into [`crate::script::Script::locks`].
    Own(u8),
    /// The only one of its class.
    The(LockClass),
}

impl<P: Pointers> Lock<P> {
    /// Its class: what lockdep would call its key.
    pub fn class(self) -> LockClass {
        match self {
            Lock::Map(_) => LockClass::StMap,
            Lock::Sock(_) => LockClass::Sock,
            Lock::Prog(_) => LockClass::StOpsAssoc,
            Lock::Ring(_) => LockClass::Uring,
            Lock::Own(own) => LockClass::OWN[usize::from(own)],
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
    IoBpfCtrl "io_bpf_ctrl_mutex" "io_uring/bpf-ops.c";
    StMap "st_map->lock" "kernel/bpf/bpf_struct_ops.c";
    Sock "lock_sock" "include/net/sock.h";
    TcpCongList "tcp_cong_list_lock" "net/ipv4/tcp_cong.c";
    MultiStOps "multi_st_ops_lock" "tools/testing/selftests/bpf/test_kmods/bpf_testmod.c";
    Cgroup "cgroup_mutex" "kernel/cgroup/cgroup.c";
    StOpsAssoc "st_ops_assoc_mutex" "include/linux/bpf.h";
    Uring "uring_lock" "include/linux/io_uring_types.h";
    Own0 "own lock 0" "the scenario";
    Own1 "own lock 1" "the scenario";
    Own2 "own lock 2" "the scenario";
    Own3 "own lock 3" "the scenario";
}

/// How many classes have a place in [`crate::kernel::Kernel::locks`].
pub(crate) const HELD: usize = LockClass::IoBpfCtrl as usize + 1;

impl LockClass {
    /// Those of the scenario's own locks, each of which is the only one of its class.
    pub const OWN: [LockClass; MAX_OWN_LOCKS] = [
        LockClass::Own0,
        LockClass::Own1,
        LockClass::Own2,
        LockClass::Own3,
    ];

    /// Its name in a world with these subsystems of its own.
    pub fn name_in(self, script: &Script) -> &str {
        let own = LockClass::OWN.iter().position(|own| *own == self);
        let own = own.and_then(|own| script.locks.get(own));
        own.map_or(self.name(), |name| name)
    }

    /// The place in [`crate::kernel::Kernel::locks`], if it has one.
    #[inline]
    pub(crate) fn place(self) -> Option<usize> {
        Some(self as usize).filter(|place| *place < HELD)
    }
}

/// A lock was taken while another one was held by the same CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nested {
    /// The class of the lock that was held.
    pub held: LockClass,
    /// The class of the lock that was taken.
    pub taken: LockClass,
    /// The step that took it.
    pub step: Pc,
}

/// Which classes of locks were taken while which were held, as lockdep collects it: an order, if no class can be reached
/// from itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LockOrder([u32; LockClass::ALL.len()]);

impl LockOrder {
    /// The order of these pairs.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (LockClass, LockClass)>) -> Self {
        let mut order = LockOrder::default();
        for (held, taken) in pairs {
            order.0[held as usize] |= 1 << taken as u32;
        }
        order
    }

    /// Notes that one was taken while the other one was held.
    pub fn add(&mut self, nested: Nested) {
        self.0[nested.held as usize] |= 1 << nested.taken as u32;
    }

    /// Every pair: held, taken.
    pub fn pairs(self) -> impl Iterator<Item = (LockClass, LockClass)> {
        let all = || LockClass::ALL.iter().copied();
        let pairs = all().flat_map(move |held| all().map(move |taken| (held, taken)));
        pairs.filter(move |(held, taken)| self.0[*held as usize] & 1 << *taken as u32 != 0)
    }

    /// A shortest way along the order, both ends included; none if there is no way.
    pub fn way(&self, from: LockClass, to: LockClass) -> Option<Vec<LockClass>> {
        let mut ways = vec![vec![from]];
        let mut seen = 1u32 << from as u32;
        while !ways.is_empty() {
            if let Some(way) = ways.iter().find(|way| way.last() == Some(&to)) {
                return Some(way.clone());
            }
            let mut longer = Vec::new();
            for way in &ways {
                let next = self.0[*way.last().expect("a way has an end") as usize] & !seen;
                seen |= next;
                for class in LockClass::ALL {
                    if next & 1 << *class as u32 != 0 {
                        longer.push(way.iter().copied().chain([*class]).collect());
                    }
                }
            }
            ways = longer;
        }
        None
    }

    /// The pairs that contradict others: from the lock that was taken a way leads back to the one that was held.
    pub fn cycles(&self) -> Vec<(LockClass, LockClass)> {
        let pairs = self.pairs();
        pairs
            .filter(|(held, taken)| self.way(*taken, *held).is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockClass::{ProgList, Sock, StOps, UpdateMutex};

    #[test]
    fn a_cycle_is_found_and_a_chain_is_none() {
        let chain = [(UpdateMutex, StOps), (StOps, Sock), (UpdateMutex, Sock)];
        assert_eq!(LockOrder::from_pairs(chain).cycles(), []);
        let back = LockOrder::from_pairs(chain.into_iter().chain([(Sock, UpdateMutex)]));
        assert_eq!(back.cycles().len(), 4);
        assert_eq!(
            back.way(StOps, UpdateMutex),
            Some(vec![StOps, Sock, UpdateMutex])
        );
        assert_eq!(back.way(StOps, ProgList), None);
        // Two locks of one class that are held together.
        assert_eq!(
            LockOrder::from_pairs([(Sock, Sock)]).cycles(),
            [(Sock, Sock)]
        );
    }
}
