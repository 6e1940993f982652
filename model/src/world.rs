//! What does not change during a run: types, programs, map declarations, CPUs and what they do.
//!
//! A scenario file becomes a [`World`]. Names live here; the state in [`crate::kernel`] holds indices.

use crate::invariant::Invariant;
use crate::pc::Pc;
use crate::place::Linux;
use crate::report::Violation;

/// Most members with a program that a modelled struct_ops type may have.
pub const MAX_MEMBERS: usize = 3;
/// `MAX_TRAMP_IMAGE_PAGES` of kernel/bpf/bpf_struct_ops.c.
pub const MAX_TRAMP_IMAGE_PAGES: usize = 8;
/// Bytes of an image page.
pub const PAGE_SIZE: u16 = 4096;
/// Most maps alive at once.
pub const MAX_MAPS: usize = 4;
/// Most links alive at once.
pub const MAX_LINKS: usize = 4;
/// Slots for maps: those freed stay in quarantine while a CPU holds their key.
pub const MAP_SLOTS: usize = MAX_MAPS + 2;
/// Slots for links, likewise.
pub const LINK_SLOTS: usize = MAX_LINKS + 2;
/// Most kdata objects alive at once.
pub const MAX_KDATAS: usize = 8;
/// Most image pages alive at once.
pub const MAX_IMAGES: usize = 12;
/// Most kallsyms entries alive at once.
pub const MAX_KSYMS: usize = 20;
/// Most sockets.
pub const MAX_SOCKS: usize = 2;
/// Most programs.
pub const MAX_PROGS: usize = 8;
/// Most CPUs.
pub const MAX_CPUS: usize = 4;
/// Most processes.
pub const MAX_PROCS: usize = 2;
/// Most entries in a subsystem's table.
pub const MAX_REGS: usize = 4;

/// A kernel subsystem that takes struct_ops, with the data structure that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subsystem {
    /// net/ipv4/tcp_cong.c: an RCU list keyed by name, linked through kdata itself; sockets take references.
    TcpCong,
    /// kernel/sched/ext.c from 6.16 on: one scheduler, ops copied at enable, unreg acts on its own kdata only.
    SchedExt,
    /// kernel/sched/ext.c of 6.12: the same, but unreg disables whatever is enabled.
    SchedExt612,
    /// bpf_testmod_ops: reg() calls the first two members and always succeeds; we also keep what was registered.
    Always,
    /// bpf_testmod's st_ops: one pointer under a mutex that calls hold as well.
    Singleton,
    /// bpf_testmod_multi_st_ops of 7.x: a list keyed by the map's id.
    KeyedByMap,
    /// hid_bpf_ops of drivers/hid/bpf: one `hid_rdesc_fixup` per device, published before reg() can still fail; a
    /// probe calls it under the device's lock only.
    HidBpf,
    /// bpf_dummy_ops: reg() is -EOPNOTSUPP; BPF_PROG_TEST_RUN builds a trampoline of its own.
    Dummy,
}

impl Subsystem {
    /// The names in scenario files, with what each stands for.
    pub const NAMES: &'static [(&'static str, Subsystem, &'static str)] = &[
        (
            "tcp_congestion_ops",
            Subsystem::TcpCong,
            "tcp congestion control: list by name, update(), sockets",
        ),
        (
            "sched_ext_ops",
            Subsystem::SchedExt,
            "sched_ext from 6.16 on: one scheduler, ops copied at enable",
        ),
        (
            "sched_ext_ops-6.12",
            Subsystem::SchedExt612,
            "sched_ext of 6.12: unreg disables whatever is enabled",
        ),
        (
            "bpf_testmod_ops",
            Subsystem::Always,
            "reg always succeeds and calls members",
        ),
        ("st_ops", Subsystem::Singleton, "a singleton under a mutex"),
        (
            "bpf_testmod_multi_st_ops",
            Subsystem::KeyedByMap,
            "keyed by map id",
        ),
        (
            "hid_bpf_ops",
            Subsystem::HidBpf,
            "one report descriptor fixup per device; reg() publishes, then allocates",
        ),
        (
            "bpf_dummy_ops",
            Subsystem::Dummy,
            "cannot be registered; test_run only",
        ),
    ];

    /// The name in scenario files.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|n| n.1 == self)
            .expect("every subsystem is listed")
            .0
    }

    /// The kernel that has it as it is here, if not every one has.
    pub fn linux(self) -> Option<Linux> {
        match self {
            Subsystem::SchedExt612 => Some(Linux::V6_12),
            Subsystem::SchedExt | Subsystem::KeyedByMap => Some(Linux::V7_3),
            _ => None,
        }
    }

    /// What it breaks by itself, under every design, and how.
    pub fn known_bug(self) -> Option<(Violation, &'static str)> {
        let foreign_unreg = Violation {
            invariant: Invariant::NoForeignUnreg,
            step: Pc::ScxDisable,
        };
        match self {
            Subsystem::SchedExt612 => Some((
                foreign_unreg,
                "bpf_scx_unreg() of Linux 6.12 disables whatever scheduler is enabled",
            )),
            _ => None,
        }
    }

    /// Whether `st_ops->update` is there.
    pub fn has_update(self) -> bool {
        matches!(self, Subsystem::TcpCong | Subsystem::Always)
    }
}

/// A function pointer member of a struct_ops type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name, as in the kernel struct.
    pub name: String,
    /// Programs may sleep here: `__bpf_prog_enter_sleepable`, Tasks Trace RCU.
    pub sleepable: bool,
    /// validate() refuses a struct without it.
    pub required: bool,
    /// Bytes that its trampoline takes in an image page, slack included.
    pub size: u16,
}

/// A struct_ops type: members and the subsystem that registers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructOpsType {
    /// Name used by maps and programs of the scenario.
    pub name: String,
    /// The subsystem.
    pub subsystem: Subsystem,
    /// At most [`MAX_MEMBERS`].
    pub members: Vec<Member>,
    /// Lives in a module, which maps of the type hold.
    pub module: bool,
}

/// What a program does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Reads its cookie.
    ReadCookie,
    /// Reads its cookie, sleeps, reads it again. Needs a sleepable member.
    Sleep,
    /// bpf_setsockopt(TCP_CONGESTION): the socket moves to another algorithm while its program runs.
    Switch,
    /// Returns an error (an `init` member makes reg() fail with it).
    Fail,
}

impl Body {
    /// The names in scenario files.
    pub const NAMES: &'static [(&'static str, Body, &'static str)] = &[
        ("read-cookie", Body::ReadCookie, "reads its cookie"),
        (
            "sleep",
            Body::Sleep,
            "reads its cookie, sleeps, reads it again (sleepable members only)",
        ),
        (
            "switch",
            Body::Switch,
            "moves its socket to another algorithm while it runs",
        ),
        (
            "fail",
            Body::Fail,
            "returns an error: an attach that calls it fails with -EIO",
        ),
    ];
}

/// A BPF program of type struct_ops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgDecl {
    /// Name.
    pub name: String,
    /// Index of its type in [`World::types`].
    pub ty: usize,
    /// Index of its member in the type.
    pub member: usize,
    /// What it does.
    pub body: Body,
    /// The process that has loaded it; `None`: every process has an fd.
    pub process: Option<u8>,
}

/// A struct_ops map as user space would create it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDecl {
    /// Name of the map in the scenario.
    pub name: String,
    /// Index of its type in [`World::types`].
    pub ty: usize,
    /// BPF_F_LINK.
    pub link: bool,
    /// Registration key: maps with equal keys have the same `tcp_congestion_ops.name`.
    pub key: u8,
    /// Program of each member of the type, index into [`World::progs`].
    pub progs: Vec<Option<u8>>,
    /// The struct's module-owner member is not zero.
    pub owner_set: bool,
}

/// An operation, with targets by name (indices into the world).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// BPF_MAP_CREATE.
    MapCreate {
        /// Map declaration.
        map: u8,
    },
    /// BPF_MAP_UPDATE_ELEM.
    MapUpdate {
        /// Map declaration.
        map: u8,
    },
    /// BPF_MAP_DELETE_ELEM.
    MapDelete {
        /// Map declaration.
        map: u8,
    },
    /// BPF_MAP_LOOKUP_ELEM.
    MapLookup {
        /// Map declaration.
        map: u8,
    },
    /// close(2) on the map's fd.
    MapClose {
        /// Map declaration.
        map: u8,
    },
    /// BPF_LINK_CREATE.
    LinkCreate {
        /// Map declaration.
        map: u8,
        /// Index into [`World::cookies`].
        cookie: u8,
        /// Index into [`World::links`]: the name under which later operations find the link.
        link: u8,
    },
    /// BPF_LINK_UPDATE.
    LinkUpdate {
        /// Link name.
        link: u8,
        /// New map declaration.
        map: u8,
        /// BPF_F_REPLACE with this expected old map.
        replace: Option<u8>,
    },
    /// BPF_LINK_DETACH.
    LinkDetach {
        /// Link name.
        link: u8,
    },
    /// close(2) on the link's fd.
    LinkClose {
        /// Link name.
        link: u8,
    },
    /// BPF_OBJ_PIN.
    LinkPin {
        /// Link name.
        link: u8,
    },
    /// unlink(2) of the pin.
    LinkUnpin {
        /// Link name.
        link: u8,
    },
    /// BPF_OBJ_GET_INFO_BY_FD on a link.
    LinkInfo {
        /// Link name.
        link: u8,
    },
    /// setsockopt(TCP_CONGESTION): a socket takes the algorithm of that name.
    SockOpen {
        /// Registration key.
        key: u8,
    },
    /// The stack calls a member through a socket.
    SockCall {
        /// Socket.
        sock: u8,
        /// Member.
        member: u8,
    },
    /// close(2) on a socket.
    SockClose {
        /// Socket.
        sock: u8,
    },
    /// The subsystem calls a member of its n-th registration.
    Call {
        /// Entry of the subsystem's table.
        entry: u8,
        /// Member.
        member: u8,
    },
    /// BPF_PROG_TEST_RUN of a bpf_dummy_ops program.
    TestRun {
        /// Program.
        prog: u8,
    },
    /// A syscall program (a light skeleton, under rcu_read_lock_trace) issues BPF_LINK_CREATE with bpf_sys_bpf().
    SysBpfLinkCreate {
        /// Map declaration.
        map: u8,
        /// Index into [`World::cookies`].
        cookie: u8,
        /// Index into [`World::links`].
        link: u8,
    },
    /// The scheduler is disabled by an error (scx_bpf_error(), sysrq-S); its link stays.
    ScxError,
    /// delete_module(2) of the module that owns the types.
    Rmmod,
    /// exit_group(2): every fd of the process is closed.
    Exit,
}

impl Operation {
    /// What kind it is.
    pub fn kind(&self) -> OpKind {
        match self {
            Operation::MapCreate { .. } => OpKind::MapCreate,
            Operation::MapUpdate { .. } => OpKind::MapUpdate,
            Operation::MapDelete { .. } => OpKind::MapDelete,
            Operation::MapLookup { .. } => OpKind::MapLookup,
            Operation::MapClose { .. } => OpKind::MapClose,
            Operation::LinkCreate { .. } => OpKind::LinkCreate,
            Operation::LinkUpdate { .. } => OpKind::LinkUpdate,
            Operation::LinkDetach { .. } => OpKind::LinkDetach,
            Operation::LinkClose { .. } => OpKind::LinkClose,
            Operation::LinkPin { .. } => OpKind::LinkPin,
            Operation::LinkUnpin { .. } => OpKind::LinkUnpin,
            Operation::LinkInfo { .. } => OpKind::LinkInfo,
            Operation::SockOpen { .. } => OpKind::SockOpen,
            Operation::SockCall { .. } => OpKind::SockCall,
            Operation::SockClose { .. } => OpKind::SockClose,
            Operation::Call { .. } => OpKind::Call,
            Operation::TestRun { .. } => OpKind::TestRun,
            Operation::SysBpfLinkCreate { .. } => OpKind::SysBpfLinkCreate,
            Operation::ScxError => OpKind::ScxError,
            Operation::Rmmod => OpKind::Rmmod,
            Operation::Exit => OpKind::Exit,
        }
    }
}

/// Names of operations in scenario files, in the order of [`OpKind`]'s variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum OpKind {
    #[default]
    None,
    MapCreate,
    MapUpdate,
    MapDelete,
    MapLookup,
    MapClose,
    LinkCreate,
    LinkUpdate,
    LinkDetach,
    LinkClose,
    LinkPin,
    LinkUnpin,
    LinkInfo,
    SockOpen,
    SockCall,
    SockClose,
    Call,
    TestRun,
    SysBpfLinkCreate,
    ScxError,
    Rmmod,
    Exit,
}

impl OpKind {
    /// Its operands are descriptors of maps and links.
    pub fn names_files(self) -> bool {
        use OpKind::{
            LinkClose, LinkCreate, LinkDetach, LinkInfo, LinkPin, LinkUnpin, LinkUpdate, MapClose,
            MapDelete, MapLookup, MapUpdate, SysBpfLinkCreate,
        };
        matches!(
            self,
            MapUpdate
                | MapDelete
                | MapLookup
                | MapClose
                | LinkCreate
                | LinkUpdate
                | LinkDetach
                | LinkClose
                | LinkPin
                | LinkUnpin
                | LinkInfo
                | SysBpfLinkCreate
        )
    }

    /// `(kind, name in scenario files, kernel entry point)`.
    pub const NAMES: &'static [(OpKind, &'static str, &'static str)] = &[
        (OpKind::MapCreate, "map_create", "BPF_MAP_CREATE"),
        (OpKind::MapUpdate, "map_update", "BPF_MAP_UPDATE_ELEM"),
        (OpKind::MapDelete, "map_delete", "BPF_MAP_DELETE_ELEM"),
        (OpKind::MapLookup, "map_lookup", "BPF_MAP_LOOKUP_ELEM"),
        (OpKind::MapClose, "map_close", "close(map_fd)"),
        (OpKind::LinkCreate, "link_create", "BPF_LINK_CREATE"),
        (OpKind::LinkUpdate, "link_update", "BPF_LINK_UPDATE"),
        (OpKind::LinkDetach, "link_detach", "BPF_LINK_DETACH"),
        (OpKind::LinkClose, "link_close", "close(link_fd)"),
        (OpKind::LinkPin, "link_pin", "BPF_OBJ_PIN"),
        (OpKind::LinkUnpin, "link_unpin", "unlink(pin)"),
        (OpKind::LinkInfo, "link_info", "BPF_OBJ_GET_INFO_BY_FD"),
        (OpKind::SockOpen, "sock_open", "setsockopt(TCP_CONGESTION)"),
        (OpKind::SockCall, "sock_call", "a socket calls a member"),
        (OpKind::SockClose, "sock_close", "close(socket)"),
        (OpKind::Call, "call", "the subsystem calls a member"),
        (OpKind::TestRun, "test_run", "BPF_PROG_TEST_RUN"),
        (
            OpKind::SysBpfLinkCreate,
            "sys_bpf_link_create",
            "bpf_sys_bpf(BPF_LINK_CREATE) in a syscall program",
        ),
        (OpKind::ScxError, "scx_error", "scx_bpf_error() or sysrq-S"),
        (OpKind::Rmmod, "rmmod", "delete_module()"),
        (OpKind::Exit, "exit", "exit_group()"),
    ];

    /// The name in scenario files.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|n| n.0 == self)
            .map_or("idle", |n| n.1)
    }
}

/// What one CPU does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// These operations, in this order.
    Fixed(Vec<Operation>),
    /// Any of these kinds of operation, this many times.
    Free {
        /// Operations to choose from.
        kinds: Vec<OpKind>,
        /// How many.
        budget: u8,
    },
}

/// A CPU: the thread that it runs belongs to a process and has a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDecl {
    /// Process, below [`World::procs`].
    pub proc: u8,
    /// What it does.
    pub plan: Plan,
}

/// Everything that a run starts from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct World {
    /// struct_ops types.
    pub types: Vec<StructOpsType>,
    /// Programs; all are loaded, and held by the fds of process 0, when the run starts.
    pub progs: Vec<ProgDecl>,
    /// Maps that operations may create.
    pub maps: Vec<MapDecl>,
    /// Names of links.
    pub links: Vec<String>,
    /// Values of cookies; index 0 is always 0.
    pub cookies: Vec<u64>,
    /// Names of registration keys.
    pub keys: Vec<String>,
    /// Number of processes.
    pub procs: u8,
    /// CPUs.
    pub cpus: Vec<CpuDecl>,
    /// Operations carried out one by one on CPU 0 before the run starts.
    pub setup: Vec<Operation>,
    /// How many allocations may fail during the run.
    pub alloc_failures: u8,
    /// Most links that free plans create at once.
    pub max_links: u8,
}

/// The kernel that has all of these: the oldest, unless one of them asks for another.
pub fn linux(subsystems: impl IntoIterator<Item = Subsystem>) -> Linux {
    let mut named = subsystems.into_iter().filter_map(Subsystem::linux);
    named.next().unwrap_or(Linux::V6_12)
}

impl World {
    /// The kernel whose functions carry the steps out.
    pub fn linux(&self) -> Linux {
        linux(self.types.iter().map(|t| t.subsystem))
    }

    /// Processes with an fd of a program at the beginning, one bit each.
    pub fn loaded_by(&self, prog: &ProgDecl) -> u8 {
        prog.process.map_or((1 << self.procs) - 1, |p| 1 << p)
    }

    /// Whether programs of this map's struct satisfy validate().
    pub fn validates(&self, decl: &MapDecl) -> bool {
        self.types[decl.ty]
            .members
            .iter()
            .zip(&decl.progs)
            .all(|(m, p)| !m.required || p.is_some())
    }

    /// Whether one of the map's programs may sleep.
    pub fn sleepable(&self, decl: &MapDecl) -> bool {
        self.types[decl.ty]
            .members
            .iter()
            .zip(&decl.progs)
            .any(|(m, p)| m.sleepable && p.is_some())
    }
}
