//! What `check` and `merge` print of results: text, JSON or JUnit, and the exit status. What was explored, and when, they
//! know.

use super::args::Format;
use super::output::{document, json, print, screen};
use super::{Exit, Failure};
use crate::counterexample::steps;
use crate::report::json::check::{self as json_check, Asked, Begin, End, Line};
use crate::report::json::steps::Step;
use crate::report::screen::Screen;
use crate::report::summary::{Detail, summary};
use crate::report::text::plural;
use crate::report::{self, junit, mail, trace as table};
use crate::scenario::{Case, InputError};
use crate::tracefile::File;
use crate::verdict::{Counterexample, FailOn, Results, Run, SetUpFails, Vacuous};

/// The exit status of results.
pub(super) fn exit(results: &Results, fail_on: FailOn) -> Exit {
    if !results.failures(fail_on).is_empty() || results.set_ups_differ() {
        Exit::Different
    } else if !mistakes(results).is_empty() {
        Exit::Input
    } else if results.incomplete() {
        Exit::Incomplete
    } else {
        Exit::Expected
    }
}

/// What is wrong with the scenarios: a set-up that fails where the file does not say so, and what cannot have run.
fn mistakes(results: &Results) -> Vec<InputError> {
    let file = |name: &str| {
        let case = results.scenarios.iter().find(|s| s.head().name == name);
        case.map_or(name, |s| &s.head().file).to_string()
    };
    let set_ups = results
        .failed
        .iter()
        .filter(|f| f.expected.is_none())
        .map(|f| {
            let message = format!(
                "under design `{}`: {}; write `{} = \"{}\"` under [expect] if that is meant",
                f.design,
                f.why,
                toml_key(&f.design.name),
                SetUpFails::WORD
            );
            InputError::whole(&file(&f.scenario), message)
        });
    let vacuous = results.vacuous();
    let nothing = vacuous.iter().filter_map(|(name, what)| match what {
        Vacuous::Nothing => Some(InputError::whole(
            &file(name),
            "no operation had an object in any run: nothing was asked",
        )),
        Vacuous::NotRun(why) if results.runs.is_empty() => {
            let why = why.as_ref().map_or(String::new(), |w| format!(": {w}"));
            let designs: Vec<&str> = results.designs.iter().map(|d| d.name.as_str()).collect();
            let message = format!("not run under {}{why}", designs.join(", "));
            Some(InputError::whole(&file(name), message))
        }
        _ => None,
    });
    set_ups.chain(nothing).collect()
}

/// A key of a TOML table.
fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if key.chars().all(bare) {
        key.to_string()
    } else {
        format!("\"{key}\"")
    }
}

/// Prints results; of JSON lines the last one, because the others were printed before. `failed` is the exit status where
/// something has failed, which is another story.
pub(super) fn show(
    verb: &str,
    results: &Results,
    asked: Asked,
    format: Format,
    verbose: bool,
    failed: Option<Exit>,
) -> Result<Exit, Failure> {
    let exit = failed.unwrap_or_else(|| exit(results, asked.fail_on));
    print_as(verb, results, asked, format, verbose, exit)?;
    for mistake in mistakes(results) {
        super::complain(&mistake.to_string());
    }
    Ok(exit)
}

fn print_as(
    verb: &str,
    results: &Results,
    asked: Asked,
    format: Format,
    verbose: bool,
    exit: Exit,
) -> Result<(), Failure> {
    match format {
        // Where nothing was run there is nothing to tell but why.
        Format::Text if results.runs.is_empty() && results.skipped.is_empty() => {}
        Format::Text => text(results, &asked, verbose)?,
        Format::Json => {
            let runs = results.runs.iter();
            let body = json_check::Check {
                begin: Begin::new(asked, &results.scenarios),
                runs: runs
                    .map(|run| json_run(results, run))
                    .collect::<Result<_, _>>()?,
                end: End::new(results),
            };
            document(verb, exit, body)?;
        }
        Format::JsonLines => json(&Line::End {
            exit: exit as u8,
            end: End::new(results),
        })?,
        Format::Mail => print(&mails(results)?)?,
        Format::Junit => {
            let plain = Screen::plain(Screen::USUAL);
            let tell =
                |run: &Run, found: &Counterexample| counterexample(&plain, results, run, found);
            print(&junit::junit(results, asked.fail_on, tell)?)?;
        }
    }
    Ok(())
}

/// A run as JSON.
pub(super) fn json_run(results: &Results, run: &Run) -> Result<json_check::Run, Failure> {
    let case = case(results, run);
    json_check::Run::new(run, &results.invariants, |found| {
        let steps = steps(case, &run.design, found).map_err(Failure::Bug)?;
        Ok(steps.steps.iter().map(Step::from).collect())
    })
}

fn text(results: &Results, asked: &Asked, verbose: bool) -> Result<(), Failure> {
    if let [run] = results.runs.as_slice() {
        print(&report::summary::overview(screen(), results, run))?;
        for invariant in &results.invariants {
            if let Some(told) = run.told(*invariant, results.at.as_deref()) {
                print(&counterexample(screen(), results, run, told)?)?;
            } else if let (Some(at), Some(other)) = (&results.at, run.shortest(*invariant)) {
                let text = format!(
                    "{} is not broken at {at}, but {}.",
                    invariant.id(),
                    report::summary::place(other)
                );
                print(&screen().paragraph(&text, 0))?;
            }
        }
    }
    // One scenario is not meant to take every step.
    let detail = Detail {
        seconds: verbose,
        coverage: verbose || results.scenarios.len() > 1,
    };
    print(&summary(screen(), results, detail))?;
    if asked.fail_on == FailOn::Violation {
        let violated = results.failures(FailOn::Violation).len();
        print(&format!(
            "--fail-on violation: {}\n",
            match violated {
                0 => "nothing is violated".into(),
                n => format!("{} in all runs together", plural(n, "violated promise")),
            }
        ))?;
    }
    if let Some(shard) = asked.shard {
        print(&format!(
            "shard {shard}: {} of this part alone; `merge` joins the parts\n",
            plural(results.runs.len() + results.skipped.len(), "run")
        ))?;
    }
    Ok(())
}

/// The scenario of a run.
fn case<'a>(results: &'a Results, run: &Run) -> &'a Case {
    let found = results
        .scenarios
        .iter()
        .find(|s| s.head().name == run.scenario);
    found.expect("results have their scenarios")
}

/// A counterexample as a file for `replay`.
pub(super) fn file(results: &Results, run: &Run, found: &Counterexample) -> Result<File, Failure> {
    File::of_counterexample(case(results, run), &run.design, found).map_err(Failure::Bug)
}

/// A shortest run for each promise that is broken, as text for a mail.
fn mails(results: &Results) -> Result<String, Failure> {
    let plain = super::mailer();
    let mut mails = Vec::new();
    for run in &results.runs {
        let broken = results.invariants.iter();
        let broken = broken.filter_map(|i| run.told(*i, results.at.as_deref()));
        for found in broken {
            let case = case(results, run);
            let about = format!(
                "{} under {} breaks {}: {}",
                run.scenario,
                run.design,
                found.invariant.id(),
                case.head().question
            );
            let command = report::summary::command(&plain, results, run, found.invariant);
            let words = mail::Words::new(about, &command);
            let steps = steps(case, &run.design, found).map_err(Failure::Bug)?;
            mails.push(mail::of_trace(&steps, &[found.broken()], words));
        }
    }
    if mails.is_empty() {
        let runs: Vec<String> = results
            .runs
            .iter()
            .map(|r| format!("{} under {}", r.scenario, r.design))
            .collect();
        let text = match results.incomplete() {
            false => format!("Nothing that was asked is broken: {}.", runs.join(", ")),
            true => format!(
                "Not everything was seen, and nothing that was seen is broken: {}.",
                runs.join(", ")
            ),
        };
        return Ok(plain.paragraph(&text, 0));
    }
    Ok(mails.join(&format!("\n{}\n\n", "=".repeat(mail::WIDTH))))
}

/// A counterexample as a document: what broke, the steps, why there is no shorter one, how to see it again.
fn counterexample(
    screen: &Screen,
    results: &Results,
    run: &Run,
    shortest: &Counterexample,
) -> Result<String, Failure> {
    let invariant = shortest.invariant;
    let mut out = format!(
        "{} under {} violates {}\n\n",
        run.scenario,
        run.design,
        invariant.id()
    );
    let steps = steps(case(results, run), &run.design, shortest).map_err(Failure::Bug)?;
    out += &table::table(screen, &steps);
    out.push('\n');
    out += &table::broke(screen, &steps, shortest.broken());
    out += &table::minimal(screen, shortest.steps, shortest.transitions);
    let others = run
        .found
        .iter()
        .filter(|c| c.invariant == invariant && c.place != shortest.place);
    for other in others {
        let text = format!(
            "Also broken {}, after {} steps (--at tells it).",
            report::summary::place(other),
            other.steps
        );
        out += &screen.paragraph(&text, 0);
    }
    out += &format!(
        "See it again: {}\n\n",
        report::summary::command(screen, results, run, invariant)
    );
    Ok(out)
}
