//! `random`: operations and schedules at random.

use std::collections::BTreeMap;

use struct_ops_model::design::About;
use struct_ops_model::{Design, Invariant, Machine};

use super::args::{Format, Random};
use super::output::{document, print, screen};
use super::{Exit, Failure, Job};
use crate::bounds::{Bound, Bounds};
use crate::campaign;
use crate::random::{self, Finding, Judgement, Ran};
use crate::report::json::check::SetUp;
use crate::report::json::steps::{Sequence, counted};
use crate::report::json::{Incomplete, random as json};
use crate::report::text::plural;
use crate::report::trace as table;
use crate::scenario::{Case, Expect, InputError, Scenario};
use crate::trace::{Broken, Trace};
use crate::verdict::SetUpFails;
use crate::walk::trace;

/// Random worlds and schedules, or random schedules of the scenarios named; the first finding under each
/// design is told in full, those that break something else in one line.
///
/// A difference is what [`Finding::judge`] calls new.
pub(super) fn random(job: &Job, args: &Random, format: Format) -> Result<Exit, Failure> {
    // The others attach as mainline does.
    let designs = match args.design.as_slice() {
        [] => Design::attach_paths(),
        names => super::designs(names)?,
    };
    super::asked(&designs, &[About::AttachPath])?;
    let mut campaign = Campaign {
        args,
        format,
        bounds: job.bounds(args.timeout, None),
        runs: Vec::new(),
        failed: Vec::new(),
        stopped: None,
    };
    if args.scenario.is_empty() {
        for design in &designs {
            let run = |seed| random::run(seed, design);
            campaign.seeds(None, design, &run)?;
        }
    } else {
        let cases: Vec<Case> = super::check::scenarios(&args.scenario, args.linux)?
            .into_iter()
            .map(|s| Case::Attach(Box::new(s)))
            .collect();
        let (pairs, failed) = campaign::set_ups(campaign::pairs(&cases, &designs, true));
        if pairs.is_empty() && failed.is_empty() {
            let names: Vec<&str> = designs.iter().map(|d| d.name.as_str()).collect();
            let names = names.join(", ");
            let message = format!("no scenario of these is run under {names}: nothing was tried");
            return Err(InputError::whole("--scenario", message).into());
        }
        campaign.failed = failed;
        for (case, design) in pairs {
            let Case::Attach(scenario) = case else {
                continue;
            };
            super::machine(scenario, design)?;
            let run = |seed| random::run_in(seed, &scenario.world, design);
            campaign.seeds(Some(scenario), design, &run)?;
        }
    }
    campaign.end()
}

/// What has come of it so far.
struct Campaign<'a> {
    args: &'a Random,
    format: Format,
    bounds: Bounds,
    runs: Vec<json::Run>,
    /// What could not be tried.
    failed: Vec<SetUpFails>,
    /// What ended it before its end.
    stopped: Option<Bound>,
}

impl Campaign<'_> {
    /// All seeds under one design.
    fn seeds(
        &mut self,
        scenario: Option<&Scenario>,
        design: &Design,
        run: &dyn Fn(u64) -> Ran,
    ) -> Result<(), Failure> {
        let mut done = 0;
        let mut exercised: BTreeMap<Invariant, u64> = BTreeMap::new();
        let mut known: Vec<(Invariant, Judgement)> = Vec::new();
        let mut findings = Vec::new();
        for seed in self.args.seeds.clone() {
            self.stopped = self.bounds.reached();
            if self.stopped.is_some() {
                break;
            }
            let ran = run(seed);
            done += 1;
            for invariant in ran.exercised {
                *exercised.entry(invariant).or_default() += 1;
            }
            let Some(finding) = ran.finding else { continue };
            let judgement = finding.judge(scenario.and_then(|s| s.head.expectation(&design.name)));
            let invariant = finding.violation.invariant;
            if known.contains(&(invariant, judgement)) {
                continue;
            }
            let machine = Machine::new(finding.world.clone(), design.clone())
                .map_err(|e| Failure::Bug(e.to_string()))?;
            let trace = trace(&machine, &finding.actions).map_err(|e| {
                Failure::Bug(format!("seed {seed}: step {} was not enabled", e.step))
            })?;
            if self.format == Format::Text {
                print(&told(
                    &finding,
                    judgement,
                    &trace,
                    scenario,
                    known.is_empty(),
                ))?;
            }
            known.push((invariant, judgement));
            findings.push(json::Finding {
                invariant: invariant.id().into(),
                expected: judgement != Judgement::New,
                known: match judgement {
                    Judgement::Subsystem(how) => Some(how.into()),
                    Judgement::Expected | Judgement::New => None,
                },
                seed,
                steps_before: finding.before.0,
                operations_before: finding.before.1,
                toml: scenario.map_or_else(|| finding.scenario(), |s| s.head.text.clone()),
                sequence: Sequence::from(&trace),
            });
        }
        if self.format == Format::Text {
            let place = scenario.map_or(String::new(), |s| format!("{} ", s.head.name));
            let from = self.args.seeds.start;
            let to = from + done;
            if known.is_empty() && done > 0 {
                print(&format!(
                    "{place}under {design}: nothing broken with seeds {from}..{to}\n"
                ))?;
            }
            if let Some(bound) = self.stopped {
                print(&format!(
                    "incomplete: {place}under {design}: {} before seed {to}\n",
                    bound.reason()
                ))?;
            }
        }
        self.runs.push(json::Run {
            scenario: scenario.map(|s| s.head.name.clone()),
            design: design.name.clone(),
            seeds: done,
            exercised: counted(&exercised),
            findings,
        });
        Ok(())
    }

    /// What it all comes to.
    fn end(self) -> Result<Exit, Failure> {
        let seeds = self.args.seeds.clone();
        let mut findings = self.runs.iter().flat_map(|r| &r.findings);
        let surprises = self.failed.iter();
        let mut surprises = surprises.filter(|f| f.expected != Some(Expect::SetUpFails));
        for f in surprises.clone() {
            let what = format!("{} under {}: {}", f.scenario, f.design, f.why);
            super::say(&format!("error: {}: {what}", SetUpFails::WORD));
        }
        let exit = if findings.any(|f| !f.expected) {
            Exit::Different
        } else if surprises.next().is_some() {
            Exit::Input
        } else if self.stopped.is_some() {
            Exit::Incomplete
        } else {
            Exit::Expected
        };
        if self.format == Format::Text {
            return Ok(exit);
        }
        let body = json::Random {
            seeds: json::Seeds {
                from: seeds.start,
                to: seeds.end,
            },
            runs: self.runs,
            set_up_fails: self.failed.iter().map(SetUp::from).collect(),
            incomplete: self.stopped.map(Incomplete::from),
        };
        document("random", exit, body)
    }
}

/// A finding as text.
fn told(
    finding: &Finding,
    judgement: Judgement,
    trace: &Trace,
    scenario: Option<&Scenario>,
    full: bool,
) -> String {
    let Finding {
        seed,
        design,
        violation,
        ..
    } = finding;
    let name = scenario.map_or_else(|| finding.name(), |s| s.head.name.clone());
    let text = format!(
        "{name} under {design}: seed {seed} violates {} after {} (shrunk from {})",
        violation.invariant.id(),
        plural(trace.steps.len(), "step"),
        plural(finding.before.0, "step"),
    );
    let mut out = screen().paragraph(&text, 0);
    match judgement {
        Judgement::Expected => (),
        Judgement::Subsystem(how) => {
            let text = format!("known, and not the design's: {how}");
            out += &screen().paragraph(&text, 2);
        }
        Judgement::New => out += "  NOT EXPECTED\n",
    }
    let seeds = format!("{seed}..{}", u128::from(*seed) + 1);
    let mut options = vec![("--seeds", seeds.as_str()), ("--design", &design.name)];
    options.extend(scenario.map(|s| ("--scenario", s.head.argument())));
    let linux = scenario.and_then(|s| s.head.on);
    options.extend(linux.map(|linux| ("--linux", linux.version())));
    out += &format!("  {}\n", screen().command("random", &options));
    if full {
        out += &format!(
            "\n{}\n{}\n",
            table::table(screen(), trace),
            table::broke(screen(), trace, Broken::of(*violation, trace.linux))
        );
        if scenario.is_none() {
            out += &format!(
                "As a scenario file, for `check --scenario`:\n\n{}\n",
                finding.scenario()
            );
        }
    }
    out
}
