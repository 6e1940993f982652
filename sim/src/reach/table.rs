//! One cell of the table: a design and a kind of program, judged by exploring what each help of the loader leads to.
//!
//! No verdict is written down anywhere: each follows from what programs found in the explored universes.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use struct_ops_model::reach::context::{CONTEXTS, Kind, Way};
use struct_ops_model::reach::{Action, Found, Reach};
use struct_ops_model::{Design, Invariant};

use super::explored::{Event, Explored, Outcome, explore};
use super::universe::{Help, universe};
use crate::bounds::{Bound, Bounds};

/// What can be said of a kind of program under a design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every such program finds its own scheduler, without help.
    Own,
    /// It does if its loader helps.
    WithHelp,
    /// No help makes it so.
    None,
    /// The least help that makes it find its own scheduler at times lets it find another or a dead one.
    Wrong,
    /// A bound was reached before this could be told.
    Incomplete(Bound),
}

impl Verdict {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Own => "self",
            Verdict::WithHelp => "with-help",
            Verdict::None => "none",
            Verdict::Wrong => "wrong",
            Verdict::Incomplete(_) => "incomplete",
        }
    }
}

/// A cell, and the run that proves it.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The design.
    pub design: Design,
    /// The kind of program.
    pub kind: Kind,
    /// One object file serves both schedulers.
    pub shared: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// The help under which `trace` happens.
    pub help: Help,
    /// A shortest witness (self, with-help) or counterexample (none, wrong).
    pub trace: Vec<Action>,
    /// How the trace ends.
    pub end: Option<Event>,
    /// States explored for this cell, all helps together.
    pub states: u64,
}

impl Cell {
    /// The machine in which the trace happens.
    pub fn reach(&self) -> Reach {
        let world = universe(&self.design, self.kind, self.help, self.shared);
        Reach::new(world, self.design.clone())
    }
}

/// An invariant that only a lookup which found the wrong thing breaks.
fn is_wrong(event: &Event) -> bool {
    matches!(
        event,
        Event::Broken(
            Invariant::NoOtherScheduler | Invariant::NoDeadScheduler | Invariant::NoFreedScheduler,
            _
        )
    )
}

fn first(outcome: &Outcome, is: impl Fn(&Event) -> bool) -> Option<(Event, Vec<Action>)> {
    outcome.events.iter().find(|(event, _)| is(event)).cloned()
}

/// Judges a design and a kind of program.
///
/// # Errors
/// A bug of ours.
pub fn cell(design: &Design, kind: Kind, shared: bool, bounds: &Bounds) -> Result<Cell, String> {
    let mut states = 0;
    let mut make = |help, verdict, found: Option<(Event, Vec<Action>)>, more| {
        states += more;
        let (end, trace) = found.map_or((None, Vec::new()), |(e, t)| (Some(e), t));
        Cell {
            design: design.clone(),
            kind,
            shared,
            verdict,
            help,
            trace,
            end,
            states,
        }
    };
    let (mut none, mut stray) = (None, None);
    for help in Help::of(design, kind) {
        let world = universe(design, kind, help, shared);
        let explored = Explored::new(Reach::new(world, design.clone()), true);
        let outcome = explore(&explored, 1, None, bounds, &mut |_| ())?;
        let own = |sched| first(&outcome, |e| *e == Event::Found(Found::Own(sched)));
        let lost = first(&outcome, |e| {
            matches!(e, Event::Found(Found::Nothing(_) | Found::Refused(_)))
        });
        let wrong = first(&outcome, is_wrong);
        let reached = [own(0), own(1)];
        match wrong {
            Some(wrong) if reached.iter().any(Option::is_some) => {
                return Ok(make(
                    help,
                    Verdict::Wrong,
                    Some(wrong),
                    outcome.explored.states,
                ));
            }
            _ if outcome.explored.incomplete.is_some() => {
                let bound = outcome.explored.incomplete.map(Verdict::Incomplete);
                let verdict = bound.unwrap_or(Verdict::None);
                return Ok(make(help, verdict, None, outcome.explored.states));
            }
            Some(wrong) => {
                stray = Some(make(
                    help,
                    Verdict::Wrong,
                    Some(wrong),
                    outcome.explored.states,
                ))
            }
            None if lost.is_none() && reached.iter().all(Option::is_some) => {
                let verdict = if help == Help::None {
                    Verdict::Own
                } else {
                    Verdict::WithHelp
                };
                let [witness, _] = reached;
                return Ok(make(help, verdict, witness, outcome.explored.states));
            }
            None => none = Some(make(help, Verdict::None, lost, outcome.explored.states)),
        }
    }
    stray
        .or(none)
        .ok_or_else(|| "a design without any help, not even none".into())
}

/// Judges every design with every kind of program, in that order, on several threads. Designs that differ in their
/// attach path alone look schedulers up in the same way: they share an exploration.
///
/// # Errors
/// A bug of ours.
pub fn cells(
    designs: &[Design],
    kinds: &[Kind],
    shared: bool,
    threads: usize,
    bounds: &Bounds,
) -> Result<Vec<Cell>, String> {
    let same =
        |a: &Design, b: &Design| (a.identity, a.lookup, a.twin) == (b.identity, b.lookup, b.twin);
    let first = |design: &Design| {
        designs
            .iter()
            .position(|d| same(d, design))
            .unwrap_or_default()
    };
    let jobs: Vec<(usize, Kind)> = designs
        .iter()
        .enumerate()
        .filter(|(i, design)| first(design) == *i)
        .flat_map(|(i, _)| kinds.iter().map(move |kind| (i, *kind)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((design, kind)) = jobs.get(next.fetch_add(1, Relaxed)) {
            done.push(cell(&designs[*design], *kind, shared, bounds)?);
        }
        Ok(done)
    };
    let explored = thread::scope(|scope| {
        // As many threads as the system gives.
        let helpers = (1..threads).map_while(|_| {
            let spawned = thread::Builder::new().spawn_scoped(scope, work);
            spawned.ok()
        });
        let helpers: Vec<_> = helpers.collect();
        let mut explored = vec![work()];
        // One that panics leaves out the cell that it was at.
        explored.extend(helpers.into_iter().filter_map(|h| h.join().ok()));
        explored.into_iter().collect::<Result<Vec<_>, String>>()
    })?;
    let explored: Vec<Cell> = explored.into_iter().flatten().collect();
    let mut cells = Vec::new();
    for design in designs {
        for kind in kinds {
            let found = explored
                .iter()
                .find(|c| same(&c.design, design) && c.kind == *kind);
            let found = found.ok_or("a cell was not explored")?;
            cells.push(Cell {
                design: design.clone(),
                ..found.clone()
            });
        }
    }
    Ok(cells)
}

/// The rows of the table: every context by itself, and every way from a struct_ops and a tracing program.
pub fn programs() -> Vec<Kind> {
    let direct = (0u8..).zip(CONTEXTS).map(|(context, _)| Kind {
        context,
        way: Way::Direct,
    });
    let others = ["struct_ops", "fentry", "syscall"]
        .into_iter()
        .flat_map(|name| {
            Way::ALL
                .into_iter()
                .filter(move |w| w.1 != Way::Direct && (name != "syscall" || w.1.is_callback()))
                .filter_map(move |w| Kind::parse(&format!("{name}{}", w.0)))
        });
    direct.chain(others).collect()
}
