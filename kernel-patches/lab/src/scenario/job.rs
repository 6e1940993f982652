//! Jobs on their way through VMs: one is a world and its rounds; a VM that dies takes the rounds after it along, and
//! they get another one.
//!
//! Not here: what is predicted of a job, and what is made of it.

use struct_ops_model::Design;
use struct_ops_sim::scenario::operation;

use super::explain::{self, Boot, Explained, LOST};
use super::program::{self, Round, Target};
use super::record::Record;
use super::symptom::{self, End, Seen, Symptom};
use crate::console::strip;
use crate::error::{Error, Result};
use crate::vm::{Accel, Machine};

/// VMs in a row that end before anything has begun.
const MOST_SILENT: usize = 3;

/// Why nothing is said of a round in which it was not the kernel that died.
const STALE: &str = "the emulated CPU executed an int3 that had been patched away";

/// Boots of one job that its own crashes may take.
const MOST_BOOTS: usize = 4;

/// A world and its rounds.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Its rounds.
    pub rounds: Vec<Round>,
    /// The first that has not been tried.
    pub next: usize,
    /// Boots that it took part in.
    pub boots: usize,
    /// Moves of its last round that began, and the one that could not be made.
    pub moves: (usize, Option<(usize, String)>),
    /// Symptoms.
    pub seen: Vec<Seen>,
    /// What the model says to the rounds.
    pub explained: Explained,
    /// Rounds that began.
    pub begun: usize,
    /// Operations in all.
    pub operations: usize,
    /// What went wrong with the runner or with a set-up that works in the model: nothing is said of the kernel.
    pub runner: Option<String>,
}

impl Job {
    /// One that has not begun.
    pub fn new(rounds: Vec<Round>) -> Self {
        Job {
            rounds,
            ..Job::default()
        }
    }

    fn over(&self) -> bool {
        self.next >= self.rounds.len() || self.boots >= MOST_BOOTS || self.runner.is_some()
    }
}

/// Carries jobs out, several to a VM.
///
/// # Errors
/// What is outside of kernel and runner: files, QEMU.
pub fn carry_out(
    machine: &Machine<'_>,
    target: &Target,
    design: &Design,
    jobs: &mut [Job],
    verbose: bool,
) -> Result<()> {
    let mut silent = 0;
    while !jobs.iter().all(Job::over) {
        let Some(why) = boot(machine, target, design, jobs, verbose)? else {
            silent = 0;
            continue;
        };
        // Nothing of what there is to do had begun: on a machine that is far overloaded it may come up the next time.
        silent += 1;
        if silent == MOST_SILENT {
            return Err(Error::Other(format!(
                "the VM did not start, {MOST_SILENT} times in a row: {why}"
            )));
        }
        eprintln!("the VM did not start, and is started again: {why}");
    }
    Ok(())
}

/// One VM: the rounds of all jobs that are left, until it ends. Why it ended, if it did before the first of them.
fn boot(
    machine: &Machine<'_>,
    target: &Target,
    design: &Design,
    jobs: &mut [Job],
    verbose: bool,
) -> Result<Option<String>> {
    let mut files = Vec::new();
    let mut command = String::new();
    let waiting: Vec<usize> = (0..jobs.len()).filter(|job| !jobs[*job].over()).collect();
    for (number, job) in waiting.iter().enumerate() {
        let job = &jobs[*job];
        let left: Vec<_> = job.rounds.iter().enumerate().skip(job.next).collect();
        let text = program::program(target, &left).map_err(Error::Bug)?;
        files.push((format!("lab/scenario.{number}"), text.into_bytes()));
        command += &format!("echo @scenario {number}\nlabrun /lab/scenario.{number} || exit 1\n");
    }
    let mut records: Vec<Record> = Vec::new();
    let ended = machine.run_with(&command, &files, |line| {
        if verbose {
            eprintln!("{}", line.trim_end_matches('\r'));
        }
        let line = strip(line);
        if line.starts_with("@scenario ") {
            records.push(Record::default());
        } else if let Some(record) = records.last_mut() {
            record.line(line);
        }
    })?;
    if records.is_empty() {
        return Ok(Some(ended.why));
    }
    let last = records.len() - 1;
    let mut left = Boot::default();
    for (number, record) in records.iter().enumerate() {
        let job = &mut jobs[waiting[number]];
        let mut end = End::default();
        let emulated = machine.accel == Accel::Tcg;
        let stale = number == last && emulated && ended.console.died_of_stale_int3();
        if number == last && !stale {
            end.complaint = ended.console.complaint();
            end.lost = ended.status.is_none().then(|| ended.why.clone());
        }
        job.boots += 1;
        job.next = record
            .rounds
            .last()
            .map_or(job.next, |round| round.number + 1);
        job.begun += record.rounds.len();
        job.operations += record
            .rounds
            .iter()
            .map(|round| round.done.len())
            .sum::<usize>();
        for (place, round) in record.rounds.iter().enumerate() {
            job.moves = (round.moves, round.unmade.clone());
            let Some(ran) = job.rounds.get(round.number) else {
                continue;
            };
            let death = end.complaint.as_deref().filter(|_| !round.over);
            if round.over || death.is_some() {
                job.explained.add(design, ran, round, death, &mut left);
                let accepted = explain::not_refused(design, ran, round);
                job.seen.extend(accepted.map(|what| Seen {
                    symptom: Symptom::NotRefused,
                    what,
                    round: Some(round.number),
                }));
            } else if stale {
                job.explained.say_nothing(STALE, &mut left);
            } else if place + 1 < record.rounds.len() {
                job.explained.say_nothing(LOST, &mut left);
            }
        }
        job.seen
            .extend(symptom::look(&job.rounds, target.cookie, record, &end));
        job.runner = mistake(&job.rounds, record).or_else(|| {
            let silent = number == last && record.rounds.is_empty() && end.complaint.is_none();
            let silent = silent && !stale;
            silent.then(|| format!("it said nothing: {}", ended.why))
        });
        // The VM ended by its own word, or went on with the next one.
        let well = end.complaint.is_none() && end.lost.is_none() && !stale;
        if job.runner.is_none() && well && !record.is_whole() {
            let status = ended.status.filter(|_| number == last).unwrap_or(0);
            job.runner = Some(format!("it ended in the middle, with status {status}"));
        }
    }
    Ok(None)
}

/// What went wrong with the runner, or with a set-up that works in the model.
fn mistake(rounds: &[Round], record: &Record) -> Option<String> {
    if let Some(what) = &record.runner {
        return Some(what.clone());
    }
    let all = record.rounds.iter().flat_map(|round| &round.setup);
    let failed = all.into_iter().find(|done| done.result != 0)?;
    let world = &rounds.first()?.world;
    let text = operation(world, *world.setup.get(failed.number)?);
    Some(format!("set-up: `{text}` returned {}", failed.result))
}
