//! From a scenario to what the runner in the VM reads: a table from the scenario's subsystem to a type that a kernel
//! has, the set-up, and rounds, each with a plan for every CPU.
//!
//! Not here: how the runner carries it out (`vm/tests/scenario.c`), and what is made of its record.

use std::fmt::Write;

use struct_ops_model::Linux;
use struct_ops_model::operation::{OpKind, Operand, Operation};
use struct_ops_model::world::{Body, Plan, ProgType, StructOpsType, Subsystem, World};

use struct_ops_sim::live::round::concrete;
use struct_ops_sim::scenario::shipped_subsystem;

use crate::series::Base;

/// The kernel that shall carry a scenario out.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its version.
    pub base: Base,
    /// Its programs can read a cookie.
    pub cookie: bool,
    /// The lab's modules fit it, and it injects faults.
    pub modules: bool,
}

/// How a kernel plays a subsystem of the model.
struct Cast {
    /// The kernel's struct.
    ty: &'static str,
    /// The module that has it; none: the kernel itself.
    module: Option<&'static str>,
    /// How the runner calls members.
    caller: &'static str,
    members: Members,
    /// Whether its programs sleep; none: as the scenario says.
    sleepable: Option<bool>,
    /// Every map has a program for each member: the kernel refuses it, else.
    whole: bool,
}

impl Default for Cast {
    fn default() -> Self {
        Cast {
            ty: "",
            module: None,
            caller: "",
            members: Members::Named {
                called: &[],
                required: &[],
            },
            sleepable: None,
            whole: false,
        }
    }
}

/// Which of the kernel's members stand for those of the scenario.
enum Members {
    /// Those of the same names, of which these can be called and these are required.
    Named {
        called: &'static [&'static str],
        required: &'static [&'static str],
    },
    /// Any: plain ones and sleepable ones in the order of the file.
    Any {
        plain: &'static [&'static str],
        sleepable: &'static [&'static str],
    },
}

/// The table from subsystems to the types of a kernel.
fn cast(subsystem: Subsystem, world: &World, target: &Target) -> Result<Cast, String> {
    let name = subsystem.name(&world.script);
    let own = matches!(subsystem, Subsystem::Own(_));
    if own && shipped_subsystem(name).as_ref() != Some(&world.script) {
        return Err("no kernel has a subsystem that a scenario brings".into());
    }
    // What a kernel has of a subsystem differs between them: the scenario says which one it means.
    let since = subsystem.facts().since;
    let exact = own || !subsystem.facts().known_bugs.is_empty() || since > Linux::V6_12;
    let linux = world.linux.version();
    if exact && linux != target.base.name() {
        return Err(format!("{name} is modelled as Linux {linux} has it"));
    }
    Ok(match subsystem {
        Subsystem::TcpCong => Cast {
            ty: "tcp_congestion_ops",
            module: None,
            caller: "tcp",
            members: Members::Named {
                called: &["ssthresh", "cong_avoid"],
                required: &["ssthresh", "cong_avoid"],
            },
            sleepable: Some(false),
            ..Cast::default()
        },
        // bpf_testmod's own type calls its members in reg() only
        Subsystem::Always => Cast {
            ty: "lab_ops",
            module: Some("lab_ops"),
            caller: "lab_ops",
            members: Members::Any {
                plain: &["plain", "second"],
                sleepable: &["sleepable"],
            },
            ..Cast::default()
        },
        Subsystem::SchedExt => Cast {
            ty: "sched_ext_ops",
            module: None,
            caller: "scx",
            members: Members::Named {
                called: &["enqueue", "select_cpu", "dispatch"],
                required: &[],
            },
            ..Cast::default()
        },
        Subsystem::Singleton => Cast {
            ty: "bpf_testmod_st_ops",
            module: Some("bpf_testmod"),
            caller: "st_ops",
            members: Members::Named {
                called: &["test_prologue", "test_epilogue"],
                required: &[],
            },
            ..Cast::default()
        },
        Subsystem::HidBpf => Cast {
            ty: "hid_bpf_ops",
            module: None,
            caller: "hid",
            members: Members::Named {
                called: &["hid_rdesc_fixup"],
                required: &[],
            },
            ..Cast::default()
        },
        Subsystem::Dummy => Cast {
            ty: "bpf_dummy_ops",
            module: None,
            caller: "test_run",
            members: Members::Named {
                called: &["test_1", "test_2", "test_sleepable"],
                required: &[],
            },
            ..Cast::default()
        },
        Subsystem::KeyedByMap => Cast {
            ty: "bpf_testmod_multi_st_ops",
            module: Some("bpf_testmod"),
            caller: "keyed",
            members: Members::Named {
                called: &["test_1"],
                required: &[],
            },
            // under a spinlock
            sleepable: Some(false),
            whole: true,
        },
        Subsystem::Own(_) if name == "hid_bpf_ops-events" => Cast {
            ty: "hid_bpf_ops",
            caller: "hid_event",
            members: Members::Named {
                called: &["hid_device_event"],
                required: &[],
            },
            sleepable: Some(false),
            ..Cast::default()
        },
        Subsystem::Own(_) if name == "Qdisc_ops" && target.modules => {
            return Err(
                "the lab's kernels are built without CONFIG_SYSCTL: there is no net.core.default_qdisc".into(),
            );
        }
        Subsystem::Own(_) if name == "Qdisc_ops" => Cast {
            ty: "Qdisc_ops",
            caller: "qdisc",
            members: Members::Named {
                called: &["enqueue"],
                required: &[],
            },
            sleepable: Some(false),
            whole: true,
            ..Cast::default()
        },
        Subsystem::Own(_) if name == "binfmt_misc_ops" && !target.modules => {
            return Err(
                "Debian's kernel has CONFIG_BINFMT_MISC=m: CONFIG_BINFMT_MISC_BPF wants it built in".into(),
            );
        }
        Subsystem::Own(_) if name == "binfmt_misc_ops" => Cast {
            ty: "binfmt_misc_ops",
            caller: "binfmt",
            members: Members::Named {
                called: &["match", "load"],
                required: &[],
            },
            sleepable: Some(true),
            whole: true,
            ..Cast::default()
        },
        Subsystem::Own(_) | Subsystem::BpfTcp | Subsystem::IoUring => {
            return Err(format!("the runner does not play {name} yet"));
        }
    })
}

/// The kernel's name of each member of a type of the scenario.
fn members(cast: &Cast, of: &StructOpsType) -> Result<Vec<&'static str>, String> {
    let (mut plain, mut sleepable) = (0, 0);
    let other = |m: &&struct_ops_model::world::Member| cast.sleepable == Some(!m.sleepable);
    if let Some(member) = of.members.iter().find(other) {
        let may = if member.sleepable {
            "may not"
        } else {
            "must be able to"
        };
        return Err(format!(
            "programs of {} {may} sleep, {}",
            cast.ty, member.name
        ));
    }
    let name = |member: &struct_ops_model::world::Member| match cast.members {
        Members::Named { called, required } => {
            let found = called.iter().find(|name| **name == member.name);
            let name = *found.ok_or_else(|| {
                format!(
                    "the runner calls {} of {}, not {}",
                    called.join(", "),
                    cast.ty,
                    member.name
                )
            })?;
            match (member.required, required.contains(&name)) {
                (true, false) => Err(format!("{} does not require {name}", cast.ty)),
                (false, true) => Err(format!("{} requires {name}", cast.ty)),
                _ => Ok(name),
            }
        }
        Members::Any { .. } if member.required => Err(format!("{} requires no member", cast.ty)),
        Members::Any {
            plain: names,
            sleepable: sleeping,
        } => {
            let (names, next) = match member.sleepable {
                true => (sleeping, &mut sleepable),
                false => (names, &mut plain),
            };
            *next += 1;
            names.get(*next - 1).copied().ok_or_else(|| {
                let kind = if member.sleepable {
                    "sleepable"
                } else {
                    "plain"
                };
                format!(
                    "{} has no more than {} {kind} members",
                    cast.ty,
                    names.len()
                )
            })
        }
    };
    of.members.iter().map(name).collect()
}

/// The operations of the runner.
const PLAYED: [OpKind; 32] = [
    OpKind::MapCreate,
    OpKind::MapUpdate,
    OpKind::MapDelete,
    OpKind::MapLookup,
    OpKind::MapClose,
    OpKind::LinkCreate,
    OpKind::LinkUpdate,
    OpKind::LinkDetach,
    OpKind::LinkClose,
    OpKind::LinkPin,
    OpKind::LinkUnpin,
    OpKind::LinkInfo,
    OpKind::SockOpen,
    OpKind::SockCall,
    OpKind::SockClose,
    OpKind::Call,
    OpKind::TestRun,
    OpKind::SysBpfLinkCreate,
    OpKind::ScxError,
    OpKind::ProgAssoc,
    OpKind::ProgRun,
    OpKind::ProgClose,
    OpKind::LinkDup,
    OpKind::LinkGet,
    OpKind::LinkGetFdById,
    OpKind::MapDup,
    OpKind::MapPin,
    OpKind::MapUnpin,
    OpKind::MapGet,
    OpKind::MapGetFdById,
    OpKind::Fork,
    OpKind::Exit,
];

/// An operation as the runner reads it: its name and its operands in their order, by their places in the world.
fn operation(world: &World, operation: Operation) -> Result<String, String> {
    let mut text = operation.kind().name().to_owned();
    if let Operation::Run { function } = operation {
        // those of the shipped subsystems that are played
        return Ok(world.script.functions[usize::from(function)].name.clone());
    }
    if !PLAYED.contains(&operation.kind()) {
        return Err(format!("the runner has no {text} yet"));
    }
    for (operand, value) in operation.operands() {
        let number = match (operand, value) {
            // Where in a cgroup: the runner has none.
            (Operand::Target | Operand::Position | Operand::Revision, None) => continue,
            (Operand::Target | Operand::Position | Operand::Revision, Some(_)) => {
                return Err(format!("the runner has no {text} with a target yet"));
            }
            (Operand::Cookie, Some(value)) => world.cookies[usize::from(value)] as i64,
            (_, Some(value)) => value.into(),
            (_, None) => -1,
        };
        text += &format!(" {number}");
    }
    Ok(text)
}

/// One round: what every CPU does, and who comes next.
#[derive(Clone, Debug)]
pub struct Round {
    /// The world, with a plan at random for every free choice.
    pub world: World,
    /// The CPUs in the order of their operations; empty if they run at the same time.
    pub turns: Vec<u8>,
    /// One allocation of an operation that fails: CPU, operation, which one.
    pub fail: Option<(usize, usize, u32)>,
    /// Where the delays begin.
    pub seed: u64,
    /// kallsyms is read after each operation.
    pub ksyms: bool,
    /// The moves of a replay, as the runner reads them; empty if nobody is held.
    pub moves: Vec<String>,
    /// What goes wrong on purpose in the first operation (see `prove`).
    pub broken: Option<&'static str>,
    /// The cookie that a replay shall read, and should not.
    pub foreseen: Option<Foreseen>,
}

/// A program that reads the cookie of another attachment than the one through which it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// In which CPU's operation.
    pub cpu: usize,
    /// Its place in the CPU's plan.
    pub number: usize,
    /// The program.
    pub prog: u8,
    /// What it reads.
    pub cookie: u64,
    /// What it should read.
    pub right: u64,
}

impl Round {
    /// A replay in which one operation follows the other.
    pub fn is_by_turns(&self) -> bool {
        let all = |line: &String| line.ends_with(" return") || line.starts_with("move work ");
        match self.moves.split_last() {
            Some((last, before)) => before.iter().all(all) && !last.contains(" gate "),
            None => false,
        }
    }

    /// The operations of a CPU.
    pub fn plan(&self, cpu: usize) -> &[Operation] {
        match &self.world.cpus[cpu].plan {
            Plan::Fixed(operations) => operations,
            Plan::Free { .. } => &[],
        }
    }
}

/// How many of the first rounds that take turns read kallsyms, which is slow.
const KSYMS: usize = 2;

/// The process that another one forks.
const CHILD: u8 = 1;

/// The turns of a process that another one forks, behind that operation's.
fn after_its_fork(world: &World, turns: Vec<u8>) -> Vec<u8> {
    let is_fork = |cpu: u8, number: usize| match &world.cpus[usize::from(cpu)].plan {
        Plan::Fixed(operations) => operations[number].kind() == OpKind::Fork,
        Plan::Free { .. } => false,
    };
    let mut done = vec![0; world.cpus.len()];
    let (mut before, mut later) = (Vec::new(), Vec::new());
    let mut turns = turns.into_iter();
    for cpu in turns.by_ref() {
        if world.forks() && world.cpus[usize::from(cpu)].proc == CHILD {
            later.push(cpu);
            continue;
        }
        before.push(cpu);
        done[usize::from(cpu)] += 1;
        if is_fork(cpu, done[usize::from(cpu)] - 1) {
            break;
        }
    }
    before.into_iter().chain(later).chain(turns).collect()
}

/// So many rounds: by turns, and at the same time, with one allocation that fails now and then if the scenario has them
/// fail.
pub fn rounds(world: &World, target: &Target, count: usize, seed: u64) -> Vec<Round> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let one = |number: usize| {
        let world = concrete(world, &mut rng);
        let left: Vec<usize> = world
            .cpus
            .iter()
            .map(|cpu| match &cpu.plan {
                Plan::Fixed(operations) => operations.len(),
                Plan::Free { .. } => 0,
            })
            .collect();
        let mut turns: Vec<u8> = Vec::new();
        if number.is_multiple_of(2) {
            for (cpu, operations) in left.iter().enumerate() {
                turns.extend(std::iter::repeat_n(cpu as u8, *operations));
            }
            rng.shuffle(&mut turns);
            turns = after_its_fork(&world, turns);
        }
        let fails = world.alloc_failures > 0 && target.modules && number % 4 >= 2;
        // not the runner's own sockets
        let may_fail = |operation: &Operation| {
            matches!(
                operation.kind(),
                OpKind::MapUpdate | OpKind::LinkCreate | OpKind::LinkUpdate | OpKind::TestRun
            )
        };
        let mut candidates = Vec::new();
        for (cpu, decl) in world.cpus.iter().enumerate() {
            if let Plan::Fixed(operations) = &decl.plan {
                let these = operations.iter().enumerate();
                let these = these.filter(|(_, operation)| may_fail(operation));
                candidates.extend(these.map(|(number, _)| (cpu, number)));
            }
        }
        let fail = (fails && !candidates.is_empty()).then(|| {
            let (cpu, operation) = candidates[rng.usize(..candidates.len())];
            (cpu, operation, rng.u32(1..24))
        });
        Round {
            world,
            turns,
            fail,
            seed: rng.u64(1..),
            ksyms: number.is_multiple_of(2) && number < 2 * KSYMS,
            moves: Vec::new(),
            broken: None,
            foreseen: None,
        }
    };
    (0..count).map(one).collect()
}

/// What the runner reads.
///
/// # Errors
/// Why a kernel cannot be asked.
pub fn program(target: &Target, rounds: &[(usize, &Round)]) -> Result<String, String> {
    let Some((_, first)) = rounds.first() else {
        return Ok(String::new());
    };
    let world = &first.world;
    let mut casts: Vec<(Cast, &StructOpsType)> = Vec::new();
    for ty in &world.types {
        let cast = cast(ty.subsystem, world, target)?;
        if cast.module.is_some() && !target.modules {
            return Err(format!(
                "{} is in a module that was not built for this kernel",
                cast.ty
            ));
        }
        if casts
            .iter()
            .any(|(_, other)| other.subsystem == ty.subsystem)
        {
            return Err("two types of one subsystem are one type in a kernel".into());
        }
        casts.push((cast, ty));
    }
    for map in &world.maps {
        let (cast, _) = &casts[map.ty];
        if cast.whole && map.progs.contains(&None) {
            return Err(format!(
                "the kernel refuses a {} without one of its members",
                cast.ty
            ));
        }
        if cast.caller == "keyed" && !map.link {
            return Err("nothing tells in which order plain maps were registered".into());
        }
        if matches!(cast.caller, "qdisc" | "binfmt") && map.key != 0 {
            return Err(format!("the runner asks for a {} by one name", cast.ty));
        }
    }
    if world.kinds().filter(|kind| *kind == OpKind::Fork).count() > 1 {
        return Err("the runner forks once".into());
    }
    if world.types.iter().any(|ty| ty.module) {
        return Err("the runner takes no module away".into());
    }
    if world
        .types
        .iter()
        .flat_map(|ty| &ty.members)
        .any(|m| m.size != 171)
    {
        return Err("a kernel's trampolines have the size that they have".into());
    }
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("cookie {}", u8::from(target.cookie)));
    let ksyms = rounds.iter().any(|(_, round)| round.ksyms);
    line(format!("ksyms {}", u8::from(ksyms)));
    // with kfuncs of the lab's module
    let replays = rounds.iter().any(|(_, round)| !round.moves.is_empty());
    let named = replays && target.modules;
    line(format!("named {}", u8::from(named)));
    // with the kfunc and the ioctl of the lab's module
    let asks = world.asks() && target.base == Base::V7_3 && target.modules;
    line(format!("tied {}", u8::from(asks)));
    for (cast, ty) in &casts {
        let module = cast.module.unwrap_or("-");
        line(format!("type {} {module} {}", cast.ty, cast.caller));
        for (name, member) in members(cast, ty)?.iter().zip(&ty.members) {
            line(format!("member {name} {}", u8::from(member.sleepable)));
        }
    }
    for prog in &world.progs {
        let body = Body::NAMES
            .iter()
            .find(|body| body.1 == prog.body)
            .map_or("", |body| body.0);
        if prog.body == Body::Sleep && !target.modules {
            return Err(
                "a program sleeps in a kfunc of a module that was not built for this kernel".into(),
            );
        }
        if prog.body.has_callback() || prog.body == Body::Ask && prog.of == ProgType::Tracing {
            return Err("the runner has no timer, no work queue and no tracing program".into());
        }
        let member = matches!(prog.of, ProgType::StructOps { .. });
        if prog.body == Body::Ask && member && !asks {
            return Err(
                "no kfunc of this kernel asks for a struct by the program's association".into(),
            );
        }
        if prog.body == Body::Fail {
            return Err("no subsystem that the runner plays asks for a program's error".into());
        }
        let process = prog.process.map_or(-1, i16::from);
        match prog.of {
            ProgType::StructOps { ty, member } => {
                line(format!("prog {ty} {member} {body} {process}"));
            }
            ProgType::Syscall | ProgType::Tracing => {
                line(format!("prog -1 -1 {body} {process}"));
            }
        }
    }
    for map in &world.maps {
        let progs: Vec<String> = map
            .progs
            .iter()
            .map(|p| p.map_or(-1, i16::from).to_string())
            .collect();
        let (link, owner) = (u8::from(map.link), u8::from(map.owner_set));
        line(format!(
            "map {} {link} {} {owner} {}",
            map.ty,
            map.key,
            progs.join(" ")
        ));
    }
    line(format!("procs {}", world.procs));
    for setup in &world.setup {
        line(format!("setup {}", operation(world, *setup)?));
    }
    for (number, round) in rounds {
        line(format!(
            "round {number} {} {}",
            round.seed,
            u8::from(round.ksyms)
        ));
        if let Some((cpu, operation, nth)) = round.fail {
            line(format!("fail {cpu} {operation} {nth}"));
        }
        if let Some(word) = round.broken {
            line(format!("broken {word}"));
        }
        round.moves.iter().for_each(|text| line(text.clone()));
        if !round.turns.is_empty() {
            let turns: Vec<String> = round.turns.iter().map(u8::to_string).collect();
            line(format!("turns {}", turns.join(" ")));
        }
        for (cpu, decl) in round.world.cpus.iter().enumerate() {
            line(format!("cpu {}", decl.proc));
            for op in round.plan(cpu) {
                line(format!("do {}", operation(&round.world, *op)?));
            }
        }
        line("run".into());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        base: Base::V6_12,
        cookie: true,
        modules: true,
    };

    fn shipped(name: &str) -> World {
        struct_ops_sim::shipped::find(name).unwrap().world
    }

    fn told(name: &str, target: &Target) -> Result<String, String> {
        let rounds = rounds(&shipped(name), target, 4, 1);
        let rounds: Vec<_> = rounds.iter().enumerate().collect();
        program(target, &rounds)
    }

    #[test]
    fn a_scenario_becomes_a_program() {
        let text = told("two-links-tcp", &TARGET).unwrap();
        assert!(text.starts_with(
            "cookie 1\nksyms 1\nnamed 0\ntied 0\ntype tcp_congestion_ops - tcp\nmember ssthresh 0\n"
        ));
        assert!(text.contains("\nsetup link_create 0 17 0\nsetup sock_open 0\nround 0 "));
        assert_eq!(text.matches("\nrun\n").count(), 4);
        assert_eq!(text.matches("\nturns ").count(), 2);
    }

    #[test]
    fn programs_without_attachment_are_run_by_themselves() {
        let text = told("dummy-ops", &TARGET).unwrap();
        assert!(text.contains("\ntype bpf_dummy_ops - test_run\nmember test_1 0\n"));
        assert!(text.contains("\ndo test_run 0\n"), "{text}");
    }

    #[test]
    fn types_of_two_subsystems_have_their_own_members() {
        let text = told("tcp-and-always", &TARGET).unwrap();
        for ty in [
            "tcp_congestion_ops - tcp\nmember ssthresh 0",
            "lab_ops lab_ops lab_ops\nmember plain 0",
        ] {
            assert!(text.contains(&format!("\ntype {ty}\n")), "{text}");
        }
        assert!(
            text.contains("\nmap 0 1 0 0 0 1\nmap 1 1 1 0 2 3\n"),
            "{text}"
        );
    }

    #[test]
    fn functions_that_a_shipped_subsystem_runs_are_operations() {
        let image = Target {
            base: Base::V7_3,
            cookie: false,
            modules: false,
        };
        let text = told("qdisc-default", &image).unwrap();
        assert!(
            text.contains("\ntype Qdisc_ops - qdisc\nmember enqueue 0\n"),
            "{text}"
        );
        assert!(text.contains("\ndo dev_queue_xmit\n"), "{text}");
        let why = |name| told(name, &image).unwrap_err();
        // its functions have the same names, and do something else
        assert!(why("qdisc-default-v1").contains("brings"));
        assert!(why("binfmt-detach-in-exec").contains("CONFIG_BINFMT_MISC=m"));
    }

    #[test]
    fn types_that_only_7_3_has_are_played_on_the_built_one() {
        let built = Target {
            base: Base::V7_3,
            cookie: false,
            modules: true,
        };
        let text = told("binfmt-detach-in-exec", &built).unwrap();
        for line in [
            "type binfmt_misc_ops - binfmt",
            "member load 1",
            "setup bm_entry_create",
            "do exec",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{text}");
        }
        let text = told("two-links-keyed", &built).unwrap();
        let ty = "\ntype bpf_testmod_multi_st_ops bpf_testmod keyed\nmember test_1 0\n";
        assert!(text.contains(ty), "{text}");
    }

    #[test]
    fn what_a_kernel_refuses_cannot_be_expressed() {
        let image = Target {
            base: Base::V7_3,
            cookie: false,
            modules: false,
        };
        let why = |change: fn(&mut World)| {
            let mut world = shipped("qdisc-default");
            change(&mut world);
            let rounds = rounds(&world, &image, 1, 1);
            program(&image, &[(0, &rounds[0])]).unwrap_err()
        };
        let sleeps = why(|world| world.types[0].members[0].sleepable = true);
        assert!(sleeps.contains("may not sleep"), "{sleeps}");
        let empty = why(|world| world.maps[0].progs[0] = None);
        assert!(empty.contains("without one of its members"), "{empty}");
    }

    #[test]
    fn a_child_has_its_turns_after_its_fork() {
        let world = shipped("forked-fds");
        for seed in 0..20 {
            for round in rounds(&world, &TARGET, 2, seed).iter().step_by(2) {
                let turns = &round.turns;
                let child = turns.iter().position(|cpu| *cpu == 1).unwrap();
                let forks = turns
                    .iter()
                    .enumerate()
                    .filter(|(_, cpu)| **cpu == 0)
                    .nth(1);
                assert!(forks.unwrap().0 < child, "{turns:?}");
                assert_eq!(turns.len(), 10);
            }
        }
    }

    #[test]
    fn what_cannot_be_expressed_says_why() {
        let image = Target {
            modules: false,
            cookie: false,
            ..TARGET
        };
        let why = |name, target| told(name, target).unwrap_err();
        assert!(why("two-links-always", &image).contains("module"));
        assert!(why("two-links-keyed", &TARGET).contains("7.3"));
        assert!(why("refused-updates", &TARGET).contains("two types"));
    }

    #[test]
    fn every_shipped_scenario_is_a_program_or_says_why_not() {
        let mut told = 0;
        for case in struct_ops_sim::shipped::all().unwrap() {
            let struct_ops_sim::scenario::Case::Attach(scenario) = case else {
                continue;
            };
            let rounds = rounds(&scenario.world, &TARGET, 2, 1);
            let rounds: Vec<_> = rounds.iter().enumerate().collect();
            match program(&TARGET, &rounds) {
                Ok(_) => told += 1,
                Err(why) => assert!(!why.is_empty()),
            }
        }
        assert!(told > 20, "{told}");
    }
}
