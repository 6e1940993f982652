//! Operations: what a process, or the kernel for it, can begin; one row each.
//!
//! All that reads, writes, lists, offers, draws or shrinks operations goes by these rows and by what their operands
//! name. Not here: which objects the operands stand for at a given moment (`request`), and what an operation does: its
//! row says where it begins, and the steps are in `proc` and `subsys`.

use crate::pc::Pc;
use crate::world::{MAX_LINKS, ProgType, World};

/// What a word of an operation names. In [`Operation`] it is an index into the world's list of such things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The declaration of a map that the operation creates.
    NewMap,
    /// A map.
    Map(Which),
    /// A map that the process has open, or none: `replace=MAP`.
    Replace,
    /// A link.
    Link(Which),
    /// A name for the link that the operation creates: `as LINK`.
    NewLink,
    /// A cookie's value; 0 if it is not written: `cookie=N`.
    Cookie,
    /// A registration key, such as the name of a congestion control.
    Key,
    /// A socket that the process has open, by its number.
    Socket,
    /// The number under which a process is to have a new ring: the key of the maps whose `ring_fd` it is.
    NewRing,
    /// A ring that the process has open, by its number.
    Ring,
    /// A registration, by its place in the subsystem's table; the number of a ring.
    Entry,
    /// A member of the struct.
    Member,
    /// A program that the process has open.
    Program(ProgKind),
    /// A function of a subsystem that the scenario brings.
    Function,
    /// A cgroup.
    Cgroup,
    /// The cgroup that a link is to be attached to: `cgroup=CGROUP`.
    Target,
    /// Where in the cgroup's list the link is to go: see [`Position`].
    Position,
    /// What the revision of the cgroup's list must be: `revision=N`.
    Revision,
}

/// Where a new link goes in its cgroup's list: `flags` and `cgroup.relative_fd`, or `relative_id`, of BPF_LINK_CREATE.
///
/// Without anything it goes to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// BPF_F_BEFORE.
    pub before: bool,
    /// BPF_F_AFTER.
    pub after: bool,
    /// BPF_F_PREORDER.
    pub preorder: bool,
    /// BPF_F_LINK, and the link that it goes before or behind, by its name.
    pub anchor: Option<u8>,
    /// BPF_F_ID: the anchor is found by its id, whoever has it open, not through a descriptor of the process.
    pub by_id: bool,
}

impl Position {
    /// As a number.
    pub fn number(self) -> u8 {
        let flags = [
            self.before,
            self.after,
            self.preorder,
            self.anchor.is_some(),
        ];
        let flags = (0u8..).zip(flags).map(|(i, set)| u8::from(set) << i);
        const { assert!(MAX_LINKS <= 8, "an anchor has three bits") };
        flags.sum::<u8>() | self.anchor.unwrap_or_default() << 4 | u8::from(self.by_id) << 7
    }

    /// The one with this number.
    pub fn from_number(number: u8) -> Self {
        let set = |bit: u8| number & 1 << bit != 0;
        Position {
            before: set(0),
            after: set(1),
            preorder: set(2),
            anchor: set(3).then_some(number >> 4 & 7),
            by_id: set(7),
        }
    }
}

/// Which programs an operation can be carried out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgKind {
    /// Whatever it is loaded as.
    Any,
    /// For a member.
    StructOps,
    /// For no member: it runs by itself.
    Alone,
}

impl ProgKind {
    /// Whether a program is one of them.
    pub fn is(self, of: ProgType) -> bool {
        match self {
            ProgKind::Any => true,
            ProgKind::StructOps => of.member().is_some(),
            ProgKind::Alone => of.member().is_none(),
        }
    }
}

/// Which maps or links an operation can be carried out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The process has it open.
    Open,
    /// The process has it open, and it is not pinned.
    Unpinned,
    /// It is pinned, whoever has it open.
    Pinned,
    /// It has an id, whoever has it open; or it had one, and nobody has it any more.
    ById,
}

impl Which {
    /// Whether an object is one of them that the process has `open`, or that is `pinned`.
    pub(crate) fn is(self, open: bool, pinned: bool) -> bool {
        match self {
            Which::Open => open,
            Which::Unpinned => open && !pinned,
            Which::Pinned => pinned,
            Which::ById => true,
        }
    }
}

impl Operand {
    /// It is found through a descriptor, or a path, of a map, a link or a program.
    pub fn names_file(self) -> bool {
        matches!(
            self,
            Operand::Map(_) | Operand::Replace | Operand::Link(_) | Operand::Program(_)
        )
    }

    /// How it is written.
    pub fn syntax(self) -> &'static str {
        match self {
            Operand::NewMap | Operand::Map(_) => "MAP",
            Operand::Replace => "[replace=MAP]",
            Operand::Link(_) => "LINK",
            Operand::NewLink => "as LINK",
            Operand::Cookie => "[cookie=N]",
            Operand::Key | Operand::NewRing => "KEY",
            Operand::Socket => "SOCKET",
            Operand::Ring => "RING",
            Operand::Entry => "ENTRY",
            Operand::Member => "MEMBER",
            Operand::Program(_) => "PROGRAM",
            Operand::Function => "FUNCTION",
            Operand::Cgroup => "CGROUP",
            Operand::Target => "[cgroup=CGROUP]",
            Operand::Position => "[POSITION]",
            // One of the words of a position.
            Operand::Revision => "",
        }
    }
}

/// What a world must have for an operation to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: every world has it.
    Nothing,
    /// A subsystem whose members are called through sockets.
    Sockets,
    /// A subsystem that calls its members by itself.
    Calls,
    /// A subsystem whose programs can be test-run.
    TestRuns,
    /// sched_ext.
    Scheduler,
    /// A type that lives in a module.
    Module,
    /// A subsystem of the scenario's own, with functions to run.
    Functions,
    /// A second process, which does not run before it is forked.
    Child,
    /// Cgroups.
    Cgroups,
    /// A subsystem whose members are called on behalf of a cgroup.
    CgroupCalls,
    /// A syscall program.
    OtherPrograms,
    /// A subsystem that is attached to rings.
    Rings,
}

impl Needs {
    /// Why the operation has no meaning in this world, if it has none.
    pub fn missing(self, world: &World) -> Option<&'static str> {
        use crate::subsys::Called;
        let called =
            |f: fn(Called) -> bool| world.types.iter().any(|t| f(t.subsystem.facts().called));
        let (there, why) = match self {
            Needs::Nothing => (true, ""),
            Needs::Sockets => (
                called(|c| c == Called::ThroughSockets),
                "only tcp_congestion_ops has sockets",
            ),
            Needs::Calls => (
                called(|c| matches!(c, Called::From(_))),
                "tcp is called through sockets (sock_call), bpf_tcp_ops for a cgroup (cgroup_call), bpf_dummy_ops by \
                 test_run, a subsystem of your own by what you `run`",
            ),
            Needs::TestRuns => (
                called(|c| c == Called::ByTestRun),
                "only bpf_dummy_ops programs can be test-run",
            ),
            Needs::Scheduler => (
                crate::subsys::scx_types(world),
                "only sched_ext_ops has a scheduler that can fail",
            ),
            Needs::Module => (
                world.types.iter().any(|t| t.module),
                "no type lives in a module (`module = true`)",
            ),
            Needs::Child => (
                world.procs == 2,
                "there is no process to be forked (`processes = 2`)",
            ),
            Needs::Cgroups => (
                !world.cgroups.is_empty(),
                "there is no cgroup (`[[cgroup]]`)",
            ),
            Needs::CgroupCalls => (
                called(|c| c == Called::ThroughCgroups) && !world.cgroups.is_empty(),
                "only bpf_tcp_ops is attached to cgroups, and there must be one (`[[cgroup]]`)",
            ),
            Needs::OtherPrograms => (
                world.progs.iter().any(|p| p.of.member().is_none()),
                "there is no syscall or tracing program (`kind = \"syscall\"`)",
            ),
            Needs::Rings => (world.has_rings(), "only io_uring_bpf_ops has rings"),
            Needs::Functions => (
                world.script.runnable().next().is_some(),
                "no [subsystem.run] has functions",
            ),
        };
        (!there).then_some(why)
    }
}

/// What the entry of an operation does before its first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing that others can see.
    Plain,
    /// fdget(): the map's file, and with it the map, stays until the system call is over.
    Fdget,
    /// rcu_read_lock_trace(): a sleepable program issues the system call.
    Program,
    /// The process begins to exit.
    Exit,
    /// The function is entered at its first line.
    Function,
}

/// What is known of a kind of operation.
#[derive(Clone, Copy, Debug)]
pub struct OperationInfo {
    /// The kind.
    pub kind: OpKind,
    /// Its name in scenario files.
    pub name: &'static str,
    /// The system call or event that it stands for.
    pub stands_for: &'static str,
    /// Its words, in the order in which they are written.
    pub operands: &'static [Operand],
    /// What a world must have for it.
    pub needs: Needs,
    /// What its entry does.
    pub(crate) entry: Entry,
    /// Its first step; `None` if that is the subsystem's.
    pub(crate) first: Option<Pc>,
    /// How often it is drawn at random, beside the others.
    pub weight: u8,
    /// `choose = "any"` does not mean it: what it would show there, others show at the price of fewer states.
    pub by_name: bool,
    /// After it a process may have several fds of one object, or have one that it did not create.
    pub many_fds: bool,
    /// What the number of a request for it stands for.
    pub(crate) arg: Arg,
}

/// What [`crate::Request::arg`] stands for, where that matters to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// The declaration of a map.
    Decl,
    /// A program.
    Prog,
    /// A socket.
    Sock,
    /// A ring.
    Ring,
    /// Another number.
    Number,
}

const fn arg(operands: &[Operand]) -> Arg {
    match operands {
        [Operand::NewMap, ..] => Arg::Decl,
        [Operand::Program(_), ..] => Arg::Prog,
        [Operand::Socket, ..] => Arg::Sock,
        [Operand::Ring, ..] => Arg::Ring,
        _ => Arg::Number,
    }
}

/// Most operands of an operation.
const MAX_OPERANDS: usize = 6;

/// The type of an operand's field.
macro_rules! field {
    (Replace) => { Option<u8> };
    (Target) => { Option<u8> };
    (Position) => { Option<u8> };
    (Revision) => { Option<u8> };
    ($($other:tt)+) => { u8 };
}

/// What stands in brackets behind an operand.
macro_rules! which {
    (Program $which:ident) => {
        ProgKind::$which
    };
    ($operand:ident $which:ident) => {
        Which::$which
    };
}

/// Puts an operand's value into its field.
trait Field: Sized {
    fn of(value: Option<u8>) -> Self;
}

impl Field for u8 {
    fn of(value: Option<u8>) -> u8 {
        value.unwrap_or_default()
    }
}

impl Field for Option<u8> {
    fn of(value: Option<u8>) -> Option<u8> {
        value
    }
}

/// What stands at the end of a row.
enum Mark {
    /// See [`OperationInfo::by_name`].
    ByName,
    /// See [`OperationInfo::many_fds`].
    ManyFds,
}

macro_rules! operations {
    ($($kind:ident { $($field:ident: $operand:ident $(($which:ident))?),* } $name:literal $stands_for:literal
        $needs:ident $entry:ident $first:expr, $weight:literal $($mark:ident)*;)+) => {
        /// An operation, with targets by name (indices into the world).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $(
                #[doc = concat!($stands_for, ".")]
                $kind {
                    $(
                        #[doc = concat!("Its [`Operand::", stringify!($operand), "`].")]
                        $field: field!($operand),
                    )*
                },
            )+
        }

        /// A kind of operation: a row of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(u8)]
        pub enum OpKind {
            /// No operation.
            #[default]
            None,
            $(#[doc = concat!($stands_for, ".")] $kind,)+
        }

        /// The kinds by their numbers.
        const KINDS: &[OpKind] = &[OpKind::None, $(OpKind::$kind),+];

        /// The table, by the number of the kind.
        const TABLE: &[OperationInfo] = &[
            OperationInfo {
                kind: OpKind::None,
                name: "idle",
                stands_for: "nothing",
                operands: &[],
                needs: Needs::Nothing,
                entry: Entry::Plain,
                first: Some(Pc::Finish),
                weight: 0,
                by_name: true,
                many_fds: false,
                arg: Arg::Number,
            },
            $(OperationInfo {
                kind: OpKind::$kind,
                name: $name,
                stands_for: $stands_for,
                operands: &[$(Operand::$operand $((which!($operand $which)))?),*],
                needs: Needs::$needs,
                entry: Entry::$entry,
                first: $first,
                weight: $weight,
                by_name: false $(|| matches!(Mark::$mark, Mark::ByName))*,
                many_fds: false $(|| matches!(Mark::$mark, Mark::ManyFds))*,
                arg: arg(&[$(Operand::$operand $((which!($operand $which)))?),*]),
            },)+
        ];

        impl Operation {
            /// What kind it is.
            pub fn kind(&self) -> OpKind {
                match self { $(Operation::$kind { .. } => OpKind::$kind),+ }
            }

            /// Its operands, in the order in which they are written, with what they name.
            pub fn operands(self) -> impl Iterator<Item = (Operand, Option<u8>)> {
                #[allow(unused_mut, unused_variables, unused_assignments)]
                let (mut out, mut n) = ([None; MAX_OPERANDS], 0);
                match self {
                    $(Operation::$kind { $($field),* } => {
                        $(
                            out[n] = Some((Operand::$operand $((which!($operand $which)))?, $field.into()));
                            n += 1;
                        )*
                    })+
                }
                out.into_iter().take(n).flatten()
            }

            /// An operation of this kind, its operands in the order in which they are written. Of no kind: the end of
            /// a plan.
            ///
            /// # Errors
            /// The first that `value` gives.
            pub fn build<E>(
                kind: OpKind,
                #[allow(unused_mut)] mut value: impl FnMut(Operand) -> Result<Option<u8>, E>,
            ) -> Result<Operation, E> {
                Ok(match kind {
                    OpKind::None => Operation::Exit {},
                    $(OpKind::$kind => Operation::$kind {
                        $($field: Field::of(value(Operand::$operand $((which!($operand $which)))?)?),)*
                    },)+
                })
            }
        }
    };
}

use Pc::{
    CgOffline, CgQuery, CgWalk, DelCmpxchg, Dup, ExitNext, Fork, LcGet, LdGet, LinkById, LinkInfo,
    LinkRelease, LuGet, MapById, MapCreate, MapLookup, MapRelease, ObjGet, ObjPin, ObjUnpin,
    ProgAssoc, ProgRelease, ProgRun, RingClose, RingSetup, Rmmod, Script, ScxError, SockCall,
    SockFind, SockRelease, TestRun, UpdTlinks,
};

operations! {
    MapCreate { map: NewMap } "map_create" "BPF_MAP_CREATE" Nothing Plain Some(MapCreate), 1;
    MapUpdate { map: Map(Open) } "map_update" "BPF_MAP_UPDATE_ELEM" Nothing Fdget Some(UpdTlinks), 1;
    MapDelete { map: Map(Open) } "map_delete" "BPF_MAP_DELETE_ELEM" Nothing Fdget Some(DelCmpxchg), 1;
    MapLookup { map: Map(Open) } "map_lookup" "BPF_MAP_LOOKUP_ELEM" Nothing Fdget Some(MapLookup), 1;
    MapClose { map: Map(Open) } "map_close" "close(map_fd)" Nothing Plain Some(MapRelease), 1;
    LinkCreate { map: Map(Open), target: Target, position: Position, revision: Revision, cookie: Cookie, link: NewLink }
        "link_create" "BPF_LINK_CREATE" Nothing Plain Some(LcGet), 5;
    LinkUpdate { link: Link(Open), map: Map(Open), replace: Replace }
        "link_update" "BPF_LINK_UPDATE" Nothing Plain Some(LuGet), 2;
    LinkDetach { link: Link(Open) } "link_detach" "BPF_LINK_DETACH" Nothing Plain Some(LdGet), 1;
    LinkClose { link: Link(Open) } "link_close" "close(link_fd)" Nothing Plain Some(LinkRelease), 2;
    LinkPin { link: Link(Unpinned) } "link_pin" "BPF_OBJ_PIN" Nothing Plain Some(ObjPin), 1;
    LinkUnpin { link: Link(Pinned) } "link_unpin" "unlink(pin)" Nothing Plain Some(ObjUnpin), 1;
    LinkInfo { link: Link(Open) }
        "link_info" "BPF_OBJ_GET_INFO_BY_FD" Nothing Plain Some(LinkInfo), 1;
    SockOpen { key: Key } "sock_open" "setsockopt(TCP_CONGESTION)" Sockets Plain Some(SockFind), 2;
    SockCall { sock: Socket, member: Member }
        "sock_call" "a socket calls a member" Sockets Plain Some(SockCall), 2;
    SockClose { sock: Socket } "sock_close" "close(socket)" Sockets Plain Some(SockRelease), 1;
    Call { entry: Entry, member: Member }
        "call" "the subsystem calls a member" Calls Plain None, 4;
    TestRun { prog: Program(StructOps) } "test_run" "BPF_PROG_TEST_RUN" TestRuns Plain Some(TestRun), 4;
    SysBpfLinkCreate { map: Map(Open), cookie: Cookie, link: NewLink }
        "sys_bpf_link_create" "bpf_sys_bpf(BPF_LINK_CREATE) in a syscall program"
        Nothing Program Some(LcGet), 1 ByName;
    ScxError {} "scx_error" "scx_bpf_error() or sysrq-S" Scheduler Plain Some(ScxError), 1;
    Rmmod {} "rmmod" "delete_module()" Module Plain Some(Rmmod), 1;
    Run { function: Function }
        "run" "a function of the scenario's own subsystem" Functions Function Some(Script), 4;
    Exit {} "exit" "exit_group()" Nothing Exit Some(ExitNext), 0;
    ProgClose { prog: Program(Any) } "prog_close" "close(prog_fd)" Nothing Plain Some(ProgRelease), 1 ByName;
    // Last, so that the numbers of the others stay: they decide which of several shortest runs is shown.
    LinkDup { link: Link(Open) } "link_dup" "dup(link_fd)" Nothing Plain Some(Dup), 0 ByName ManyFds;
    LinkGet { link: Link(Pinned) } "link_get" "BPF_OBJ_GET" Nothing Plain Some(ObjGet), 0 ByName ManyFds;
    LinkGetFdById { link: Link(ById) }
        "link_get_fd_by_id" "BPF_LINK_GET_FD_BY_ID" Nothing Plain Some(LinkById), 0 ByName ManyFds;
    MapDup { map: Map(Open) } "map_dup" "dup(map_fd)" Nothing Plain Some(Dup), 0 ByName ManyFds;
    MapPin { map: Map(Unpinned) } "map_pin" "BPF_OBJ_PIN" Nothing Plain Some(ObjPin), 0 ByName ManyFds;
    MapUnpin { map: Map(Pinned) } "map_unpin" "unlink(pin)" Nothing Plain Some(ObjUnpin), 0 ByName ManyFds;
    MapGet { map: Map(Pinned) } "map_get" "BPF_OBJ_GET" Nothing Plain Some(ObjGet), 0 ByName ManyFds;
    MapGetFdById { map: Map(ById) }
        "map_get_fd_by_id" "BPF_MAP_GET_FD_BY_ID" Nothing Plain Some(MapById), 0 ByName ManyFds;
    Fork {} "fork" "fork()" Child Plain Some(Fork), 0 ByName ManyFds;
    CgroupCall { cgroup: Cgroup, member: Member }
        "cgroup_call" "a socket of the cgroup calls a member of everything that is attached"
        CgroupCalls Plain Some(CgWalk), 4;
    CgroupRmdir { cgroup: Cgroup } "cgroup_rmdir" "rmdir(cgroup)" Cgroups Plain Some(CgOffline), 1;
    ProgAssoc { prog: Program(Any), map: Map(Open) }
        "prog_assoc" "BPF_PROG_ASSOC_STRUCT_OPS" OtherPrograms Fdget Some(ProgAssoc), 1 ByName;
    ProgRun { prog: Program(Alone) }
        "prog_run" "BPF_PROG_TEST_RUN of a syscall program, or the hook of a tracing program" OtherPrograms Plain Some(ProgRun), 2 ByName;
    RingSetup { key: NewRing } "ring_setup" "io_uring_setup()" Rings Plain Some(RingSetup), 2;
    RingClose { ring: Ring } "ring_close" "close(ring_fd)" Rings Plain Some(RingClose), 2;
    CgroupQuery { cgroup: Cgroup }
        "cgroup_query" "BPF_PROG_QUERY with BPF_F_QUERY_EFFECTIVE" CgroupCalls Plain Some(CgQuery), 1 ByName;
}

impl OpKind {
    /// Every kind of operation, in the order of the table.
    pub fn all() -> impl Iterator<Item = OpKind> {
        TABLE.iter().skip(1).map(|row| row.kind)
    }

    /// The kind with this number.
    pub(crate) fn from_number(number: u8) -> OpKind {
        KINDS[usize::from(number)]
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<OpKind> {
        OpKind::all().find(|kind| kind.name() == name)
    }

    /// Its row.
    #[inline]
    pub fn info(self) -> &'static OperationInfo {
        &TABLE[self as usize]
    }

    /// The name in scenario files.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether it has such an operand.
    #[inline]
    pub fn has(self, operand: Operand) -> bool {
        self.info().operands.contains(&operand)
    }

    /// Its operands are descriptors, or paths, of maps, links and programs.
    pub fn names_files(self) -> bool {
        self.info().operands.iter().any(|o| o.names_file())
    }

    /// How it is written.
    pub fn syntax(self) -> String {
        let words = self.info().operands.iter().map(|o| o.syntax());
        let words = words.filter(|word| !word.is_empty());
        let words: Vec<&str> = std::iter::once(self.name()).chain(words).collect();
        words.join(" ")
    }

    /// Every kind that can be drawn at random in a world.
    pub fn drawn(world: &World) -> impl Iterator<Item = OpKind> {
        let drawn = OpKind::all().filter(|kind| kind.info().weight > 0);
        drawn.filter(|kind| kind.info().needs.missing(world).is_none())
    }

    /// What `choose = "any"` means in a world.
    pub fn any(world: &World) -> impl Iterator<Item = OpKind> {
        OpKind::drawn(world).filter(|kind| !kind.info().by_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_its_kind_and_its_operands() {
        for kind in OpKind::all() {
            let mut n = 0;
            let built = Operation::build(kind, |_| {
                n += 1;
                Ok::<_, ()>(Some(n))
            })
            .unwrap();
            assert_eq!(built.kind(), kind);
            let operands: Vec<_> = built.operands().collect();
            assert_eq!(operands.len(), kind.info().operands.len(), "{kind:?}");
            for (i, (operand, value)) in operands.into_iter().enumerate() {
                assert_eq!(operand, kind.info().operands[i]);
                assert_eq!(value, Some(i as u8 + 1));
            }
            assert_eq!(OpKind::from_name(kind.name()), Some(kind));
            assert_eq!(OpKind::from_number(kind as u8), kind);
        }
        assert_eq!(
            OpKind::LinkUpdate.syntax(),
            "link_update LINK MAP [replace=MAP]"
        );
    }

    #[test]
    fn a_position_is_its_number() {
        for number in 0..=u8::MAX {
            let position = Position::from_number(number);
            assert_eq!(Position::from_number(position.number()), position);
        }
    }
}
