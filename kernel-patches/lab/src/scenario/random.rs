//! `random`: operation sequences at random, on one thread and on several, held against the model through histories.
//!
//! A seed is a small world and rounds of it; what each round showed must be explained by a run of the model under the
//! design that the series stands for. What is not explained is cut down to what it takes and becomes a scenario file.

use std::collections::BTreeMap;
use std::path::Path;

use struct_ops_model::design::SameMap;
use struct_ops_model::operation::Operand;
use struct_ops_model::world::{
    Body, Called, CpuDecl, MapDecl, Member, OpKind, Operation, Plan, ProgDecl, ProgType,
    StructOpsType, Subsystem, World,
};
use struct_ops_model::{Design, Invariant};
use struct_ops_sim::history::file::File;
use struct_ops_sim::scenario::{Scenario, Words, emit, shipped_subsystem};

use super::explain;
use super::job::{self, Job};
use super::program::{Round, Target, rounds};
use super::symptom::Seen;
use crate::error::{At, Error, Result};
use crate::series::Base;
use crate::vm::Machine;

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The seeds.
    pub seeds: (u64, u64),
    /// Rounds of each.
    pub rounds: usize,
}

/// Seeds that share a VM.
const SHARED: usize = 25;

/// A round that no run of the model explains.
#[derive(Clone, Debug)]
pub struct Unexplained {
    /// Its seed.
    pub seed: u64,
    /// Its number.
    pub round: usize,
    /// What was seen, and what the model allows.
    pub why: String,
    /// Its operations as a scenario file.
    pub scenario: String,
    /// What was seen of it, as a file for `struct-ops-sim explain history`, or why there can be none.
    pub history: std::result::Result<String, String>,
}

/// What came of it on one kernel.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Seeds that were carried out.
    pub seeds: usize,
    /// Rounds that began.
    pub rounds: usize,
    /// Operations.
    pub operations: usize,
    /// Rounds that the model explains.
    pub explained: usize,
    /// Promises that no explanation of a round keeps.
    pub broke: BTreeMap<Invariant, usize>,
    /// Rounds of which nothing is said, by the reason.
    pub beyond: BTreeMap<String, usize>,
    /// Symptoms, the first of each kind; explained ones, too.
    pub symptoms: Vec<(u64, Seen)>,
    /// Rounds without explanation.
    pub unexplained: Vec<Unexplained>,
    /// Seeds of which the runner itself failed, and how.
    pub runner: Vec<(u64, String)>,
}

impl Outcome {
    /// Nothing is unexplained, and something was explained. What a kernel shows without a round to blame must be broken
    /// in some round.
    pub fn as_predicted(&self) -> bool {
        let stray = self.symptoms.iter().any(|(_, seen)| {
            let broke = |invariant| self.broke.contains_key(&invariant);
            seen.symptom.shows(broke).is_none()
        });
        self.unexplained.is_empty() && self.runner.is_empty() && self.explained > 0 && !stray
    }
}

const TCP: &str = "tcp_congestion_ops";
const SCX: &str = "sched_ext_ops";
const ALWAYS: &str = "bpf_testmod_ops";
const KEYED: &str = "bpf_testmod_multi_st_ops";
const QDISC: &str = "Qdisc_ops";
const BINFMT: &str = "binfmt_misc_ops";

/// Whose types a world of this kernel may have, each as likely as the others: of one subsystem, or of two.
fn choices(target: &Target) -> &'static [&'static [&'static str]] {
    match (target.base, target.modules) {
        (Base::V6_12, true) => &[
            &[ALWAYS],
            &[ALWAYS],
            &[ALWAYS],
            &[TCP],
            &[TCP],
            &[TCP],
            &[TCP, ALWAYS],
            &[TCP, SCX],
        ],
        (Base::V6_12, false) => &[&[TCP], &[TCP], &[TCP], &[TCP, SCX]],
        (Base::V7_3, true) => &[
            &[ALWAYS],
            &[ALWAYS],
            &[TCP],
            &[TCP],
            &[TCP, ALWAYS],
            &[TCP, SCX],
            &[KEYED],
            &[BINFMT],
        ],
        (Base::V7_3, false) => &[&[TCP], &[TCP], &[TCP, SCX], &[QDISC]],
    }
}

/// The members of a subsystem's struct that have programs, and whether these sleep.
fn members(subsystem: &str) -> &'static [(&'static str, bool)] {
    match subsystem {
        TCP => &[("ssthresh", false), ("cong_avoid", false)],
        SCX | QDISC => &[("enqueue", false)],
        KEYED => &[("test_1", false)],
        BINFMT => &[("match", true), ("load", true)],
        _ => &[("test_1", false), ("test_2", false), ("test_3", true)],
    }
}

/// A small world of one seed: maps that are ready, perhaps attached, and free plans.
pub fn world(seed: u64, target: &Target, design: &Design) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let choices = choices(target);
    let names = choices[rng.usize(..choices.len())];
    let mut world = World {
        cookies: vec![0, 0x11, 0x2222_2222, 0x3333_3333_3333_3333],
        keys: vec!["key".into()],
        linux: target.base.linux(),
        procs: 1,
        alloc_failures: u8::from(rng.u8(..3) == 0),
        max_links: 4,
        ..World::default()
    };
    for name in names {
        let built_in = Subsystem::from_name(name);
        if built_in.is_none() {
            world.script = shipped_subsystem(name).expect("one of them is shipped");
        }
        world.types.push(StructOpsType {
            name: format!("ops{}", world.types.len() + 1),
            subsystem: built_in.unwrap_or(Subsystem::Own(0)),
            members: members(name)
                .iter()
                .map(|(member, sleepable)| Member {
                    name: (*member).into(),
                    sleepable: *sleepable,
                    required: *name == TCP,
                    size: 171,
                })
                .collect(),
            module: false,
        });
    }
    for map in 0..2u8 {
        // one map of each of two types, two of one
        let ty = usize::from(map) % names.len();
        let members = members(names[ty]);
        let mut progs = vec![None; members.len()];
        for (member, (name, sleepable)) in members.iter().enumerate() {
            progs[member] = Some(world.progs.len() as u8);
            world.progs.push(ProgDecl {
                name: format!("{name}_m{}", map + 1),
                of: ProgType::StructOps { ty, member },
                body: match sleepable {
                    true => Body::Sleep,
                    false => Body::ReadCookie,
                },
                process: None,
            });
        }
        world.maps.push(MapDecl {
            name: format!("m{}", map + 1),
            ty,
            // in which order plain ones are registered cannot be seen
            link: names[ty] == KEYED || rng.u8(..5) > 0,
            key: 0,
            progs,
            owner_set: false,
        });
        world.setup.push(Operation::MapCreate { map });
        if rng.u8(..4) > 0 {
            world.setup.push(Operation::MapUpdate { map });
        }
    }
    let tied = design.has_assoc_command(world.linux);
    if tied {
        world.progs.push(ProgDecl {
            name: "tool".into(),
            of: ProgType::Syscall,
            body: Body::Ask,
            process: None,
        });
    }
    let threads = 1 + rng.usize(..2);
    let plan = Plan::Free {
        kinds: kinds(&world, design, tied),
        budget: if threads == 1 { 10 } else { 5 },
    };
    world.cpus = vec![CpuDecl { proc: 0, plan }; threads];
    // A plain map that is updated is registered: the second one would be refused.
    let plain = |operation: &Operation| match *operation {
        Operation::MapUpdate { map } => !world.maps[usize::from(map)].link,
        _ => false,
    };
    let setup: Vec<Operation> = world.setup.iter().copied().filter(|o| !plain(o)).collect();
    world.setup = setup;
    world
}

fn kinds(world: &World, design: &Design, tied: bool) -> Vec<OpKind> {
    let mut kinds = vec![
        OpKind::LinkCreate,
        OpKind::LinkCreate,
        OpKind::LinkCreate,
        OpKind::LinkDetach,
        OpKind::LinkClose,
        OpKind::LinkClose,
        OpKind::LinkPin,
        OpKind::LinkUnpin,
        OpKind::LinkInfo,
        OpKind::MapUpdate,
        OpKind::MapDelete,
        OpKind::MapLookup,
        OpKind::MapClose,
    ];
    // a link that is updated to its own map is a bug of tcp that ends the boot
    let tcp = world
        .types
        .iter()
        .any(|t| t.subsystem == Subsystem::TcpCong);
    if design.same_map != SameMap::Update || !tcp {
        kinds.extend([OpKind::LinkUpdate; 2]);
    }
    if tied {
        kinds.extend([OpKind::ProgAssoc; 3]);
        kinds.extend([OpKind::ProgRun, OpKind::ProgClose]);
    }
    for ty in &world.types {
        kinds.extend_from_slice(match ty.subsystem.facts().called {
            Called::ThroughSockets => &[
                OpKind::SockOpen,
                OpKind::SockOpen,
                OpKind::SockCall,
                OpKind::SockCall,
                OpKind::SockClose,
            ],
            Called::ByFunctions => &[OpKind::Run; 8],
            _ => &[OpKind::Call; 4],
        });
    }
    kinds
}

/// One seed in so many has a round that reads kallsyms after each operation: that takes longer than all the rest.
const LOOKED: u64 = 4;

/// Carries the seeds out on one kernel; what is known is told `so_far` again and again, and is not lost if a later VM is.
///
/// # Errors
/// What is outside of kernel and runner: files, QEMU.
pub fn run(
    machine: &Machine<'_>,
    target: &Target,
    design: &Design,
    effort: Effort,
    verbose: bool,
    so_far: &dyn Fn(&Outcome) -> Result<()>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let seeds: Vec<u64> = (effort.seeds.0..effort.seeds.1).collect();
    for shared in seeds.chunks(SHARED) {
        let new = |seed: &u64| {
            let mut rounds = rounds(&world(*seed, target, design), target, effort.rounds, *seed);
            let looked = usize::from(seed.is_multiple_of(LOOKED));
            rounds
                .iter_mut()
                .skip(looked)
                .for_each(|round| round.ksyms = false);
            Job::new(rounds)
        };
        let mut jobs: Vec<Job> = shared.iter().map(new).collect();
        let carried_out = job::carry_out(machine, target, design, &mut jobs, verbose);
        for (seed, job) in shared.iter().zip(&jobs) {
            add(&mut outcome, *seed, design, job);
        }
        so_far(&outcome)?;
        if let Err(error) = carried_out {
            eprintln!("{}", text("until then", &outcome));
            return Err(error);
        }
        eprintln!(
            "{} operations, {} rounds explained, {} not",
            outcome.operations,
            outcome.explained,
            outcome.unexplained.len()
        );
    }
    Ok(outcome)
}

fn add(outcome: &mut Outcome, seed: u64, design: &Design, job: &Job) {
    outcome.seeds += 1;
    outcome.rounds += job.begun;
    outcome.operations += job.operations;
    outcome.explained += job.explained.rounds;
    for (invariant, count) in &job.explained.broke {
        *outcome.broke.entry(*invariant).or_default() += count;
    }
    for (why, count) in &job.explained.beyond {
        *outcome.beyond.entry(why.clone()).or_default() += count;
    }
    if let Some(why) = &job.runner {
        outcome.runner.push((seed, why.clone()));
    }
    for seen in &job.seen {
        let known = |(_, other): &(u64, Seen)| other.symptom == seen.symptom;
        if !outcome.symptoms.iter().any(known) {
            outcome.symptoms.push((seed, seen.clone()));
        }
    }
    for one in &job.explained.unexplained {
        outcome.unexplained.push(Unexplained {
            seed,
            round: one.round,
            why: one.why.clone(),
            scenario: scenario(seed, &job.rounds[one.round], &one.calls),
            history: history(seed, design, one),
        });
    }
}

/// The round up to the operation that is not explained: so many of each CPU.
fn scenario(seed: u64, round: &Round, calls: &[usize]) -> String {
    let mut world = round.world.clone();
    for (cpu, decl) in world.cpus.iter_mut().enumerate() {
        if let Plan::Fixed(operations) = &mut decl.plan {
            operations.truncate(calls.get(cpu).copied().unwrap_or(0));
        }
    }
    // What names a link that nobody makes returns -EBADF and does nothing else.
    let links = |operation: &Operation, new: bool| -> Vec<u8> {
        let named = operation.operands().filter(|(operand, _)| match operand {
            Operand::NewLink => new,
            Operand::Link(_) => !new,
            _ => false,
        });
        named.filter_map(|(_, link)| link).collect()
    };
    let plans = world.cpus.iter().filter_map(|decl| match &decl.plan {
        Plan::Fixed(operations) => Some(operations),
        Plan::Free { .. } => None,
    });
    let all = plans.flatten().chain(&world.setup);
    let made: Vec<u8> = all.flat_map(|operation| links(operation, true)).collect();
    for decl in &mut world.cpus {
        if let Plan::Fixed(operations) = &mut decl.plan {
            operations.retain(|operation| {
                links(operation, false)
                    .iter()
                    .all(|link| made.contains(link))
            });
        }
    }
    text_of(seed, &world)
}

fn text_of(seed: u64, world: &World) -> String {
    let words = Words {
        title: "A round that no run of the model explains",
        question: "What does a kernel do here that the model does not?",
        source: &format!("kernel-lab random --seeds {seed}..{}", seed + 1),
    };
    emit(words, world)
}

/// What was seen of a round, as a file.
fn history(
    seed: u64,
    design: &Design,
    round: &explain::Unexplained,
) -> std::result::Result<String, String> {
    let name = format!("seed-{seed}-round-{}", round.round);
    let text = text_of(seed, &round.world);
    let scenario = Scenario::parse(&name, &format!("{name}.toml"), &text);
    let file = scenario.map(|scenario| File::new(&scenario, design, &round.history).text());
    file.map_err(|error| error.to_string())
}

impl Outcome {
    /// Saves what was seen of each round without explanation, a file each.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn save(&self, title: &str, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).at(directory)?;
        for one in &self.unexplained {
            let name = format!("{title}-seed-{}-round-{}.json", one.seed, one.round);
            let text = one.history.as_ref();
            let text =
                text.map_err(|why| Error::Bug(format!("{name} cannot be written: {why}")))?;
            let path = directory.join(name);
            std::fs::write(&path, text).at(path)?;
        }
        Ok(())
    }
}

/// For people.
pub fn text(title: &str, outcome: &Outcome) -> String {
    let mut out = format!(
        "{title}: {} seeds, {} rounds, {} operations; the model explains {} rounds\n",
        outcome.seeds, outcome.rounds, outcome.operations, outcome.explained
    );
    for (why, count) in &outcome.beyond {
        out += &format!("  says nothing of {count}: {why}\n");
    }
    for (invariant, count) in &outcome.broke {
        out += &format!(
            "  no explanation of {count} rounds keeps {}\n",
            invariant.id()
        );
    }
    for (seed, seen) in &outcome.symptoms {
        out += &format!("  seed {seed}: {}: {}\n", seen.symptom.word(), seen.what);
    }
    for (seed, why) in &outcome.runner {
        out += &format!("  seed {seed}: THE RUNNER FAILED: {why}\n");
    }
    for unexplained in outcome.unexplained.iter().take(10) {
        out += &format!(
            "\nUNEXPLAINED: seed {}, round {}: {}\n\n{}\n",
            unexplained.seed, unexplained.round, unexplained.why, unexplained.scenario
        );
    }
    if outcome.unexplained.len() > 10 {
        out += &format!("and {} more\n", outcome.unexplained.len() - 10);
    }
    out
}

/// For programs.
pub fn json(title: &str, outcome: &Outcome) -> serde_json::Value {
    let broke: BTreeMap<&str, usize> = outcome
        .broke
        .iter()
        .map(|(invariant, count)| (invariant.id(), *count))
        .collect();
    let unexplained: Vec<serde_json::Value> = outcome
        .unexplained
        .iter()
        .map(|one| {
            serde_json::json!({
                "seed": one.seed,
                "round": one.round,
                "why": one.why,
                "scenario": one.scenario,
            })
        })
        .collect();
    let symptoms: Vec<serde_json::Value> = outcome
        .symptoms
        .iter()
        .map(|(seed, seen)| {
            serde_json::json!({ "seed": seed, "symptom": seen.symptom.word(), "what": seen.what })
        })
        .collect();
    serde_json::json!({
        "title": title,
        "seeds": outcome.seeds,
        "rounds": outcome.rounds,
        "operations": outcome.operations,
        "explained": outcome.explained,
        "not_judged": outcome.beyond,
        "broke": broke,
        "symptoms": symptoms,
        "runner": outcome.runner,
        "unexplained": unexplained,
        "as_predicted": outcome.as_predicted(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::program::program;

    #[test]
    fn every_seed_is_a_program_and_a_scenario_file() {
        let kernels = [Base::V6_12, Base::V7_3].map(|base| [true, false].map(|on| (base, on)));
        let seeds = (0..50).flat_map(|seed| kernels.as_flattened().iter().map(move |k| (seed, *k)));
        for (seed, (base, modules)) in seeds {
            let target = Target {
                base,
                cookie: base == Base::V6_12,
                modules,
            };
            let design = match base {
                Base::V6_12 => Design::link_owned(),
                Base::V7_3 => Design::parse("association").unwrap(),
            };
            let world = world(seed, &target, &design);
            let rounds = rounds(&world, &target, 4, seed);
            let numbered: Vec<_> = rounds.iter().enumerate().collect();
            program(&target, &numbered).unwrap();
            let machine = struct_ops_model::Machine::new(rounds[0].world.clone(), design);
            assert!(machine.is_ok(), "seed {seed}: {:?}", machine.err());
            let text = scenario(seed, &rounds[0], &[2, 2]);
            struct_ops_sim::scenario::Scenario::parse("random", "random.toml", &text).unwrap();
        }
    }
}
