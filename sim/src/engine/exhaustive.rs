//! The exhaustive engine: breadth-first over every state, so the first trace to a violation is a
//! shortest one. Not a judge: what is a violation, the system says.
//!
//! Among runs of equal length the first is taken, where each state gives its actions in order: a
//! level is walked in the order of the runs that first reached its states. So a trace says nothing
//! of hashes, and does not change with what a state is packed into.
//!
//! A level of the search is walked in rounds of a few thousand states. In the first phase of a
//! round the threads take blocks of them, expand them and drop the successors that are
//! known already; the visited states are only read. In the second phase the threads take shards
//! of the visited states and insert what is left, block by block. What a round does depends on
//! its blocks and their order, never on who took them: counts and traces are the same at any
//! number of threads.

use std::any::Any;
use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::BitXor;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{
    Barrier, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    mpsc,
};
use std::time::{Duration, Instant};
use std::{mem, thread};

use tracing::{debug, debug_span, trace, warn};

use super::frontier::{BLOCK, Packed};
use super::system::{StepReport, System, Violation};
use super::trace::{End, TraceError, rebuild};
use super::visited::{
    Exact, Fingerprint, Fingerprints, NO_PARENT, SHARDS, Store, Visited, Xxh3, fingerprint,
    shard_of,
};
use crate::bounds::{Bound, Bounds, Memory, Scarce, UNBOUNDED};

/// States and blocks of a round. More hide the barriers, fewer keep the candidates in the cache.
const ROUND: usize = 8 * 1024;
const ROUND_BLOCKS: usize = 64;
/// Fewer states are not worth a block of their own.
const SMALL_BLOCK: usize = 16;
/// A round of fewer states is done sooner by one thread than by waking the others.
const ALONE: usize = 256;
/// Candidates looked up in one batch, so that their cache misses overlap.
const BATCH: usize = 64;
/// Fingerprints remembered by each thread; they fit in the second-level cache.
const RECENT: usize = 16 * 1024;
const PROGRESS: Duration = Duration::from_millis(200);
/// How often memory is looked at; between that it is asked for when a large table grows.
const LOOK: Duration = Duration::from_millis(50);

/// Most threads that find something to do: a round has no more blocks.
pub const MAX_THREADS: usize = ROUND_BLOCKS;

/// How to explore.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Worker threads, of which [`MAX_THREADS`] are of use. Fewer work where the system does not give so many.
    pub threads: usize,
    /// Stop after the round that reaches this number of states.
    pub max_states: Option<u64>,
    /// Store full states, not fingerprints.
    pub exact: bool,
    /// What ends the search after the current round.
    pub bounds: &'a Bounds,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            threads: 1,
            max_states: None,
            exact: false,
            bounds: &UNBOUNDED,
        }
    }
}

/// A distinct violation and a shortest way to it.
#[derive(Clone, Debug)]
pub struct Found<A> {
    /// What was broken, and by which step.
    pub violation: Violation,
    /// Actions of the trace.
    pub depth: u32,
    /// With an action, or in a final state.
    pub end: End,
    /// From the initial state to the violation.
    pub trace: Result<Vec<A>, TraceError>,
}

/// What an exploration has found.
#[derive(Clone, Debug)]
pub struct Outcome<A> {
    /// Distinct states, the initial one and the fatal ones included.
    pub states: u64,
    /// Actions taken, those to known states included.
    pub transitions: u64,
    /// States without actions.
    pub terminals: u64,
    /// Distance of the farthest state.
    pub depth: u32,
    /// Wall-clock time.
    pub seconds: f64,
    /// Memory of the visited states and their parents, as allocated, per state.
    pub bytes_per_state: f64,
    /// Memory of the frontier, the next one included, at its peak.
    pub peak_frontier_bytes: usize,
    /// How often each bit of [`StepReport::witnessed`] was set.
    pub witnesses: [u64; 64],
    /// How often each label fired, as long as the highest one needs.
    pub coverage: Vec<u64>,
    /// In the order of their first appearance.
    pub violations: Vec<Found<A>>,
    /// Why not every state was seen, if so.
    pub incomplete: Option<Bound>,
}

/// What is known while exploring.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Distinct states so far.
    pub states: u64,
    /// States waiting in this level and found for the next.
    pub frontier: u64,
    /// Level that is being walked.
    pub depth: u32,
    /// Since the beginning.
    pub states_per_second: f64,
}

/// Explores every state of `system`; `progress` is called about five times a second.
pub fn explore<S: System>(
    system: &S,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Outcome<S::Action> {
    explore_with::<S, Xxh3>(system, options, progress)
}

/// [`explore`] with a hash of choice.
pub fn explore_with<S: System, F: Fingerprint>(
    system: &S,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Outcome<S::Action> {
    if options.exact {
        Search::<S, Exact>::new(system).run::<F>(options, progress)
    } else {
        Search::<S, Fingerprints>::new(system).run::<F>(options, progress)
    }
}

/// The packed state and one byte that tells the dead from the living.
pub(super) fn encode<S: System>(system: &S, state: &S::State, fatal: bool, out: &mut Vec<u8>) {
    system.encode(state, out);
    out.push(fatal.into());
}

fn is_fatal(bytes: &[u8]) -> bool {
    bytes.last() == Some(&1)
}

/// A state that is not stored yet, in front of its bytes.
#[derive(Clone, Copy)]
struct Candidate {
    fingerprint: u64,
    parent: u64,
    order: u64,
}

/// A state of the next level, in front of its bytes.
#[derive(Clone, Copy)]
struct Waiting {
    id: u64,
    order: u64,
}

/// Where a run stands among those of its length: first by the run without its last action, which
/// `place` numbers, then by that action.
fn order(place: u64, action: usize) -> u64 {
    place << 16 | action.min(0xffff) as u64
}

/// The state that is expanded.
#[derive(Clone, Copy)]
struct At {
    id: u64,
    /// Its number in the level.
    place: u64,
    depth: u32,
}

/// A violation where it was seen first.
#[derive(Clone, Copy)]
struct Sighting {
    violation: Violation,
    state: u64,
    depth: u32,
    end: End,
}

/// What expanding one block gave.
struct Expansion {
    /// By shard.
    candidates: Vec<Packed<Candidate>>,
    sightings: Vec<Sighting>,
}

impl Default for Expansion {
    fn default() -> Self {
        let candidates = (0..SHARDS).map(|_| Packed::default()).collect();
        Expansion {
            candidates,
            sightings: Vec::new(),
        }
    }
}

#[derive(Default)]
struct Shard<V> {
    visited: V,
    /// Its part of the next level, in order.
    next: VecDeque<Packed<Waiting>>,
}

/// Sums over all steps: the order in which threads add to them does not matter.
struct Tally {
    transitions: u64,
    terminals: u64,
    witnesses: [u64; 64],
    coverage: Vec<u64>,
    overflow: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            transitions: 0,
            terminals: 0,
            witnesses: [0; 64],
            coverage: Vec::new(),
            overflow: false,
        }
    }
}

impl Tally {
    fn witness(&mut self, report: &StepReport) {
        let mut bits = report.witnessed;
        while bits != 0 {
            self.witnesses[bits.trailing_zeros() as usize] += 1;
            bits &= bits - 1;
        }
    }

    fn step(&mut self, report: &StepReport) {
        self.transitions += 1;
        self.witness(report);
        self.overflow |= report.overflow;
        if let Some(label) = report.fired {
            *slot(&mut self.coverage, label.into()) += 1;
        }
    }

    fn add(&mut self, other: &Tally) {
        self.transitions += other.transitions;
        self.terminals += other.terminals;
        self.overflow |= other.overflow;
        for (sum, n) in self.witnesses.iter_mut().zip(other.witnesses) {
            *sum += n;
        }
        for (label, n) in other.coverage.iter().enumerate() {
            *slot(&mut self.coverage, label) += n;
        }
    }
}

fn slot(counters: &mut Vec<u64>, index: usize) -> &mut u64 {
    if counters.len() <= index {
        counters.resize(index + 1, 0);
    }
    &mut counters[index]
}

/// What one thread keeps from block to block.
struct Worker<S: System> {
    actions: Vec<S::Action>,
    batch: Packed<Candidate>,
    /// Fingerprints this thread met lately, each in the slot of its low bits: siblings and
    /// cousins meet the same states. A thread takes blocks in ascending order, so what it met
    /// was met earlier, and dropping the later encounter changes nothing.
    recent: Vec<u64>,
    tally: Tally,
}

impl<S: System> Default for Worker<S> {
    fn default() -> Self {
        Worker {
            actions: Vec::new(),
            batch: Packed::default(),
            recent: vec![0; RECENT],
            tally: Tally::default(),
        }
    }
}

/// What the threads share.
struct Search<'a, S: System, V> {
    system: &'a S,
    shards: Vec<RwLock<Shard<V>>>,
    round: RwLock<Round>,
    /// What each block of the round gave.
    expansions: Vec<RwLock<Expansion>>,
    next_block: AtomicUsize,
    next_shard: AtomicUsize,
    states: AtomicU64,
    /// States found for the next level.
    waiting: AtomicU64,
    /// Blocks to use again.
    spare: Mutex<Vec<Packed<Waiting>>>,
    /// The first panic of the system under search.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// One shard's part of the level that is walked.
#[derive(Default)]
struct Queue {
    blocks: VecDeque<Packed<Waiting>>,
    /// The block and the entry that are next.
    head: (usize, usize),
}

impl Queue {
    /// The order of the state that is next; after the last one that of none.
    fn order(&self) -> u64 {
        let (block, entry) = self.head;
        let header = self.blocks.get(block).and_then(|b| b.header(entry));
        header.map_or(u64::MAX, |waiting| waiting.order)
    }

    fn advance(&mut self) {
        let (block, entry) = &mut self.head;
        *entry += 1;
        if *entry == self.blocks[*block].len() {
            (*block, *entry) = (*block + 1, 0);
        }
    }
}

/// A state of the round: its queue, its block there and its entry.
#[derive(Clone, Copy)]
struct Pick(usize, usize, usize);

#[derive(Default)]
struct Round {
    /// The level, by shard.
    level: Vec<Queue>,
    /// The states of the round, in order.
    picked: Vec<Pick>,
    /// How many states of the level came before them.
    walked: u64,
    /// Distance of the states in the level.
    depth: u32,
}

impl Round {
    /// States of a block.
    fn block(&self) -> usize {
        self.picked.len().div_ceil(ROUND_BLOCKS).max(SMALL_BLOCK)
    }

    fn blocks(&self) -> usize {
        self.picked.len().div_ceil(self.block())
    }

    /// Picks the states that are next, and at most `limit` of them.
    fn fill(&mut self, limit: usize) {
        let mut heads: Vec<u64> = self.level.iter().map(Queue::order).collect();
        while self.picked.len() < limit {
            let first = (0..heads.len()).min_by_key(|&queue| heads[queue]);
            let Some(queue) = first.filter(|&queue| heads[queue] != u64::MAX) else {
                break;
            };
            let (block, entry) = self.level[queue].head;
            self.picked.push(Pick(queue, block, entry));
            self.level[queue].advance();
            heads[queue] = self.level[queue].order();
        }
    }

    /// The blocks that nobody reads any more.
    fn close(&mut self) -> impl Iterator<Item = Packed<Waiting>> {
        self.walked += self.picked.len() as u64;
        self.picked.clear();
        self.level.iter_mut().flat_map(|queue| {
            let spent = mem::take(&mut queue.head.0);
            queue.blocks.drain(..spent)
        })
    }
}

/// What the coordinating thread knows.
#[derive(Default)]
struct Course {
    sightings: Vec<Sighting>,
    depth: u32,
    incomplete: Option<Bound>,
}

impl<'a, S: System, V: Visited> Search<'a, S, V> {
    fn new(system: &'a S) -> Self {
        Search {
            system,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            round: RwLock::default(),
            expansions: (0..ROUND_BLOCKS).map(|_| RwLock::default()).collect(),
            next_block: AtomicUsize::new(0),
            next_shard: AtomicUsize::new(0),
            states: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            spare: Mutex::default(),
            panic: Mutex::default(),
        }
    }

    fn run<F: Fingerprint>(
        self,
        options: &Options,
        progress: &mut dyn FnMut(&Progress),
    ) -> Outcome<S::Action> {
        let start = Instant::now();
        let memory = &options.bounds.memory;
        let threads = match options.threads.clamp(1, MAX_THREADS) {
            1 => 1,
            asked => memory.threads(asked),
        };
        let _span = debug_span!("exhaustive", threads, exact = options.exact).entered();
        let barrier = OnceLock::<Barrier>::new();
        let done = AtomicBool::new(false);
        let mut tally = Tally::default();
        let mut course = Course::default();
        thread::scope(|scope| {
            let (arrived, arrivals) = mpsc::channel();
            let (this, barrier, done) = (&self, &barrier, &done);
            let help = move |arrived: mpsc::Sender<()>| {
                let mut worker = Worker::default();
                // Only who has come so far is waited for: a thread may die before it gets here.
                arrived.send(()).expect("arrivals are counted");
                drop(arrived);
                let barrier = barrier.wait();
                loop {
                    barrier.wait();
                    if done.load(Relaxed) {
                        return worker.tally;
                    }
                    this.guarded(|| this.expand::<F>(&mut worker));
                    barrier.wait();
                    this.guarded(|| this.insert(memory));
                    barrier.wait();
                }
            };
            let helpers: Vec<_> = (1..threads)
                .map_while(|_| {
                    let arrived = arrived.clone();
                    let spawned = thread::Builder::new().spawn_scoped(scope, move || help(arrived));
                    spawned
                        .inspect_err(|why| warn!(%why, "fewer threads than asked for"))
                        .ok()
                })
                .collect();
            drop(arrived);
            let barrier = barrier.get_or_init(|| Barrier::new(1 + arrivals.iter().count()));
            let mut worker = Worker::default();
            // A panic outside of the phases must not leave the helpers at the barrier either.
            self.guarded(|| {
                self.seed::<F>();
                self.walk(&mut course, options, start, progress, |states| {
                    let together = || {
                        if states > ALONE {
                            barrier.wait();
                        }
                    };
                    together();
                    self.guarded(|| self.expand::<F>(&mut worker));
                    together();
                    self.guarded(|| self.insert(memory));
                    together();
                });
            });
            done.store(true, Relaxed);
            barrier.wait();
            tally.add(&worker.tally);
            for helper in helpers {
                // All that a helper does is guarded: one that panicked has never begun.
                if let Ok(helped) = helper.join() {
                    tally.add(&helped);
                }
            }
        });
        if let Some(payload) = lock(&self.panic).take() {
            resume_unwind(payload);
        }
        self.conclude::<F>(course, tally, start)
    }

    /// Stores the initial state.
    fn seed<F: Fingerprint>(&self) {
        let mut bytes = Vec::new();
        encode(self.system, &self.system.initial(), false, &mut bytes);
        let fingerprint = fingerprint::<F>(&bytes);
        let mut shard = write(&self.shards[shard_of(fingerprint)]);
        let endless = Memory::endless();
        let id = shard
            .visited
            .insert(fingerprint, &bytes, NO_PARENT, &endless);
        let id = id.expect("nothing is stored before the initial state");
        let waiting = Waiting { id, order: 0 };
        shard.next.push_back(Packed::default());
        shard.next[0].push(waiting, &bytes);
        self.states.store(1, Relaxed);
        self.waiting.store(1, Relaxed);
    }

    /// Level by level, round by round. `run_round` takes the number of states in the round.
    fn walk(
        &self,
        course: &mut Course,
        options: &Options,
        start: Instant,
        progress: &mut dyn FnMut(&Progress),
        mut run_round: impl FnMut(usize),
    ) {
        let memory = &options.bounds.memory;
        let (mut reported, mut looked) = (start, None);
        let mut states = 1;
        for depth in 0.. {
            let mut waiting = self.waiting.swap(0, Relaxed);
            if waiting == 0 {
                return;
            }
            debug!(depth, states, frontier = waiting, "level");
            self.begin_level(depth);
            while waiting > 0 {
                let room = options
                    .max_states
                    .map_or(u64::MAX, |max| max.saturating_sub(states));
                course.incomplete = options.bounds.reached();
                if course.incomplete.is_none() {
                    course.incomplete = match (room, self.scarce(memory, &mut looked)) {
                        (0, _) => Some(Bound::MaxStates),
                        (_, scarce) => scarce.map(Bound::MaxMemory),
                    };
                }
                if course.incomplete.is_some() {
                    return;
                }
                let limit = usize::try_from(room).unwrap_or(ROUND).min(ROUND);
                let in_round = self.fill_round(limit);
                run_round(in_round);
                if lock(&self.panic).is_some() {
                    return;
                }
                self.close_round(&mut course.sightings);
                let before = mem::replace(&mut states, self.states.load(Relaxed));
                if states > before {
                    course.depth = depth + 1;
                }
                waiting -= in_round as u64;
                let frontier = waiting + self.waiting.load(Relaxed);
                trace!(depth, states, frontier, "round");
                if reported.elapsed() >= PROGRESS {
                    reported = Instant::now();
                    let states_per_second = states as f64 / start.elapsed().as_secs_f64();
                    progress(&Progress {
                        states,
                        frontier,
                        depth,
                        states_per_second,
                    });
                }
            }
        }
    }

    /// What leaves no memory for another round.
    fn scarce(&self, memory: &Memory, looked: &mut Option<Instant>) -> Option<Scarce> {
        let full = self.shards.iter().find_map(|s| read(s).visited.full());
        if full.is_some() || looked.is_some_and(|last| last.elapsed() < LOOK) {
            return full;
        }
        *looked = Some(Instant::now());
        memory.scarce()
    }

    /// What was found for the next level is the level.
    fn begin_level(&self, depth: u32) {
        let queue = |shard: &RwLock<Shard<V>>| Queue {
            blocks: mem::take(&mut write(shard).next),
            head: (0, 0),
        };
        let round = &mut *write(&self.round);
        round.level = self.shards.iter().map(queue).collect();
        (round.walked, round.depth) = (0, depth);
    }

    /// Picks the next states of the level; their number.
    fn fill_round(&self, limit: usize) -> usize {
        let mut round = write(&self.round);
        round.fill(limit);
        self.next_block.store(0, Relaxed);
        self.next_shard.store(0, Relaxed);
        round.picked.len()
    }

    /// Takes what was seen first in this round, in the order of its blocks, and frees what it walked.
    fn close_round(&self, sightings: &mut Vec<Sighting>) {
        let mut round = write(&self.round);
        for expansion in &self.expansions[..round.blocks()] {
            read(expansion)
                .sightings
                .iter()
                .for_each(|&sighting| note(sightings, sighting));
        }
        lock(&self.spare).extend(round.close());
    }

    /// First phase: expand blocks; nobody writes the visited states.
    fn expand<F: Fingerprint>(&self, worker: &mut Worker<S>) {
        let round = read(&self.round);
        let shards: Vec<_> = self.shards.iter().map(read).collect();
        loop {
            let block = self.next_block.fetch_add(1, Relaxed);
            let first = block * round.block();
            let Some(picked) = round.picked.get(first..).filter(|p| !p.is_empty()) else {
                break;
            };
            let expansion = &mut *write(&self.expansions[block]);
            expansion.candidates.iter_mut().for_each(Packed::clear);
            expansion.sightings.clear();
            let place = round.walked + first as u64;
            for (place, &Pick(queue, block, entry)) in
                (place..).zip(&picked[..picked.len().min(round.block())])
            {
                let (waiting, bytes) = round.level[queue].blocks[block].get(entry);
                let at = At {
                    id: waiting.id,
                    place,
                    depth: round.depth,
                };
                worker.expand::<F, V>(self.system, at, bytes, &mut expansion.sightings);
                if worker.batch.len() >= BATCH {
                    worker.sift(&shards, expansion);
                }
            }
            worker.sift(&shards, expansion);
        }
    }

    /// Second phase: insert the candidates, shard by shard, in the order of the blocks.
    fn insert(&self, memory: &Memory) {
        let blocks = read(&self.round).blocks();
        let expansions: Vec<_> = self.expansions[..blocks].iter().map(read).collect();
        loop {
            let index = self.next_shard.fetch_add(1, Relaxed);
            let Some(shard) = self.shards.get(index) else {
                break;
            };
            let Shard { visited, next } = &mut *write(shard);
            let mut waiting = 0;
            let before = visited.len();
            for expansion in &expansions {
                let candidates = &expansion.candidates[index];
                touch(candidates, |_| &*visited);
                for (candidate, bytes) in candidates.iter() {
                    let Candidate {
                        fingerprint,
                        parent,
                        order,
                    } = candidate;
                    let Some(id) = visited.insert(fingerprint, bytes, parent, memory) else {
                        continue;
                    };
                    if is_fatal(bytes) {
                        continue;
                    }
                    if next.back().is_none_or(|block| block.len() == BLOCK) {
                        let mut block = lock(&self.spare).pop().unwrap_or_default();
                        block.clear();
                        next.push_back(block);
                    }
                    next.back_mut()
                        .expect("a block was just pushed")
                        .push(Waiting { id, order }, bytes);
                    waiting += 1;
                }
            }
            self.states
                .fetch_add((visited.len() - before) as u64, Relaxed);
            self.waiting.fetch_add(waiting, Relaxed);
        }
    }

    /// Keeps a panic for the end: a thread that dies would leave the others at the barrier.
    fn guarded(&self, work: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
            lock(&self.panic).get_or_insert(payload);
        }
    }

    fn conclude<F: Fingerprint>(
        self,
        course: Course,
        tally: Tally,
        start: Instant,
    ) -> Outcome<S::Action> {
        let blocks = lock(&self.spare)
            .iter()
            .map(Packed::allocated)
            .sum::<usize>();
        let candidates = |expansion: &RwLock<Expansion>| -> usize {
            read(expansion)
                .candidates
                .iter()
                .map(Packed::allocated)
                .sum()
        };
        let candidates: usize = self.expansions.iter().map(candidates).sum();
        // Of a level that was not walked to its end.
        let level = &read(&self.round).level;
        let level = level.iter().flat_map(|queue| &queue.blocks);
        let mut next = level.map(Packed::allocated).sum::<usize>();
        let store = Store(
            self.shards
                .into_iter()
                .map(|shard| {
                    let shard = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
                    next += shard.next.iter().map(Packed::allocated).sum::<usize>();
                    shard.visited
                })
                .collect(),
        );
        let states = self.states.into_inner();
        let allocated: usize = store.0.iter().map(Visited::allocated).sum();
        let violations = course
            .sightings
            .into_iter()
            .map(
                |Sighting {
                     violation,
                     state,
                     depth,
                     end,
                 }| Found {
                    violation,
                    depth,
                    end,
                    trace: rebuild::<S, V, F>(self.system, &store, state, violation, end),
                },
            )
            .collect();
        Outcome {
            states,
            transitions: tally.transitions,
            terminals: tally.terminals,
            depth: course.depth,
            seconds: start.elapsed().as_secs_f64(),
            bytes_per_state: allocated as f64 / states as f64,
            peak_frontier_bytes: blocks + candidates + next,
            witnesses: tally.witnesses,
            coverage: tally.coverage,
            violations,
            incomplete: course
                .incomplete
                .or(tally.overflow.then_some(Bound::ModelTable)),
        }
    }
}

impl<S: System> Worker<S> {
    /// Takes every action of a state and puts the successors into the batch.
    fn expand<F: Fingerprint, V: Visited>(
        &mut self,
        system: &S,
        At { id, place, depth }: At,
        bytes: &[u8],
        sightings: &mut Vec<Sighting>,
    ) {
        let state = system.decode(&bytes[..bytes.len() - 1]);
        self.actions.clear();
        system.actions(&state, &mut self.actions);
        if self.actions.is_empty() {
            let report = system.terminal(&state);
            self.tally.terminals += 1;
            self.tally.witness(&report);
            for &violation in report.violations.iter() {
                note(
                    sightings,
                    Sighting {
                        violation,
                        state: id,
                        depth,
                        end: End::Terminal,
                    },
                );
            }
        }
        for (index, &action) in self.actions.iter().enumerate() {
            let mut next = state;
            let report = system.apply(&mut next, action);
            self.tally.step(&report);
            for &violation in report.violations.iter() {
                let depth = depth + 1;
                note(
                    sightings,
                    Sighting {
                        violation,
                        state: id,
                        depth,
                        end: End::Action,
                    },
                );
            }
            if !report.overflow {
                let candidate = |bytes: &[u8]| {
                    let fingerprint = fingerprint::<F>(bytes);
                    if V::BY_FINGERPRINT {
                        let recent = &mut self.recent[fingerprint as usize % RECENT];
                        if mem::replace(recent, fingerprint) == fingerprint {
                            return None;
                        }
                    }
                    Some(Candidate {
                        fingerprint,
                        parent: id,
                        order: order(place, index),
                    })
                };
                self.batch
                    .push_with(|out| encode(system, &next, report.fatal, out), candidate);
            }
        }
    }

    /// Moves the candidates of the batch that are not known to their shards.
    fn sift<V: Visited>(
        &mut self,
        shards: &[RwLockReadGuard<Shard<V>>],
        expansion: &mut Expansion,
    ) {
        touch(&self.batch, |fingerprint| {
            &shards[shard_of(fingerprint)].visited
        });
        for (candidate, bytes) in self.batch.iter() {
            let shard = shard_of(candidate.fingerprint);
            if shards[shard]
                .visited
                .find(candidate.fingerprint, bytes)
                .is_none()
            {
                expansion.candidates[shard].push(candidate, bytes);
            }
        }
        self.batch.clear();
    }
}

/// Brings what the lookups of all candidates will read into the cache.
fn touch<'v, V: Visited + 'v>(candidates: &Packed<Candidate>, visited: impl Fn(u64) -> &'v V) {
    let touch = |candidate: &Candidate| visited(candidate.fingerprint).touch(candidate.fingerprint);
    black_box(candidates.headers().map(touch).fold(0, BitXor::bitxor));
}

/// Keeps the first sighting of each violation.
fn note(sightings: &mut Vec<Sighting>, sighting: Sighting) {
    if !sightings
        .iter()
        .any(|known| known.violation == sighting.violation)
    {
        sightings.push(sighting);
    }
}

// A lock is poisoned only by a panic that `guarded` keeps and `run` passes on.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
