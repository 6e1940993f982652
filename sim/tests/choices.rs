//! Every choice of a design is asked for by the executions that it is about, and refused by the others.
//!
//! That a machine asks is seen from outside: with another value it does something else in some shipped scenario. The
//! runtime carries out the model's steps, so what it does under a design is what the model says, or it refuses.

mod common;
#[path = "common/counts.rs"]
mod counts;

use std::process::Command;

use counts::{each, pinned};
use struct_ops_model::Design;
use struct_ops_model::design::{About, Twin};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{self, Settings};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::live::round::{self, RoundError};
use struct_ops_sim::live::validate::{Validator, Verdict};
use struct_ops_sim::scenario::Case;
use struct_ops_sim::verdict::Run;

/// Every choice: a key and a value.
fn choices() -> impl Iterator<Item = (&'static str, &'static str)> {
    let choices = Design::choices().into_iter();
    choices.flat_map(|(key, values)| values.into_iter().map(move |(value, _)| (key, value)))
}

/// The presets that this choice makes another design of, with that design.
fn with(key: &str, value: &str) -> Vec<(Design, Design)> {
    let presets = Design::presets().into_iter();
    let with = |preset: Design| {
        let other = Design::parse(&format!("{preset},{key}={value}")).ok()?;
        (preset.values() != other.values()).then_some((preset, other))
    };
    presets.filter_map(with).collect()
}

fn settings() -> Settings {
    Settings {
        threads: 1,
        max_states: Some(20_000),
        exact: false,
        reductions: Reductions::ALL,
    }
}

/// What can be told of an exploration: states, transitions, what broke after how many steps.
type Outcome = (u64, u64, Vec<(usize, String)>);

fn outcome(case: &Case, design: &Design) -> Option<Outcome> {
    let run: Run = check::case(case, design, &settings(), &UNBOUNDED, &mut |_| ()).ok()?;
    let found = run.found.iter();
    let found = found.map(|c| (c.steps, format!("{:?} {:?}", c.invariant, c.place)));
    Some((run.states, run.transitions, found.collect()))
}

/// The shipped scenarios of one kind, those that take long left out.
fn cases(lookups: bool) -> Vec<Case> {
    let cases = common::cases().into_iter();
    let small = cases.filter(|c| !c.head().name.starts_with("universe"));
    small
        .filter(|c| matches!(c, Case::Reach(_)) == lookups)
        .collect()
}

/// Whether some scenario shows that the machine asks for what makes another design of the preset.
fn asked(preset: &Design, other: &Design, cases: &[Case]) -> bool {
    cases.iter().any(|case| {
        let runs = case.runs_under(preset, true);
        runs && outcome(case, preset).is_some_and(|o| outcome(case, other) != Some(o))
    })
}

/// The choices about an execution that make no difference to any preset in any scenario.
fn ignored(execution: About, cases: &[Case]) -> Vec<String> {
    let about = |key: &str, value: &str| [execution, About::Both].contains(&About::of(key, value));
    let mine = choices().filter(|(key, value)| about(key, value));
    let ignored = mine.filter(|(key, value)| {
        let designs = with(key, value);
        // Nothing to ask if every preset has it.
        !designs.is_empty()
            && !designs
                .iter()
                .any(|(preset, other)| asked(preset, other, cases))
    });
    ignored
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

#[test]
fn the_attach_path_asks_for_every_choice_about_it() {
    assert_eq!(ignored(About::AttachPath, &cases(false)), [""; 0]);
}

#[test]
fn lookups_ask_for_every_choice_about_them() {
    assert_eq!(ignored(About::Lookups, &cases(true)), [""; 0]);
}

/// What a design comes to in all these scenarios together, each explored up to a number of states.
fn summed(design: &Design, cases: &[Case]) -> String {
    let settings = Settings {
        max_states: Some(2_000),
        ..settings()
    };
    let (mut runs, mut states, mut transitions, mut exercised) = (0, 0, 0, 0);
    let (mut found, mut steps) = (0, 0);
    for case in cases.iter().filter(|case| case.runs_under(design, true)) {
        let Ok(run) = check::case(case, design, &settings, &UNBOUNDED, &mut |_| ()) else {
            continue;
        };
        runs += 1;
        states += run.states;
        transitions += run.transitions;
        exercised += run.witnesses.iter().sum::<u64>();
        found += run.found.len();
        steps += run.found.iter().map(|c| c.steps).sum::<usize>();
    }
    format!(
        "{design}: {runs} runs, {states} states, {transitions} transitions, {exercised} exercised, {found} found after \
         {steps} steps\n"
    )
}

/// Each choice is made in every way of attaching, or of looking up, that it can be made in: whatever a step asks of a
/// design shows in one of these sums. `CHOICES=overwrite cargo test --test choices` writes those of today.
#[test]
fn what_each_choice_comes_to_is_what_it_was() {
    let (attach, lookups) = (cases(false), cases(true));
    let mut asked: Vec<(Design, &[Case])> = Vec::new();
    for (key, value) in choices() {
        for (preset, other) in with(key, value) {
            let attaches = Design::attach_paths().contains(&preset);
            match About::of(key, value) {
                About::Lookups => asked.push((other, &lookups)),
                _ if attaches => asked.push((other, &attach)),
                _ => {}
            }
        }
    }
    let sums = each(&asked, |(design, cases)| summed(design, cases));
    pinned("choices.txt", &sums.concat(), ("CHOICES", "choices"));
}

#[test]
fn every_choice_can_be_made() {
    for (key, values) in Design::choices() {
        assert!(values.iter().any(|v| !with(key, v.0).is_empty()), "{key}");
    }
}

#[test]
fn nobody_asks_for_a_choice_that_is_refused() {
    let (attach, lookups) = (&cases(false)[..3], &cases(true)[..3]);
    for (key, value) in choices() {
        let others = match About::of(key, value) {
            About::AttachPath => lookups,
            About::Lookups => attach,
            About::Both => continue,
        };
        for (preset, other) in with(key, value) {
            assert!(!asked(&preset, &other, others), "{other}");
        }
    }
}

#[test]
fn the_runtime_does_what_the_model_says_or_refuses() {
    let world = common::scenario("straight-path").world;
    for (key, value) in choices() {
        for (_, design) in with(key, value) {
            let recorded = match round::run(&world, &design, true, 1) {
                Ok(recorded) => recorded,
                Err(RoundError::NotAsked(why)) => {
                    assert_eq!((why.key, why.value), (Twin::KEY, value), "{design}");
                    continue;
                }
                Err(other) => panic!("{design}: {other}"),
            };
            assert_ne!(key, Twin::KEY, "{design}");
            let validator = Validator::new(&recorded.world, &design).expect("the set-up works");
            let verdict = validator.validate(&recorded);
            assert!(
                matches!(verdict, Verdict::Accepted { .. }),
                "{design}: {verdict:?}"
            );
        }
    }
}

#[test]
fn verbs_refuse_what_they_do_not_ask_for() {
    let refused = |arguments: &str, choice: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_struct-ops-sim"))
            .args(arguments.split(' '))
            .output()
            .expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments}: {text}");
        assert!(text.contains(choice), "{arguments}: {text}");
    };
    let mut seen = String::new();
    for (key, value) in choices() {
        let Some((_, design)) = with(key, value).pop() else {
            continue;
        };
        // One value of each: processes take their time. Which execution a mistake is about is its own matter.
        if seen == key && key != Twin::KEY {
            continue;
        }
        seen = key.to_string();
        let choice = format!("{key}={value}");
        match About::of(key, value) {
            About::AttachPath => {
                refused(
                    &format!("reach --program fentry --design {design}"),
                    &choice,
                );
                refused(
                    &format!("check -q --scenario root-alone --design {design}"),
                    &choice,
                );
            }
            About::Lookups => {
                for verb in [
                    "random --seeds 0..1",
                    "stress --seconds 1",
                    "run straight-path",
                ] {
                    refused(&format!("{verb} --design {design}"), &choice);
                }
                refused(
                    &format!("check -q --scenario straight-path --design {design}"),
                    &choice,
                );
            }
            About::Both => (),
        }
    }
}
