//! Holds what a round showed against the model: its record becomes a history, and the model looks for a run that
//! explains it.
//!
//! The search is the simulator's (`struct_ops_sim::history`); here is only what a record says and what it leaves open.

use std::collections::{BTreeMap, BTreeSet};

use struct_ops_model::world::{Operation, Plan, World};
use struct_ops_model::{Design, Invariant};
use struct_ops_sim::history::{Call, Event, Explainer, Explanation, History, Read};

use super::program::Round;
use super::record;

/// Freed memory of trampolines is filled with this instruction: no list leads there.
const TRAMPOLINE: &str = "int3";

/// Why nothing is said of a round whose record is not whole.
pub const LOST: &str = "a line of the record was lost on the console";

/// What the rounds of one boot have left behind, as far as later ones can meet it.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// The rounds that were explained: where the kernel dies of its lists of ksyms, one of them may be the cause.
    before: Vec<(World, History)>,
    /// Of some round nothing was said.
    unjudged: bool,
}

/// What the model says to the rounds of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// Rounds that a run explains.
    pub rounds: usize,
    /// Promises that no explanation of a round keeps, and in how many rounds.
    pub broke: BTreeMap<Invariant, usize>,
    /// Rounds of which nothing is said, by the reason.
    pub beyond: BTreeMap<String, usize>,
    /// Rounds without explanation.
    pub unexplained: Vec<Unexplained>,
}

/// A round that no run of the model explains.
#[derive(Clone, Debug)]
pub struct Unexplained {
    /// Its number.
    pub round: usize,
    /// What was seen, and what the model would allow.
    pub why: String,
    /// How many operations of each CPU it takes.
    pub calls: Vec<usize>,
    /// What ran.
    pub world: World,
    /// What was seen.
    pub history: History,
}

impl Boot {
    /// Whether some round may have left kallsyms with ksyms that are freed; `None` where that was not found out.
    fn may_have_stale_ksyms(&self, design: &Design) -> Option<bool> {
        let mut none = Some(false);
        for (world, history) in &self.before {
            let explainer = Explainer::new(world, design);
            match explainer.map_or(Some(false), |e| e.may_leave_stale_ksyms(history)) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => none = None,
            }
        }
        none
    }
}

impl Explained {
    /// Of one more round nothing is said.
    pub fn say_nothing(&mut self, why: &str, boot: &mut Boot) {
        boot.unjudged = true;
        *self.beyond.entry(why.to_owned()).or_default() += 1;
    }

    /// Takes one more round of a boot; `death` is the kernel's complaint, if it died in it.
    pub fn add(
        &mut self,
        design: &Design,
        ran: &Round,
        round: &record::Round,
        death: Option<&str>,
        boot: &mut Boot,
    ) {
        let (history, explanation) = match explain(design, ran, round, death, false) {
            Ok(explained) => explained,
            Err(why) => return self.say_nothing(why, boot),
        };
        let mut explained = (of(ran), history.clone());
        let mut otherwise = None;
        if matches!(explanation, Explanation::Unexplained { .. }) {
            if let Some((ran, round)) = without_the_failed(ran, round)
                && let Ok((history, said @ Explanation::Explained { .. })) =
                    explain(design, &ran, &round, death, false)
            {
                explained = (of(&ran), history);
                otherwise = Some(said);
            } else if history.died_of_ksyms {
                match boot.may_have_stale_ksyms(design) {
                    Some(false) => {}
                    None => {
                        return self.say_nothing(
                            "whether the kernel may have died of an earlier round",
                            boot,
                        );
                    }
                    Some(true) => {
                        let again = explain(design, ran, round, death, true);
                        otherwise = again.ok().map(|(_, said)| said);
                    }
                }
            }
        }
        match otherwise.unwrap_or(explanation) {
            Explanation::Explained { broke, .. } => {
                boot.before.push(explained);
                self.rounds += 1;
                for invariant in broke {
                    *self.broke.entry(invariant).or_default() += 1;
                }
            }
            Explanation::Beyond(why) => self.say_nothing(why, boot),
            Explanation::Unexplained { .. } if death.is_some() && boot.unjudged => {
                self.say_nothing(
                    "the kernel died after a round of which nothing is said",
                    boot,
                );
            }
            Explanation::Unexplained {
                events, allowed, ..
            } => {
                boot.unjudged = true;
                let why = told(ran, &history, events, &allowed);
                let mut calls = vec![0; ran.world.cpus.len()];
                for event in history.events.iter().take(events + 1) {
                    if let Event::Invoke(call) = event {
                        calls[usize::from(history.calls[*call].cpu)] += 1;
                    }
                }
                self.unexplained.push(Unexplained {
                    round: round.number,
                    why,
                    calls,
                    world: of(ran),
                    history,
                });
            }
        }
    }
}

/// What the model says to a round; `stale_ksyms`: an earlier one has left kallsyms with ksyms that are freed.
fn explain(
    design: &Design,
    ran: &Round,
    round: &record::Round,
    death: Option<&str>,
    stale_ksyms: bool,
) -> Result<(History, Explanation), &'static str> {
    let mut history = history(ran, round, death.is_some(), design)?;
    history.stale_ksyms = stale_ksyms;
    history.died_of_ksyms = death.is_some_and(|complaint| !complaint.contains(TRAMPOLINE));
    let explainer = Explainer::new(&of(ran), design);
    let explainer = explainer.map_err(|_| "the set-up does not work in the model")?;
    let explanation = explainer.explain(&history);
    Ok((history, explanation))
}

/// An attach of the round that succeeded, and that the model of mainline refuses: what both are, in words.
pub fn not_refused(design: &Design, ran: &Round, round: &record::Round) -> Option<String> {
    let mainline = Design::mainline();
    if *design == mainline || !round.over {
        return None;
    }
    // of maps that have been attached with success more than once, the set-up included
    let attached = |operation: &Operation, done: &record::Done| match *operation {
        Operation::LinkCreate { map, .. } if done.result == 0 => Some(map),
        _ => None,
    };
    let setup = round.setup.iter();
    let setup = setup.filter_map(|done| attached(ran.world.setup.get(done.number)?, done));
    let plans = round.done.iter();
    let plans = plans.filter_map(|done| attached(ran.plan(done.cpu).get(done.number)?, done));
    let all: Vec<u8> = setup.chain(plans).collect();
    let twice = all.iter().enumerate();
    let twice: Vec<u8> = twice
        .filter_map(|(at, map)| all[..at].contains(map).then_some(*map))
        .collect();
    if twice.is_empty() {
        return None;
    }
    let mut history = history(ran, round, false, &mainline).ok()?;
    history.calls.iter_mut().for_each(|call| call.ksyms = None);
    let explainer = Explainer::new(&of(ran), &mainline).ok()?;
    let Explanation::Unexplained {
        events, allowed, ..
    } = explainer.explain(&history)
    else {
        return None;
    };
    let Some(Event::Return(call)) = history.events.get(events) else {
        return None;
    };
    let call = &history.calls[*call];
    let operation = ran.plan(call.cpu.into()).get(usize::from(call.number))?;
    let refuses = allowed.iter().all(|what| what.contains(" returns -"));
    let again = matches!(operation, Operation::LinkCreate { map, .. } if twice.contains(map));
    (again && call.result == Some(0) && refuses).then(|| {
        format!(
            "{} = 0; on mainline {}",
            struct_ops_sim::scenario::operation(&ran.world, *operation),
            allowed.join(", or ")
        )
    })
}

/// What ran in a round.
fn of(ran: &Round) -> World {
    let mut world = ran.world.clone();
    // a replay's moves make it fail
    if ran.moves.is_empty() {
        world.alloc_failures = u8::from(ran.fail.is_some());
    }
    world
}

/// The round without the operation whose allocation was made to fail, if it returned -ENOMEM: bpf(2) allocates before
/// the attach path begins, and the model, which begins there, has no such failure.
fn without_the_failed(ran: &Round, round: &record::Round) -> Option<(Round, record::Round)> {
    let (cpu, number, _) = ran.fail?;
    let failed = |done: &record::Done| done.cpu == cpu && done.number == number;
    round
        .done
        .iter()
        .find(|done| failed(done) && done.result == NO_MEMORY)?;
    let (mut ran, mut round) = (ran.clone(), round.clone());
    ran.fail = None;
    if let Plan::Fixed(operations) = &mut ran.world.cpus[cpu].plan {
        operations.remove(number);
    }
    if let Some(turn) = ran.turns.iter().position(|turn| usize::from(*turn) == cpu) {
        ran.turns.remove(turn);
    }
    round.done.retain(|done| !failed(done));
    for done in round.done.iter_mut().filter(|done| done.cpu == cpu) {
        done.number -= usize::from(done.number > number);
    }
    Some((ran, round))
}

/// What could not be seen, so that nothing can be said.
fn history(
    ran: &Round,
    round: &record::Round,
    crashed: bool,
    design: &Design,
) -> Result<History, &'static str> {
    if round.lost > 0 {
        return Err(LOST);
    }
    let timed_out = |done: &record::Done| done.result == TIMED_OUT;
    if round.done.iter().any(timed_out) {
        return Err("the kernel did not call the member in time");
    }
    if !round.hang.is_empty() {
        return Err("somebody does not return");
    }
    let cookie = design.identity == struct_ops_model::design::Identity::Cookie;
    let mut history = History {
        crashed,
        ..History::default()
    };
    let mut stamps: Vec<(u64, Event)> = Vec::new();
    for done in &round.done {
        let call = history.calls.len();
        let exits = ran.plan(done.cpu).get(done.number) == Some(&Operation::Exit {});
        let reads = done.reads.iter().filter(|read| read.cpu == done.cpu);
        history.calls.push(Call {
            cpu: done.cpu as u8,
            number: done.number as u8,
            result: (!exits).then_some(done.result),
            reads: reads
                .map(|read| Read {
                    prog: read.prog,
                    cookie: cookie.then_some(read.cookie),
                })
                .collect(),
            ksyms: done.ksyms.filter(|_| !exits),
        });
        stamps.push((done.invoked, Event::Invoke(call)));
        if let (Some(returned), false) = (done.returned, exits) {
            stamps.push((returned, Event::Return(call)));
        }
    }
    stamps.sort_by_key(|(stamp, _)| *stamp);
    history.events = stamps.into_iter().map(|(_, event)| event).collect();
    if crashed && !round.is_set_up(ran.world.setup.len()) {
        return Err("the kernel died in a set-up");
    }
    if crashed && ran.turns.is_empty() {
        // What they returned is printed when the round is over: that they began is known.
        return Ok(all_began(ran));
    }
    if crashed {
        // By turns, the next one was under way, or the processes ended.
        let mut done = vec![0; ran.world.cpus.len()];
        for cpu in &ran.turns[..round.done.len().min(ran.turns.len())] {
            done[usize::from(*cpu)] += 1;
        }
        if let Some(cpu) = ran.turns.get(round.done.len()) {
            history.events.push(Event::Invoke(history.calls.len()));
            history.calls.push(began(*cpu, done[usize::from(*cpu)]));
        }
    }
    Ok(history)
}

/// A call of which nothing is known but that it began.
fn began(cpu: u8, number: u8) -> Call {
    Call {
        cpu,
        number,
        result: None,
        reads: Vec::new(),
        ksyms: None,
    }
}

/// Every operation of the round began, the kernel died, and nobody saw more.
fn all_began(ran: &Round) -> History {
    let cpus = 0..ran.world.cpus.len();
    let calls = cpus.flat_map(|cpu| {
        let numbers = 0..ran.plan(cpu).len();
        numbers.map(move |number| began(cpu as u8, number as u8))
    });
    let calls: Vec<Call> = calls.collect();
    History {
        events: (0..calls.len()).map(Event::Invoke).collect(),
        calls,
        crashed: true,
        unseen: true,
        ..History::default()
    }
}

/// -ETIMEDOUT: what the runner says of a member that nobody calls.
const TIMED_OUT: i64 = -110;
const NO_MEMORY: i64 = -12;

/// The history as far as it is explained, the event that is not, and what the model would allow.
fn told(ran: &Round, history: &History, events: usize, allowed: &[String]) -> String {
    let call = |call: usize| {
        let call = &history.calls[call];
        let text = ran
            .plan(usize::from(call.cpu))
            .get(usize::from(call.number))
            .map_or_else(String::new, |operation| {
                struct_ops_sim::scenario::operation(&ran.world, *operation)
            });
        (call, text)
    };
    let mut parts = Vec::new();
    for event in history.events.iter().take(events + 1) {
        if let Event::Return(of) = event {
            let (call, text) = call(*of);
            let reads: BTreeSet<String> = call
                .reads
                .iter()
                .filter_map(|read| Some(format!("{:#x}", read.cookie?)))
                .collect();
            let reads = match reads.is_empty() {
                true => String::new(),
                false => format!(" reads {}", reads.into_iter().collect::<Vec<_>>().join(",")),
            };
            let ksyms = call
                .ksyms
                .map_or(String::new(), |n| format!(" ({n} ksyms)"));
            let result = call.result.map_or("?".into(), |result| result.to_string());
            parts.push(format!("cpu{} {text} = {result}{reads}{ksyms}", call.cpu));
        }
    }
    if history.crashed && events >= history.events.len() {
        parts.push("the kernel dies".into());
    }
    let allowed = match allowed {
        [] => "the model allows nothing else".to_owned(),
        allowed => format!("in the model {}", allowed.join(", or ")),
    };
    format!("{}; {allowed}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::program::{Target, rounds};
    use crate::scenario::record::Record;
    use crate::series::Base;

    fn explained(design: &Design, text: &str, death: Option<&str>) -> Explained {
        let target = Target {
            base: Base::V6_12,
            cookie: true,
            modules: true,
        };
        let scenario = struct_ops_sim::shipped::find("two-links-tcp").unwrap();
        let mut ran = rounds(&scenario.world, &target, 1, 1).remove(0);
        ran.turns = vec![0, 1, 1];
        let mut record = Record::default();
        let setup = (0..scenario.world.setup.len()).map(|n| format!("@s 0 {n} 0 0 0 0 0 -1\n"));
        let text = text.replacen('\n', &("\n".to_owned() + &setup.collect::<String>()), 1);
        text.lines().for_each(|line| record.line(line));
        let mut explained = Explained::default();
        explained.add(design, &ran, &record.rounds[0], death, &mut Boot::default());
        explained
    }

    #[test]
    fn an_attach_that_mainline_refuses_is_a_symptom() {
        let target = Target {
            base: Base::V6_12,
            cookie: true,
            modules: true,
        };
        let scenario = struct_ops_sim::shipped::find("hid-map-twice").unwrap();
        let mut ran = rounds(&scenario.world, &target, 1, 1).remove(0);
        ran.turns = vec![0, 0, 1];
        let shown = |second: i64, design: &Design| {
            let mut record = Record::default();
            let text = format!(
                "@r 0\n@s 0 0 0 1 0 0 0 -1\n@s 0 1 2 3 0 0 0 -1\n@s 0 2 4 5 0 0 0 -1\n\
                @o 0 0 6 7 {second} 0 0 -1\n@o 0 1 8 9 {} 0 0 -1\n@o 1 0 10 11 0 0 0 -1\n\
                @c 1 0 0 0 11 1\n@d 0 7",
                if second == 0 { 0 } else { -9 }
            );
            text.lines().for_each(|line| record.line(line));
            not_refused(design, &ran, &record.rounds[0])
        };
        let owned = Design::link_owned();
        let what = shown(0, &owned).unwrap();
        assert!(
            what.ends_with("as l2 = 0; on mainline link_create returns -EINVAL"),
            "{what}"
        );
        assert_eq!(shown(-22, &owned), None);
        // there it would be unexplained
        assert_eq!(shown(0, &Design::mainline()), None);
    }

    #[test]
    fn a_round_is_explained_or_says_what_is_not() {
        let owned = Design::link_owned();
        let good = "@r 0\n@o 0 0 8 9 -17 0 0 2\n@o 1 0 10 11 0 0 0 2\n@c 1 0 0 0 11 1\n@d 0 0";
        let explained_ = explained(&owned, good, None);
        assert_eq!((explained_.rounds, explained_.broke.len()), (1, 0));
        let wrong = explained(&owned, &good.replace(" -17 ", " 0 "), None);
        let [Unexplained { round: 0, why, .. }] = wrong.unexplained.as_slice() else {
            panic!("{wrong:?}");
        };
        assert!(
            why.contains("cpu0 link_create m1 cookie=0x22 as l2 = 0"),
            "{why}"
        );
        assert!(
            why.contains("in the model link_create returns -EEXIST"),
            "{why}"
        );
        // the second link frees the first one's images, and a call dies in them
        let dies = "@r 0\n@o 0 0 8 9 -17 0 0 -1";
        let rfc = explained(&Design::rfc(), dies, Some("Oops: int3"));
        assert!(
            rfc.broke.contains_key(&Invariant::NoUseAfterFree),
            "{rfc:?}"
        );
        assert_eq!(
            explained(&owned, dies, Some("Oops: int3"))
                .unexplained
                .len(),
            1
        );
        // no step of the model warns: kallsyms lists what the second link has freed
        let warns = "@r 0\n@o 0 0 8 9 -17 0 0 -1";
        let warning = Some("WARNING: CPU: 0 PID: 1 at kernel/bpf/core.c:667 bpf_ksym_add+0x1");
        let rfc = explained(&Design::rfc(), warns, warning);
        assert!(
            rfc.broke.contains_key(&Invariant::KsymsMatchImages),
            "{rfc:?}"
        );
        assert_eq!(explained(&owned, warns, warning).unexplained.len(), 1);
    }
}
