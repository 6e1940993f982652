//! Many short runs on real threads, each one held against the model.
//!
//! A round is a small world: a few threads, a handful of operations each, drawn at random from what user space does
//! all day (attach, update, detach, call, close), or the plans of a scenario. The seed decides worlds and where
//! threads let others run; in which order they do run, the machine decides. Not here: what is printed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use struct_ops_model::world::{
    Body, MAX_CPUS, MapDecl, Member, OpKind, Operation, Plan, ProgDecl, ProgType, StructOpsType,
    Subsystem,
};
use struct_ops_model::{Design, Invariant, Linux, World};

use super::event::{Finding, Recorded};
use super::round::{self, RoundError};
use super::shrink::{Rejected, shrink};
use super::validate::{Validator, Verdict};
use super::watch::{Watch, Watchdog};
use crate::scenario::Scenario;

/// How to stress.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The design.
    pub design: Design,
    /// Threads in all: at most four share a world.
    pub threads: usize,
    /// How long.
    pub time: Duration,
    /// Where the random choices begin.
    pub seed: u64,
    /// The world of every round; random worlds if there is none.
    pub scenario: Option<&'a Scenario>,
    /// Trampolines are machine code.
    pub machine: bool,
    /// How long no thread of a round may move.
    pub patience: Duration,
}

/// Something that was broken, in an accepted round.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    /// Rounds in which the runtime saw it.
    pub seen: u64,
    /// Rounds in which the model, taking the recorded steps, says so.
    pub model: u64,
    /// The shortest round in which the runtime saw it.
    pub example: Option<Example>,
}

/// A round that shows something.
#[derive(Clone, Debug)]
pub struct Example {
    /// What was recorded.
    pub recorded: Recorded,
    /// What the model says.
    pub verdict: Verdict,
    /// What the runtime saw.
    pub finding: Finding,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rounds that were run.
    pub rounds: u64,
    /// Operations in them.
    pub operations: u64,
    /// Steps recorded.
    pub events: u64,
    /// Rounds that the model accepts.
    pub accepted: u64,
    /// Rounds of which nothing is said, and why.
    pub beyond: BTreeMap<&'static str, u64>,
    /// Rounds that the model rejects; the first one is kept, shrunk.
    pub rejected: u64,
    /// The first rejection.
    pub rejection: Option<Rejected>,
    /// What was broken.
    pub broken: BTreeMap<Invariant, Broken>,
    /// In how many accepted rounds each invariant was put to the test.
    pub exercised: BTreeMap<Invariant, u64>,
}

/// Runs rounds until the time is over or `stop` says so. `hung` is told where the threads of a round stand that has not
/// moved for `options.patience`; they cannot be stopped, so it had better not return.
///
/// # Errors
/// The first round that could not be set up.
pub fn stress(
    options: &Options<'_>,
    stop: &(dyn Fn() -> bool + Sync),
    hung: &(dyn Fn(String) + Sync),
) -> Result<Outcome, RoundError> {
    let outcome = Mutex::new(Outcome::default());
    let error = Mutex::new(None);
    let end = Instant::now() + options.time;
    let groups = options.threads.div_ceil(MAX_CPUS);
    let watches: Vec<Arc<Watch>> = (0..groups).map(|_| Arc::default()).collect();
    std::thread::scope(|scope| {
        let (outcome, error) = (&outcome, &error);
        let spawn = |(group, watch)| {
            let threads = (options.threads + group) / groups;
            let over = move || stop() || Instant::now() >= end;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(options.seed ^ (group as u64) << 32);
                loop {
                    if let Err(e) = one(options, threads, &mut rng, outcome, watch) {
                        *lock(error) = Some(e);
                    }
                    if over() || lock(error).is_some() {
                        return;
                    }
                }
            })
        };
        let running: Vec<_> = watches.iter().enumerate().map(spawn).collect();
        // A thread that panics is over, too.
        let over = || running.iter().all(|r| r.is_finished());
        watchdog(&watches, options.patience, over, hung);
    });
    match into_inner(error) {
        Some(error) => Err(error),
        None => Ok(into_inner(outcome)),
    }
}

/// Looks at all groups until they are over.
fn watchdog(
    watches: &[Arc<Watch>],
    patience: Duration,
    over: impl Fn() -> bool,
    hung: &(dyn Fn(String) + Sync),
) {
    let new = |watch| Watchdog::new(watch, patience, Instant::now());
    let mut dogs: Vec<Watchdog<'_>> = watches.iter().map(|w| new(w)).collect();
    while !over() {
        std::thread::sleep(Duration::from_millis(20));
        dogs.iter_mut()
            .filter_map(|dog| dog.look(Instant::now()))
            .for_each(hung);
    }
}

/// A thread that panics brings the scope down: what the lock protects is whole, or nobody sees it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|e| e.into_inner())
}

/// One round, and what the model says to it.
fn one(
    options: &Options<'_>,
    threads: usize,
    rng: &mut fastrand::Rng,
    outcome: &Mutex<Outcome>,
    watch: &Arc<Watch>,
) -> Result<(), RoundError> {
    let world = match options.scenario {
        Some(scenario) => scenario.world.clone(),
        None => world(threads, rng),
    };
    let recorded =
        round::run_watched(&world, &options.design, options.machine, rng.u64(..), watch)?;
    let validator = Validator::new(&recorded.world, &options.design)
        .map_err(|why| RoundError::SetUp { number: 0, why })?;
    let verdict = validator.validate(&recorded);
    tracing::debug!(events = recorded.events.len(), ?verdict, "round");
    let mut out = lock(outcome);
    out.rounds += 1;
    out.events += recorded.events.len() as u64;
    out.operations += recorded.events.iter().filter(|e| e.ask.is_some()).count() as u64;
    match &verdict {
        Verdict::Accepted { broke, order } => {
            out.accepted += 1;
            for invariant in validator.exercised(order) {
                *out.exercised.entry(invariant).or_default() += 1;
            }
            let broke: Vec<Invariant> = broke.iter().map(|v| v.invariant).collect();
            note(&mut out, options, &recorded, &verdict, &broke);
        }
        Verdict::Beyond(why) => *out.beyond.entry(why).or_default() += 1,
        Verdict::Rejected { .. } => {
            out.rejected += 1;
            if out.rejection.is_none() {
                let rejected = Rejected { recorded, verdict };
                out.rejection = Some(shrink(rejected, &options.design));
            }
        }
    }
    Ok(())
}

/// Counts what an accepted round broke.
fn note(
    out: &mut Outcome,
    options: &Options<'_>,
    recorded: &Recorded,
    verdict: &Verdict,
    broke: &[Invariant],
) {
    for invariant in Invariant::ALL {
        let seen = recorded.findings.iter().find(|f| f.invariant == *invariant);
        let leak =
            *invariant == Invariant::NoLeak && !recorded.left.is_empty() && !recorded.faulted();
        let model = broke.contains(invariant) && invariant.applies(&options.design);
        if seen.is_none() && !leak && !model {
            continue;
        }
        let broken = out.broken.entry(*invariant).or_default();
        broken.seen += u64::from(seen.is_some() || leak);
        broken.model += u64::from(model);
        let shorter = broken
            .example
            .as_ref()
            .is_none_or(|e| recorded.events.len() < e.recorded.events.len());
        if let Some(finding) = seen.filter(|_| shorter) {
            broken.example = Some(Example {
                recorded: recorded.clone(),
                verdict: verdict.clone(),
                finding: finding.clone(),
            });
        }
    }
}

// ---- random worlds ------------------------------------------------------------------------------------

/// Subsystems of random worlds: those on which mainline promises everything.
const SUBSYSTEMS: [(Subsystem, [&str; 2]); 4] = [
    (Subsystem::TcpCong, ["ssthresh", "cong_avoid"]),
    (Subsystem::SchedExt, ["enqueue", "dispatch"]),
    (Subsystem::Singleton, ["test_prologue", "test_epilogue"]),
    (Subsystem::KeyedByMap, ["test_1", "test_2"]),
];

/// A small world for so many threads: two maps that are ready, perhaps attached, and what each thread does.
///
/// Left out is what Linux is known to get wrong: link_update always says which map it replaces, so that none
/// replaces itself, and maps are not created or filled while others look for their trampolines in kallsyms.
pub fn world(threads: usize, rng: &mut fastrand::Rng) -> World {
    let (subsystem, names) = SUBSYSTEMS[rng.usize(..SUBSYSTEMS.len())];
    let mut world = World {
        // 6.12's bpf_scx_unreg() disables another scheduler, whatever the design.
        linux: Linux::V7_3,
        cookies: vec![0, 0x11, 0x2222_2222, 0x3333_3333_3333_3333],
        keys: vec!["key".into()],
        procs: 1,
        alloc_failures: u8::from(rng.u8(..4) == 0),
        max_links: 4,
        ..World::default()
    };
    world.types.push(StructOpsType {
        name: "ops".into(),
        subsystem,
        members: names
            .map(|name| Member {
                name: name.into(),
                sleepable: false,
                required: subsystem == Subsystem::TcpCong,
                size: 171,
            })
            .into(),
        module: false,
    });
    for map in 0..2u8 {
        let mut progs = vec![None; names.len()];
        for (member, name) in names.iter().enumerate() {
            progs[member] = Some(world.progs.len() as u8);
            world.progs.push(ProgDecl {
                name: format!("{name}_m{}", map + 1),
                of: ProgType::StructOps { ty: 0, member },
                body: Body::ReadCookie,
                process: None,
            });
        }
        world.maps.push(MapDecl {
            name: format!("m{}", map + 1),
            ty: 0,
            link: true,
            key: 0,
            progs,
            owner_set: false,
        });
        world.setup.push(Operation::MapCreate { map });
        world.setup.push(Operation::MapUpdate { map });
    }
    if rng.bool() {
        world.links.push("l1".into());
        world.setup.push(Operation::LinkCreate {
            target: None,
            position: None,
            revision: None,
            map: 0,
            cookie: 1,
            link: 0,
        });
        if subsystem == Subsystem::TcpCong && rng.bool() {
            world.setup.push(Operation::SockOpen { key: 0 });
        }
    }
    // Names that somebody may use before the link is there: then the descriptor is not open.
    let plans = (0..threads.clamp(1, MAX_CPUS)).map(|_| Plan::Free {
        kinds: kinds(&world),
        budget: 2 + rng.u8(..3),
    });
    let plans: Vec<Plan> = plans.collect();
    world.cpus = plans
        .into_iter()
        .map(|plan| struct_ops_model::world::CpuDecl { proc: 0, plan })
        .collect();
    let mut world = round::concrete(&world, rng);
    for cpu in &mut world.cpus {
        if let Plan::Fixed(plan) = &mut cpu.plan {
            for operation in plan {
                if let Operation::LinkUpdate { map, replace, .. } = operation {
                    *replace = Some(1 - *map);
                }
            }
        }
    }
    world
}

/// Operations to choose from, each as often as its weight says.
fn kinds(world: &World) -> Vec<OpKind> {
    let left_out = [OpKind::MapCreate, OpKind::MapUpdate, OpKind::MapDelete];
    let kinds = OpKind::any(world).filter(|kind| !left_out.contains(kind));
    let often = kinds.map(|kind| vec![kind; usize::from(kind.info().weight)]);
    often.flatten().collect()
}
