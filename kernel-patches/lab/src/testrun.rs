//! Runs the test list on one kernel and puts prediction and outcome side by side.

use crate::build::{Flavour, Patched};
use crate::console::{Outcome, TestResult};
use crate::error::{Error, Result};
use crate::plan::{Prediction, TESTS, Test, boots, needs_modules};
use crate::vm::Machine;
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Serialize)]
pub struct Row {
    pub question: &'static str,
    pub predicted: Prediction,
    /// In at least nine of ten runs.
    pub as_predicted: bool,
    pub runs: usize,
    pub runs_as_predicted: usize,
    #[serde(flatten)]
    pub result: TestResult,
}

impl Row {
    /// A skipped test has said nothing, neither for nor against the prediction.
    fn missed(&self) -> bool {
        !self.as_predicted && self.result.outcome != Outcome::Skipped
    }
}

#[derive(Serialize)]
pub struct Report {
    /// base, series and what is special about the kernel
    pub title: String,
    pub base: &'static str,
    pub series: &'static str,
    pub debug: bool,
    pub kernel: String,
    pub accel: &'static str,
    pub tests: Vec<Row>,
}

impl Report {
    pub fn as_predicted(&self) -> bool {
        self.tests
            .iter()
            .all(|row| row.as_predicted || row.result.outcome == Outcome::Skipped)
            && self.tests.iter().any(|row| row.as_predicted)
    }
}

/// Adds one more run of the same list on the same kernels. What is shown of a test is the first run that was not as
/// predicted.
pub fn add(reports: &mut [Report], again: Vec<Report>) {
    for (report, again) in reports.iter_mut().zip(again) {
        for new in again.tests {
            let mut rows = report.tests.iter_mut();
            let Some(row) = rows.find(|row| row.result.name == new.result.name) else {
                continue;
            };
            if row.runs == row.runs_as_predicted && new.runs_as_predicted == 0 {
                row.result = new.result;
            }
            row.runs += new.runs;
            row.runs_as_predicted += new.runs_as_predicted;
            row.as_predicted = 10 * row.runs_as_predicted >= 9 * row.runs;
        }
    }
}

/// A VM to boot: of which kernel, the how manieth of it, and its tests.
type Job = (usize, usize, Vec<&'static Test>);

/// Runs the list on every kernel, so many VMs at a time.
pub fn run_tests(
    kernels: &[(Flavour, Machine<'_>)],
    only: &[String],
    verbose: bool,
    threads: usize,
) -> Result<Vec<Report>> {
    let mut jobs: Vec<Job> = Vec::new();
    for (kernel, (flavour, _)) in kernels.iter().enumerate() {
        let boots = boots(flavour.patched, only).into_iter().enumerate();
        jobs.extend(boots.map(|(number, tests)| (kernel, number, tests)));
    }
    // the longest first, so that no thread is left alone with it
    jobs.sort_by_key(|(_, _, tests)| Reverse(tests.len()));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((kernel, number, tests)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (flavour, machine) = &kernels[*kernel];
            done.push((
                *kernel,
                *number,
                run_boot(machine, *flavour, tests, verbose)?,
            ));
        }
        Ok(done)
    };
    let mut done = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let rows = worker
                .join()
                .unwrap_or_else(|_| Err(Error::Other("a thread of the test run panicked".into())));
            done.extend(rows?);
        }
        Ok(())
    })?;
    done.sort_by_key(|(kernel, number, _)| (*kernel, *number));
    let report = |(kernel, (flavour, machine)): (usize, &(Flavour, Machine<'_>))| Report {
        title: flavour.title(),
        base: flavour.patched.base.name(),
        series: flavour.patched.series.name(),
        debug: flavour.debug,
        kernel: machine.built.version.clone(),
        accel: machine.accel.name(),
        tests: done
            .extract_if(.., |(of, _, _)| *of == kernel)
            .flat_map(|(_, _, rows)| rows)
            .collect(),
    };
    Ok(kernels.iter().enumerate().map(report).collect())
}

/// Runs tests in one VM, or in several if some take it along.
fn run_boot(
    machine: &Machine<'_>,
    flavour: Flavour,
    boot: &[&'static Test],
    verbose: bool,
) -> Result<Vec<Row>> {
    let mut tests = Vec::new();
    let (mut left, cannot): (Vec<_>, Vec<_>) = boot
        .iter()
        .copied()
        .partition(|test| machine.built.modules || !needs_modules(test));
    for test in cannot {
        let result = TestResult {
            name: test.name.to_owned(),
            outcome: Outcome::Skipped,
            detail: "needs a kernel that the lab has built".into(),
            console: Vec::new(),
        };
        tests.push(row(test, flavour, result));
    }
    // a VM that ends takes the tests after it along: they get another one
    while !left.is_empty() {
        let names: Vec<_> = left.iter().map(|test| test.name).collect();
        let Patched { base, series, .. } = flavour.patched;
        let command = format!("exec vmtest {series} {base} {}\n", names.join(" "));
        let ended = machine.run(&command, |line| {
            if verbose {
                eprintln!("{line}");
            }
        })?;
        let done: Vec<_> = ended.console.results;
        if done.is_empty() {
            // nothing has run: it will not the next time either
            for test in left.drain(..) {
                tests.push(row(test, flavour, lost(test.name, &ended.why)));
            }
            break;
        }
        for result in done {
            if let Some(at) = left.iter().position(|test| test.name == result.name) {
                let test = left.remove(at);
                eprintln!("{}: {}: {:?}", flavour.title(), test.name, result.outcome);
                tests.push(row(test, flavour, result));
            }
        }
    }
    Ok(tests)
}

fn lost(name: &str, why: &str) -> TestResult {
    TestResult {
        name: name.to_owned(),
        outcome: Outcome::Broken,
        detail: format!("did not start: {why}"),
        console: Vec::new(),
    }
}

fn row(test: &Test, flavour: Flavour, result: TestResult) -> Row {
    let predicted = test.prediction(flavour.patched).unwrap_or(Prediction::Ok);
    Row {
        question: test.question,
        predicted,
        as_predicted: predicted.is(result.outcome),
        runs: 1,
        runs_as_predicted: predicted.is(result.outcome).into(),
        result,
    }
}

/// All tables, and the kernels side by side if there are several.
pub fn text(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        text += &table(report);
        text.push('\n');
    }
    if reports.len() > 1 {
        text += &side_by_side(reports);
    }
    text
}

pub fn json(reports: &[Report]) -> Result<String> {
    let all = serde_json::json!({ "schema": 1, "kernels": reports });
    serde_json::to_string_pretty(&all).map_err(|err| Error::Other(err.to_string()))
}

/// "predicted / outcome" of every test, one column for each kernel.
fn side_by_side(reports: &[Report]) -> String {
    let mut text = format!("{:<22}", "predicted / outcome");
    for report in reports {
        text += &format!(" {:<26}", report.title);
    }
    text.push('\n');
    for test in TESTS {
        let cells: Vec<_> = reports
            .iter()
            .map(|report| report.tests.iter().find(|row| row.result.name == test.name))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        text += &format!("{:<22}", test.name);
        for cell in cells {
            let cell = cell.map_or("-".to_owned(), |row| {
                let outcome = outcome_word(row.result.outcome);
                format!("{} / {outcome}", row.predicted.word())
            });
            text += &format!(" {cell:<26}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The table: one line for each test, and the kernel's words where they count.
fn table(report: &Report) -> String {
    let mut text = format!(
        "{}{}: Linux {}, {}\n\n",
        report.title,
        if report.debug {
            " (KASAN, lockdep, RCU checks)"
        } else {
            ""
        },
        report.kernel,
        report.accel
    );
    text += &format!(
        "{:<22} {:<16} {:<8} {}\n",
        "test", "predicted", "outcome", "seen"
    );
    for row in &report.tests {
        let outcome = outcome_word(row.result.outcome);
        let times = match row.runs {
            1 => String::new(),
            runs => format!("{} of {runs} runs as predicted: ", row.runs_as_predicted),
        };
        text += &format!(
            "{:<22} {:<16} {:<8} {times}{}{}\n",
            row.result.name,
            row.predicted.word(),
            outcome,
            if row.missed() {
                "NOT AS PREDICTED: "
            } else {
                ""
            },
            row.result.detail
        );
        let because = row.predicted.because();
        if !because.is_empty() {
            text += &format!("{:<22} because {because}\n", "");
        }
    }
    let missed = report.tests.iter().filter(|row| row.missed()).count();
    let skipped = report
        .tests
        .iter()
        .filter(|row| row.result.outcome == Outcome::Skipped)
        .count();
    text += &format!(
        "\n{} tests, {} not as predicted, {} skipped\n",
        report.tests.len(),
        missed,
        skipped
    );
    for row in report
        .tests
        .iter()
        .filter(|row| row.missed() && !row.result.console.is_empty())
    {
        text += &format!("\nconsole of {}:\n", row.result.name);
        for line in &row.result.console {
            text += &format!("    {line}\n");
        }
    }
    text
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Wrong => "wrong",
        Outcome::Broken => "broken",
        Outcome::Skipped => "skipped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Part;
    use crate::series::{Base, Series};

    fn result(name: &str, outcome: Outcome) -> TestResult {
        TestResult {
            name: name.into(),
            outcome,
            detail: "what was seen".into(),
            console: vec!["BUG: KASAN: use-after-free".into()],
        }
    }

    #[test]
    fn a_missed_prediction_shows_in_table_and_verdict() {
        let flavour = Flavour {
            patched: Patched {
                base: Base::V6_12,
                series: Series::LinkOwned,
                part: Part::Whole,
            },
            debug: false,
            clang: false,
        };
        let test = &TESTS[0];
        let report = Report {
            title: flavour.title(),
            base: "6.12",
            series: "link-owned",
            debug: false,
            kernel: "6.12.0".into(),
            accel: "tcg",
            tests: vec![row(test, flavour, result(test.name, Outcome::Broken))],
        };
        assert!(!report.as_predicted());
        let mut reports = [report];
        let good = |report: &Report| Report {
            title: report.title.clone(),
            kernel: report.kernel.clone(),
            tests: vec![row(test, flavour, result(test.name, Outcome::Ok))],
            ..*report
        };
        let again: Vec<Report> = (1..10).map(|_| good(&reports[0])).collect();
        for one in again {
            add(&mut reports, vec![one]);
        }
        assert!(reports[0].as_predicted());
        let once = table(&reports[0]);
        assert!(
            once.contains("9 of 10 runs as predicted: what was seen"),
            "{once}"
        );
        let report = Report {
            tests: vec![row(test, flavour, result(test.name, Outcome::Broken))],
            ..good(&reports[0])
        };
        let text = table(&report);
        assert!(text.contains("NOT AS PREDICTED") && text.contains("KASAN"));
        let reports = [report];
        let json: serde_json::Value = serde_json::from_str(&json(&reports).unwrap()).unwrap();
        let row = &json["kernels"][0]["tests"][0];
        assert_eq!(row["outcome"], "broken");
        assert_eq!(row["as_predicted"], false);
        assert_eq!(row["predicted"]["kind"], "ok");
        assert!(side_by_side(&reports).contains("ok / broken"));
    }
}
