//! One run of a small world on real threads, from its set-up to the last close, recorded.
//!
//! Every CPU of the world is a thread; a process ends when its threads have carried out their plans, and what
//! outlives it is removed, as in the model. A free choice becomes a fixed plan, made at random. Not here: whether
//! the model agrees (`validate`).

use std::collections::BTreeMap;
use std::sync::Arc;

use struct_ops_model::world::{OpKind, Operand, Operation, Plan};
use struct_ops_model::{Design, World, errno};

use super::event::{Actor, Event, Object, Recorded};
use super::runtime::{Machine, Settings};
use super::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use super::sync::{Mutex, relax, thread};
use super::task::Task;
use super::watch::Watch;
use super::{NotAsked, Unavailable};
use crate::draw;

/// What tasks of the runtime cannot do: threads belong to a process from the start, and an id leads to an object that
/// may be freed in the middle of a step.
const EXPLORER_ONLY: [OpKind; 3] = [OpKind::Fork, OpKind::LinkGetFdById, OpKind::MapGetFdById];

/// Why there is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoundError {
    /// The set-up does not work under the design.
    #[error("set-up operation {number}: {why}")]
    SetUp {
        /// From 1.
        number: usize,
        /// What went wrong.
        why: String,
    },
    /// The runtime has no cgroups.
    #[error("the scenario has cgroups, and the runtime has none")]
    Cgroups,
    /// The runtime has no timers and no work queues of programs.
    #[error("a program has a callback, and the runtime has no timers and no work queues")]
    Callbacks,
    /// The runtime has no rings.
    #[error("the scenario has rings of io_uring, and the runtime has none")]
    Rings,
    /// The runtime does not ask for a choice of the design.
    #[error(transparent)]
    NotAsked(#[from] NotAsked),
    /// The runtime has the built-in subsystems only.
    #[error("only the explorer runs `{0}`: it is a subsystem in the language of scenarios")]
    OwnSubsystem(String),
    /// The runtime has no child processes and no ids.
    #[error("only the explorer carries out `{}`: the runtime has no child processes and no ids", .0.name())]
    ExplorerOnly(OpKind),
    /// No executable memory.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Runs `world`, with a plan at random for every free choice, once. `machine` code, or the same calls without; `seed` decides the plans and where threads let others run.
///
/// # Errors
/// The set-up, or the memory that cannot be had.
pub fn run(
    world: &World,
    design: &Design,
    machine: bool,
    seed: u64,
) -> Result<Recorded, RoundError> {
    run_watched(world, design, machine, seed, &Arc::default())
}

/// [`run()`], while somebody looks on.
///
/// # Errors
/// As [`run()`].
pub fn run_watched(
    world: &World,
    design: &Design,
    machine: bool,
    seed: u64,
    watch: &Arc<Watch>,
) -> Result<Recorded, RoundError> {
    NotAsked::check(design)?;
    if let Some(own) = world.script.subsystems.first() {
        return Err(RoundError::OwnSubsystem(own.name.clone()));
    }
    if !world.cgroups.is_empty() {
        return Err(RoundError::Cgroups);
    }
    if world.has_callbacks() {
        return Err(RoundError::Callbacks);
    }
    if world.has_rings() {
        return Err(RoundError::Rings);
    }
    let mut only = EXPLORER_ONLY.into_iter();
    if let Some(kind) = only.find(|kind| world.plays(*kind)) {
        return Err(RoundError::ExplorerOnly(kind));
    }
    let settings = Settings {
        jit: machine,
        jitter: true,
        alloc_failures: world.alloc_failures,
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = concrete(world, &mut rng);
    let machine = Machine::boot(world.clone(), design.clone(), settings, rng.u64(..));
    let rt = machine.runtime().clone();
    let available = || match rt.unavailable.lock().clone() {
        Some(why) => Err(RoundError::Unavailable(why)),
        None => Ok(()),
    };
    let start = {
        let mut task = Task::new(&rt, Actor::Cpu(0), world.cpus[0].proc, rng.u64(..));
        for (i, operation) in world.setup.iter().enumerate() {
            let result = task.carry_out(*operation);
            available()?;
            let why = match result {
                Some(0) => None,
                Some(err) => Some(format!("it returned {}", errno::name(err))),
                None => Some("it met a fault".into()),
            };
            if let Some(why) = why {
                return Err(RoundError::SetUp { number: i + 1, why });
            }
            rt.quiesce();
        }
        open_objects(&rt)
    };
    rt.findings.lock().clear();
    let _ = rt.watch.set(watch.clone());
    watch.running(true);
    rt.record();
    let mut events = threads(&rt, &mut world, &mut rng);
    {
        // The last one to leave tidies up.
        let mut task = Task::new(&rt, Actor::Cpu(0), world.cpus[0].proc, rng.u64(..));
        let _ = task.remove_rest();
        events.extend(task.take_log());
    }
    events.extend(machine.halt());
    watch.running(false);
    available()?;
    let findings = std::mem::take(&mut *rt.findings.lock());
    let recorded = Recorded {
        world,
        events,
        start,
        findings,
        left: rt.left(),
    };
    Ok(recorded.sorted())
}

/// Maps, links and attachments that the set-up left, oldest first.
fn open_objects(rt: &super::runtime::Runtime) -> Vec<Object> {
    let maps = rt.maps.all().into_iter();
    let links = rt.links.all().into_iter();
    let attachments = rt.kdatas.all().into_iter().filter(|k| k.1.attachment);
    maps.map(|m| Object::Map(m.0.number()))
        .chain(links.map(|l| Object::Link(l.0.number())))
        .chain(attachments.map(|k| Object::Attachment(k.0.number())))
        .collect()
}

/// A process: how many of its threads are in the kernel, and whether it ends.
#[derive(Debug, Default)]
struct Process {
    inside: usize,
    exiting: bool,
}

/// What all threads of a process share.
#[derive(Debug)]
struct Shared {
    process: Mutex<Process>,
    /// Threads that are not done.
    left: AtomicUsize,
}

impl Shared {
    /// Carries out an operation, unless the process ends. Whether the thread goes on.
    fn carry_out(&self, task: &mut Task<'_>, operation: Operation) -> bool {
        if operation.kind() == OpKind::Exit {
            self.exit(task);
            return false;
        }
        {
            let mut process = self.process.lock();
            if process.exiting {
                return false;
            }
            process.inside += 1;
        }
        let result = task.carry_out(operation);
        self.process.lock().inside -= 1;
        result.is_some()
    }

    /// exit_group(2): once no thread of the process is in the kernel.
    fn exit(&self, task: &mut Task<'_>) {
        let mut tries = 0;
        loop {
            {
                let mut process = self.process.lock();
                if process.exiting {
                    return;
                }
                if process.inside == 0 {
                    process.exiting = true;
                    break;
                }
            }
            relax(&mut tries);
        }
        // After a fault there is nothing to close.
        let _ = task.exit_group();
    }
}

/// All CPUs carry out their plans; the first thread of each process then ends it. Plans grow by what had to be
/// closed by name.
fn threads(
    rt: &Arc<super::runtime::Runtime>,
    world: &mut World,
    rng: &mut fastrand::Rng,
) -> Vec<Event> {
    let waiting = Arc::new(AtomicUsize::new(world.cpus.len()));
    let mut processes: BTreeMap<u8, Arc<Shared>> = BTreeMap::new();
    for cpu in &world.cpus {
        let process = processes.entry(cpu.proc).or_insert_with(|| {
            Arc::new(Shared {
                process: Mutex::new(Process::default()),
                left: AtomicUsize::new(0),
            })
        });
        process.left.fetch_add(1, SeqCst);
    }
    let mut seen = Vec::new();
    let running: Vec<_> = world
        .cpus
        .iter()
        .enumerate()
        .map(|(cpu, decl)| {
            let Plan::Fixed(plan) = decl.plan.clone() else {
                unreachable!("plans are fixed");
            };
            let ends = !seen.contains(&decl.proc);
            seen.push(decl.proc);
            let (rt, waiting) = (rt.clone(), waiting.clone());
            let shared = processes[&decl.proc].clone();
            let (proc, seed) = (decl.proc, rng.u64(..));
            thread::spawn(move || {
                let mut task = Task::new(&rt, Actor::Cpu(cpu as u8), proc, seed);
                wait_for(&waiting, 0, true);
                let mut closed = Vec::new();
                let done = plan.iter().all(|o| shared.carry_out(&mut task, *o));
                shared.left.fetch_sub(1, SeqCst);
                if ends && done {
                    wait_for(&shared.left, 0, false);
                    closed = task.ambiguous();
                    if closed.iter().all(|o| shared.carry_out(&mut task, *o)) {
                        shared.exit(&mut task);
                    }
                }
                (task.take_log(), closed)
            })
        })
        .collect();
    let mut events = Vec::new();
    for (thread, decl) in running.into_iter().zip(&mut world.cpus) {
        let (log, closed) = thread.join().expect("threads of the runtime do not panic");
        events.extend(log);
        if let Plan::Fixed(plan) = &mut decl.plan {
            plan.extend(closed);
        }
    }
    events
}

/// Waits until the count is there; `own` is one of those counted.
fn wait_for(count: &AtomicUsize, until: usize, own: bool) {
    if own {
        count.fetch_sub(1, SeqCst);
    }
    let mut tries = 0;
    while count.load(SeqCst) > until {
        relax(&mut tries);
    }
}

// ---- free choice --------------------------------------------------------------------------------------

/// Most kdata objects that the plans of a world may make: the model's table has 8.
const MOST_BUILT: usize = 6;
/// Most sockets that they may open.
const MOST_SOCKS: usize = struct_ops_model::world::MAX_SOCKS;

/// The world with a fixed plan, chosen at random, in the place of every free one. No map's name gets a second meaning:
/// what the set-up or another plan creates is not created again.
pub fn concrete(world: &World, rng: &mut fastrand::Rng) -> World {
    let mut world = world.clone();
    let plans: Vec<Plan> = world.cpus.iter().map(|c| c.plan.clone()).collect();
    // Attachments, and links by name, that there may be at the same time.
    let set_up = |f: fn(OpKind) -> bool| world.setup.iter().filter(|o| f(o.kind())).count();
    let mut built = set_up(builds);
    let mut links = set_up(|kind| kind.has(Operand::NewLink));
    let mut socks = set_up(|kind| kind.has(Operand::Key));
    let mut made = vec![false; world.maps.len()];
    let fixed = world.cpus.iter().filter_map(|c| match &c.plan {
        Plan::Fixed(operations) => Some(operations),
        Plan::Free { .. } => None,
    });
    for operation in fixed.flatten().chain(&world.setup) {
        if let Operation::MapCreate { map } = operation {
            made[usize::from(*map)] = true;
        }
    }
    for (cpu, plan) in plans.into_iter().enumerate() {
        let Plan::Free { kinds, budget } = plan else {
            continue;
        };
        let mut operations = Vec::new();
        for _ in 0..budget {
            let chosen = (0..8).find_map(|_| {
                let kind = kinds[rng.usize(..kinds.len())];
                let (builds, creates) = (builds(kind), kind.has(Operand::NewLink));
                let opens = kind.has(Operand::Key);
                if (builds && built >= MOST_BUILT)
                    || (opens && socks >= MOST_SOCKS)
                    || (creates && links >= usize::from(world.max_links))
                {
                    return None;
                }
                let operation = draw::operation(&mut world, kind, &mut |n| rng.usize(..n))?;
                if let Operation::MapCreate { map } = operation
                    && std::mem::replace(&mut made[usize::from(map)], true)
                {
                    return None;
                }
                built += usize::from(builds);
                links += usize::from(creates);
                socks += usize::from(opens);
                Some(operation)
            });
            operations.extend(chosen);
        }
        world.cpus[cpu].plan = Plan::Fixed(operations);
    }
    world
}

/// It makes an attachment, where the design has those.
fn builds(kind: OpKind) -> bool {
    kind.has(Operand::NewLink) || kind == OpKind::LinkUpdate
}
