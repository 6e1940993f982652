//! The subsystems that take struct_ops: reg(), unreg(), update(), and how each calls its members.
//!
//! One file per subsystem or family, with its own data structure as it is, its [`Facts`] and its steps; the list of them
//! is here. The attach path enters through [`reg`], [`unreg`] and [`update`], which stand for the calls through
//! `st_ops->reg` and its siblings.

pub(crate) mod bpf_tcp;
pub(crate) mod dummy;
pub(crate) mod hid_bpf;
pub(crate) mod io_uring;
pub(crate) mod sched_ext;
pub(crate) mod script;
pub(crate) mod tcp_cong;
pub(crate) mod testmod;

use crate::backend::{Backend, KdataOf, Step, event};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Dirty, Seen};
use crate::pc::Pc;
use crate::place::Linux;
use crate::report::Violation;
use crate::script::Script;
use crate::world::{OpKind, World};

/// How members of a subsystem's structs come to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// Through a socket that has taken a reference.
    ThroughSockets,
    /// By the subsystem itself, for its n-th registration: the first step of a call of each of `Facts::members`, or one
    /// for all.
    From(&'static [Pc]),
    /// By BPF_PROG_TEST_RUN alone.
    ByTestRun,
    /// By functions that the scenario brings.
    ByFunctions,
    /// For a cgroup, along its effective array: what the type is attached to.
    ThroughCgroups,
}

/// What is known of a subsystem without looking at its steps.
#[derive(Debug)]
pub struct Facts {
    /// The name in scenario files: that of its type, where there is one.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// Members of its struct, as the kernel calls them, those that random worlds use.
    pub members: &'static [&'static str],
    /// Its members can be no others than these, some or all of them in this order.
    pub only_these: bool,
    /// What `st_ops->init_member` answers whatever the member is, if it is an errno: then no map is ever ready. 0: each is
    /// taken, or copied.
    pub init_member: i8,
    /// First step of `st_ops->reg`.
    reg: Pc,
    /// First step of `st_ops->unreg`.
    unreg: Pc,
    /// First step of `st_ops->update`, if it is there.
    update: Option<Pc>,
    /// How members are called.
    pub called: Called,
    /// How many registrations there can be at the same time.
    pub entries: usize,
    /// What reg() may answer, each with what the operation must have met (nothing: anything).
    pub(crate) refusals: &'static [(i8, Seen)],
    /// `st_ops->free_after_tasks_rcu_gp`: from 7.4 on its maps wait for Tasks RCU as well, before they are freed.
    pub tasks_rcu: bool,
    /// The first kernel that has it.
    pub since: Linux,
    /// What it breaks by itself, under every design: up to which kernel, and how.
    pub known_bugs: &'static [(Linux, Violation, &'static str)],
}

macro_rules! subsystems {
    ($($(#[$doc:meta])* $variant:ident $file:ident::$facts:ident;)+) => {
        /// A kernel subsystem that takes struct_ops, with the data structure that it keeps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Subsystem {
            $($(#[$doc])* $variant,)+
            /// One that the scenario brings: index into [`crate::script::Script::subsystems`].
            Own(u8),
        }

        impl Subsystem {
            /// Every one that is built in.
            pub const ALL: &[Subsystem] = &[$(Subsystem::$variant),+];

            /// What is known of it.
            pub fn facts(self) -> &'static Facts {
                match self {
                    $(Subsystem::$variant => &$file::$facts,)+
                    Subsystem::Own(_) => &script::FACTS,
                }
            }
        }

        /// The step at the task's program counter, which is one of this subsystem or of its family.
        pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X, of: Subsystem) -> Step {
            match of {
                $(Subsystem::$variant => $file::step(x),)+
                Subsystem::Own(_) => script::step(x),
            }
        }
    };
}

subsystems! {
    /// net/ipv4/tcp_cong.c: an RCU list keyed by name, linked through kdata itself; sockets take references.
    TcpCong tcp_cong::FACTS;
    /// kernel/sched/ext.c: one scheduler, ops copied at enable.
    SchedExt sched_ext::FACTS;
    /// bpf_testmod_ops: reg() calls the first two members and always succeeds; we also keep what was registered.
    Always testmod::ALWAYS;
    /// bpf_testmod's st_ops: one pointer under a mutex that calls hold as well.
    Singleton testmod::SINGLETON;
    /// bpf_testmod_multi_st_ops: a list keyed by the map's id.
    KeyedByMap testmod::KEYED;
    /// hid_bpf_ops of drivers/hid/bpf: a list per device, whose requests are readers of its SRCU, and one
    /// `hid_rdesc_fixup`, published before reg() can still fail, which a probe calls under the device's lock only.
    HidBpf hid_bpf::FACTS;
    /// bpf_dummy_ops: reg() is -EOPNOTSUPP; BPF_PROG_TEST_RUN builds a trampoline of its own.
    Dummy dummy::FACTS;
    /// bpf_tcp_ops: attached to cgroups, which call no reg(); sockets walk the effective array of theirs under RCU.
    BpfTcp bpf_tcp::FACTS;
    /// io_uring_bpf_ops: the loop of a ring, which reg() finds by its descriptor; ring and struct point to each other.
    IoUring io_uring::FACTS;
}

impl Subsystem {
    /// The built-in one with this name in scenario files.
    pub fn from_name(name: &str) -> Option<Subsystem> {
        Self::ALL.iter().copied().find(|s| s.facts().name == name)
    }

    /// The name in scenario files.
    pub fn name(self, script: &Script) -> &str {
        match self {
            Subsystem::Own(own) => &script.subsystems[usize::from(own)].name,
            _ => self.facts().name,
        }
    }

    /// Whether `st_ops->update` is there.
    pub fn has_update(self, script: &Script) -> bool {
        match self {
            Subsystem::Own(own) => script.subsystems[usize::from(own)].update.is_some(),
            _ => self.facts().update.is_some(),
        }
    }
}

/// The subsystem of a kdata that one of its functions is called for; it comes back at `ret`.
fn enter<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step<Subsystem> {
    x.cpu().ret = ret;
    let kdata = x.cpu().kdata.expect("subsystems get a kdata");
    let decl = x.kdata_decl(kdata)?;
    x.st_ops(decl)
}

/// `st_ops->reg(kdata, link)` with the task's kdata and link; comes back at `ret` with the result in `err`.
pub(crate) fn reg<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step {
    match enter(x, ret)? {
        Subsystem::Own(own) => {
            let reg = x.world().script.subsystems[usize::from(own)].reg;
            script::enter(x, reg)
        }
        built_in => x.goto(built_in.facts().reg),
    }
}

/// `st_ops->unreg(kdata, link)`; comes back at `ret`.
pub(crate) fn unreg<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step {
    match enter(x, ret)? {
        Subsystem::Own(own) => {
            let unreg = x.world().script.subsystems[usize::from(own)].unreg;
            script::enter(x, unreg)
        }
        built_in => x.goto(built_in.facts().unreg),
    }
}

/// `st_ops->update(kdata, old_kdata, link)`; comes back at `ret` with the result in `err`.
pub(crate) fn update<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step {
    const ASKED: &str = "link_update has asked whether it is there";
    match enter(x, ret)? {
        Subsystem::Own(own) => {
            let update = x.world().script.subsystems[usize::from(own)].update;
            script::enter(x, update.expect(ASKED))
        }
        built_in => x.goto(built_in.facts().update.expect(ASKED)),
    }
}

/// The first step of a call of a member by the subsystem.
pub(crate) fn call(world: &World, member: u8) -> Pc {
    let Some(ty) = world.called_by(OpKind::Call) else {
        return Pc::Finish;
    };
    let facts = ty.subsystem.facts();
    match facts.called {
        Called::From([first]) => *first,
        Called::From(each) => {
            let member = ty.members.get(usize::from(member));
            let name = member.map_or("", |m| m.name.as_str());
            let place = facts.members.iter().position(|m| *m == name);
            place.map_or(Pc::Finish, |place| each[place])
        }
        _ => Pc::Finish,
    }
}

/// Whether the world's types are sched_ext's (its members are called through its own copy).
pub(crate) fn scx_types(world: &World) -> bool {
    let called = |t: &crate::world::StructOpsType| t.subsystem.facts().called;
    world
        .types
        .iter()
        .any(|t| called(t) == Called::From(&[Pc::ScxCall]))
}

/// A subsystem function without result returns to the attach path.
pub(crate) fn back<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let ret = x.cpu().ret;
    x.goto(ret)
}

/// The subsystem function returns `err` to the attach path.
pub(crate) fn leave<'w, X: Backend<'w>>(x: &mut X, err: i8) -> Step {
    if err != 0 {
        event!(x, "{}", errno::name(err));
    }
    x.cpu().err = err;
    back(x)
}

/// reg() is given a struct: whether it has one of the same map, in `slot` or anywhere, which puts to the test whether it
/// refuses as it does on mainline.
pub(crate) fn given_again<'w, X: Backend<'w>>(
    x: &mut X,
    kdata: KdataOf<X>,
    slot: Option<u8>,
) -> bool {
    let attaches = matches!(
        x.cpu().op,
        OpKind::MapUpdate | OpKind::LinkCreate | OpKind::SysBpfLinkCreate
    );
    let again = attaches && x.has_one_of_its_map(kdata, slot);
    if again {
        x.witness(Invariant::RefusalsKept);
    }
    again
}

/// A subsystem that refuses a struct that it has takes one in reg().
pub(crate) fn takes<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>, slot: Option<u8>) {
    if given_again(x, kdata, slot) {
        let what = format_args!("NOT REFUSED: it has a struct of this map, which mainline refuses");
        x.violate(Invariant::RefusalsKept, what);
    }
}

/// Book-keeping of every successful registration: what the subsystem was given must be whole.
pub(crate) fn registered<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    let decl = x.kdata_decl(kdata)?;
    let refusals = x.st_ops(decl)?.facts().refusals;
    if refusals.iter().any(|(_, met)| *met == Seen::TAKEN) {
        takes(x, kdata, None);
    }
    x.witness(Invariant::NoTornPublish);
    x.check_whole(kdata)?;
    let cookie = match x.cpu().link {
        Some(link) => x.link_cookie(link)?,
        None => 0,
    };
    x.note_registered(kdata, cookie)?;
    x.touch(Dirty::REG);
    Ok(())
}

/// Book-keeping of the end of a registration of `kdata` that the task's unreg() was called for.
pub(crate) fn unregistered<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    if x.cpu().kdata == Some(kdata) {
        x.witness(Invariant::NoForeignUnreg);
    }
    x.note_unregistered(kdata)?;
    x.undo(Dirty::REG);
    Ok(())
}
