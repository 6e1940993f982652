//! What does not change during a run: types, programs, map declarations, CPUs and what they do.
//!
//! A scenario file becomes a [`World`]. Names live here; the state in [`crate::kernel`] holds indices.

use crate::place::Linux;
use crate::script::Script;

pub use crate::operation::{OpKind, Operand, Operation, OperationInfo, Position, ProgKind, Which};
pub use crate::subsys::{Called, Subsystem};

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
/// Most rings of io_uring.
pub const MAX_RINGS: usize = 2;
/// Most cgroups.
pub const MAX_CGROUPS: usize = 3;

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
    /// Calls a kfunc that finds the program's struct by the map that it is tied to, and reads the struct.
    Ask,
    /// Starts a bpf_timer, whose callback asks as [`Body::Ask`] does, in a softirq.
    Timer,
    /// Starts a bpf_wq, whose callback asks as [`Body::Ask`] does, in a kworker.
    Wq,
    /// The same, and the kfunc sleeps before it reads the struct.
    WqSleep,
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
        (
            "ask",
            Body::Ask,
            "reads its cookie, then asks for its struct by what it is tied to (association, this-pointer) and reads it",
        ),
        (
            "timer",
            Body::Timer,
            "reads its cookie, then starts a bpf_timer whose callback asks for the program's struct",
        ),
        (
            "wq",
            Body::Wq,
            "reads its cookie, then starts a bpf_wq whose callback asks for the program's struct",
        ),
        (
            "wq-sleep",
            Body::WqSleep,
            "as wq, and the callback sleeps before it reads the struct",
        ),
    ];

    /// It starts a callback that runs later.
    pub fn has_callback(self) -> bool {
        matches!(self, Body::Timer | Body::Wq | Body::WqSleep)
    }

    /// The program, or its callback, asks for its struct.
    pub fn asks(self) -> bool {
        self == Body::Ask || self.has_callback()
    }
}

/// What a BPF program is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgType {
    /// BPF_PROG_TYPE_STRUCT_OPS: for a member of a type.
    StructOps {
        /// Index of the type in [`World::types`].
        ty: usize,
        /// Index of the member in the type.
        member: usize,
    },
    /// BPF_PROG_TYPE_SYSCALL: user space runs it, and it may sleep.
    Syscall,
    /// BPF_PROG_TYPE_TRACING: it runs wherever the kernel comes to its hook, until it is closed, and does not sleep.
    Tracing,
}

impl ProgType {
    /// The member that it is for, of whatever type.
    pub fn member(self) -> Option<usize> {
        match self {
            ProgType::StructOps { member, .. } => Some(member),
            ProgType::Syscall | ProgType::Tracing => None,
        }
    }

    /// The kinds of programs that are for no member, by their names in scenario files.
    pub const ALONE: [ProgType; 2] = [ProgType::Syscall, ProgType::Tracing];

    /// The name of its kind.
    pub fn name(self) -> &'static str {
        match self {
            ProgType::StructOps { .. } => "struct_ops",
            ProgType::Syscall => "syscall",
            ProgType::Tracing => "tracing",
        }
    }

    /// A program of another type than struct_ops: user space ties it to a map, and it holds the map.
    pub fn is_tied_by_command(self) -> bool {
        self.member().is_none()
    }
}

/// A BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgDecl {
    /// Name.
    pub name: String,
    /// What it is loaded as.
    pub of: ProgType,
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
    /// Registration key: maps with equal keys have the same `tcp_congestion_ops.name`, or the same
    /// `io_uring_bpf_ops.ring_fd`.
    pub key: u8,
    /// Program of each member of the type, index into [`World::progs`].
    pub progs: Vec<Option<u8>>,
    /// The struct's module-owner member is not zero.
    pub owner_set: bool,
}

/// A cgroup that is there when the run starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDecl {
    /// Its name.
    pub name: String,
    /// The cgroup above it, whose index is lower. `None`: nothing is attached above it.
    pub parent: Option<u8>,
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
    /// The kernel that it is on: whose functions carry the steps out, and which of their changes are in.
    pub linux: Linux,
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
    /// What the scenario's own subsystems consist of.
    pub script: Script,
    /// Cgroups.
    pub cgroups: Vec<CgroupDecl>,
}

impl World {
    /// Processes with an fd of a program at the beginning, one bit each.
    pub fn loaded_by(&self, prog: &ProgDecl) -> u8 {
        let all = if self.forks() {
            1
        } else {
            (1 << self.procs) - 1
        };
        prog.process.map_or(all, |p| 1 << p)
    }

    /// Every kind of operation that the set-up or some CPU's plan has, some of them several times.
    pub fn kinds(&self) -> impl Iterator<Item = OpKind> {
        let planned = self.cpus.iter().flat_map(|cpu| {
            let (fixed, free): (&[Operation], &[OpKind]) = match &cpu.plan {
                Plan::Fixed(operations) => (operations, &[]),
                Plan::Free { kinds, .. } => (&[], kinds),
            };
            fixed
                .iter()
                .map(Operation::kind)
                .chain(free.iter().copied())
        });
        self.setup.iter().map(Operation::kind).chain(planned)
    }

    /// Whether such an operation may happen.
    pub fn plays(&self, kind: OpKind) -> bool {
        self.kinds().any(|k| k == kind)
    }

    /// Whether process 1 is a child of process 0: it does not run before `fork`, and has what its parent has open then.
    pub fn forks(&self) -> bool {
        self.procs == 2 && self.plays(OpKind::Fork)
    }

    /// The task of work items that free a link whose last reference bpf_link_put() drops, and of callbacks: the number
    /// behind those of the CPUs. There is one where a plan takes pins of links away or a program has a callback, if the
    /// CPUs leave a number.
    pub fn kworker(&self) -> Option<u8> {
        let number = self.cpus.len();
        let wanted = self.plays(OpKind::LinkUnpin) || self.has_callbacks();
        (number < MAX_CPUS && wanted).then_some(number as u8)
    }

    /// Whether some program starts a callback.
    pub fn has_callbacks(&self) -> bool {
        self.progs.iter().any(|p| p.body.has_callback())
    }

    /// How many tasks there are: the CPUs, and perhaps that of work items.
    pub fn tasks(&self) -> usize {
        self.cpus.len() + usize::from(self.kworker().is_some())
    }

    /// Whether the program may sleep: __bpf_prog_put_noref() waits for Tasks Trace RCU then.
    pub fn may_sleep(&self, prog: u8) -> bool {
        match self.progs[usize::from(prog)].of {
            ProgType::StructOps { ty, member } => self.types[ty].members[member].sleepable,
            ProgType::Syscall => true,
            ProgType::Tracing => false,
        }
    }

    /// Whether some program asks for its struct: without one nobody can tell what programs are tied to.
    pub fn asks(&self) -> bool {
        self.progs.iter().any(|p| p.body.asks())
    }

    /// Whether an object may have several fds of one process, or be found without one.
    pub fn many_fds(&self) -> bool {
        self.kinds().any(|kind| kind.info().many_fds) || self.finds_links_by_id()
    }

    /// Whether some plan looks for links by their id.
    pub(crate) fn finds_links_by_id(&self) -> bool {
        let by_id = |(operand, value): (Operand, Option<u8>)| {
            operand == Operand::Position && value.is_some_and(|n| Position::from_number(n).by_id)
        };
        self.plays(OpKind::LinkGetFdById) || self.written().any(|o| o.operands().any(by_id))
    }

    /// Whether some plan asks for a revision of a cgroup's list.
    pub fn asks_revision(&self) -> bool {
        let asks = |(operand, value): (Operand, Option<u8>)| {
            operand == Operand::Revision && value.is_some_and(|revision| revision != 0)
        };
        self.written().any(|o| o.operands().any(asks))
    }

    /// The operations of the set-up and of fixed plans.
    fn written(&self) -> impl Iterator<Item = Operation> {
        let planned = self.cpus.iter().flat_map(|cpu| match &cpu.plan {
            Plan::Fixed(operations) => operations.as_slice(),
            Plan::Free { .. } => &[],
        });
        self.setup.iter().chain(planned).copied()
    }

    /// Whether the map's type attaches to cgroups: `bpf_struct_ops.cgroup_atype` is set.
    pub fn attaches_to_cgroups(&self, decl: &MapDecl) -> bool {
        self.types[decl.ty].subsystem.facts().called == Called::ThroughCgroups
    }

    /// Whether the types attach to cgroups: all of them, if one does.
    pub fn has_cgroup_types(&self) -> bool {
        let called = |t: &StructOpsType| t.subsystem.facts().called;
        self.types
            .iter()
            .any(|t| called(t) == Called::ThroughCgroups)
    }

    /// Whether its types are attached to rings of io_uring.
    pub fn has_rings(&self) -> bool {
        let mut types = self.types.iter();
        types.any(|t| t.subsystem == Subsystem::IoUring)
    }

    /// Whether its types are attached to a HID device.
    pub fn has_hid_device(&self) -> bool {
        let mut types = self.types.iter();
        types.any(|t| t.subsystem == Subsystem::HidBpf)
    }

    /// The type whose members an operation of this kind calls, if there is one. Where types are of several subsystems, each
    /// is called in a way of its own.
    pub fn called_by(&self, kind: OpKind) -> Option<&StructOpsType> {
        let calls = |t: &&StructOpsType| match t.subsystem.facts().called {
            Called::ThroughSockets => kind == OpKind::SockCall,
            Called::ThroughCgroups => kind == OpKind::CgroupCall,
            Called::From(_) => kind == OpKind::Call,
            Called::ByTestRun | Called::ByFunctions => false,
        };
        self.types.iter().find(calls)
    }

    /// The cgroup and those above it, itself first.
    pub fn ancestry(&self, cgroup: u8) -> impl Iterator<Item = u8> {
        std::iter::successors(Some(cgroup), |c| self.cgroups[usize::from(*c)].parent)
    }

    /// The cgroup and those below it, each behind the one above it.
    pub fn descendants(&self, cgroup: u8) -> impl Iterator<Item = u8> {
        let all = 0..self.cgroups.len() as u8;
        all.filter(move |c| self.ancestry(*c).any(|a| a == cgroup))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_loaded_by_whom_it_says() {
        let mut world = World {
            procs: 2,
            ..World::default()
        };
        let prog = |process| ProgDecl {
            name: String::new(),
            of: ProgType::Syscall,
            body: Body::ReadCookie,
            process,
        };
        let by = |world: &World| [None, Some(0), Some(1)].map(|p| world.loaded_by(&prog(p)));
        assert_eq!(by(&world), [0b11, 0b01, 0b10]);
        // A child is there later, and has what its parent has.
        world.setup = vec![Operation::Fork {}];
        assert_eq!(by(&world), [0b01, 0b01, 0b10]);
    }
}
