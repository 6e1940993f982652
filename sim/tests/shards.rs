//! `check --shard` and `merge`: the parts together are the whole, in every format, and what does not belong together is
//! refused.

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::path::PathBuf;

use program::{Ran, json, ran};
use serde_json::Value;

/// Scenarios of both kinds: one with a verdict that is not the expected one, one whose set-up fails under a design, one
/// in which operations never meet their object.
const SMALL: [&str; 12] = [
    "--scenario",
    "tests/scenarios/two-links.toml",
    "--scenario",
    "tests/scenarios/wrong-verdict.toml",
    "--scenario",
    "forgotten-cookie",
    "--scenario",
    "tests/scenarios/two-links-first-expected.toml",
    "--scenario",
    "tests/scenarios/other-process.toml",
    "--threads",
    "1",
];

fn check(more: &[&str]) -> Ran {
    ran(&[&["check", "--quiet"], &SMALL[..], more].concat())
}

fn merge(files: &[String], format: &str) -> Ran {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    ran(&[&["merge", "--format", format], &files[..]].concat())
}

/// A folder of results.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The files of all shards of a check.
    fn shards(&self, of: u32, more: &[&str], format: &str) -> Vec<String> {
        let shard = |index| {
            let shard = format!("{index}/{of}");
            let ran = check(&[more, &["--shard", &shard, "--format", format]].concat());
            assert!([0, 1, 2].contains(&ran.exit), "{}", ran.stderr);
            self.write(
                &format!("{index}-of-{of}{}.{format}", more.join("")),
                &ran.stdout,
            )
        };
        (1..=of).map(shard).collect()
    }
}

/// What time does not change.
fn without_time(format: &str, text: &str) -> String {
    match format {
        "json" => {
            let mut document = json(text);
            document["verb"].take();
            for run in document["runs"].as_array_mut().unwrap() {
                run["seconds"].take();
            }
            document.to_string()
        }
        "junit" => {
            let parts = text.split(" time=\"");
            let rest = |(i, part): (usize, &str)| match i {
                0 => part.to_string(),
                _ => part.split_once('"').unwrap().1.to_string(),
            };
            parts.enumerate().map(rest).collect()
        }
        _ => text.to_string(),
    }
}

#[test]
fn the_parts_are_the_whole() {
    let folder = Folder::new();
    for (more, exit) in [
        (&[][..], 1),
        (&["--fail-on", "violation"], 1),
        (&["--invariant", "cookie-fidelity"], 0),
        (&["--invariant", "cookie-fidelity", "--max-states", "50"], 2),
        (&["--design", "rfc", "--invariant", "cookie-fidelity"], 0),
    ] {
        let files = folder.shards(3, more, "json");
        for format in ["text", "json", "junit"] {
            let whole = check(&[more, &["--format", format]].concat());
            let merged = merge(&files, format);
            assert_eq!(whole.exit, exit, "{more:?}");
            assert_eq!(merged.exit, exit, "{more:?}");
            assert_eq!(
                without_time(format, &merged.stdout),
                without_time(format, &whole.stdout),
                "{more:?}"
            );
        }
    }
}

/// Set-ups that fail and operations without an object are told of the whole, whichever part has seen what.
#[test]
fn what_did_not_happen_is_told_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = [
        "tests/scenarios/other-process.toml",
        "tests/scenarios/two-links-first.toml",
        "tests/scenarios/two-links-first-wrong.toml",
    ];
    let ran = |more: &[&str]| {
        let mut args = vec!["check", "--quiet", "--invariant", "no-leak"];
        args.extend(scenarios.iter().flat_map(|s| ["--scenario", s]));
        ran(&[&args[..], more].concat())
    };
    let file = |index: u32| {
        let part = ran(&["--format", "json", "--shard", &format!("{index}/3")]);
        let document = json(&part.stdout);
        // Other parts may have seen what this one has not.
        assert_eq!(document["warnings"], Value::Array(Vec::new()));
        let path = folder.path().join(format!("{index}.json"));
        fs::write(&path, part.stdout).unwrap();
        path.display().to_string()
    };
    let files: Vec<String> = (1..=3).map(file).collect();
    for format in ["text", "json", "junit"] {
        let whole = ran(&["--format", format]);
        let merged = merge(&files, format);
        assert_eq!((whole.exit, merged.exit), (1, 1));
        if format == "junit" {
            // One surprises, two are not as expected.
            assert_eq!(whole.stdout.matches("name=\"set-up\"").count(), 3);
        }
        assert_eq!(merged.stderr, whole.stderr);
        assert_eq!(
            without_time(format, &merged.stdout),
            without_time(format, &whole.stdout)
        );
    }
    let document = json(&ran(&["--format", "json"]).stdout);
    let of = |key: &str, fields: &[&str]| -> Vec<String> {
        let list = document[key].as_array().unwrap().iter();
        list.map(|v| {
            fields
                .iter()
                .map(|f| v[f].to_string() + " ")
                .collect::<String>()
        })
        .map(|line| line.replace('"', ""))
        .collect()
    };
    assert_eq!(
        of("set_up_fails", &["scenario", "design", "expected", "why"]),
        [
            "two-links-first rfc-one-link false set-up operation 4, `link_create m1 as l2`: it returned -EBUSY ",
            "two-links-first-wrong rfc-one-link false set-up operation 4, `link_create m1 as l2`: it returned -EBUSY ",
        ]
    );
    assert_eq!(
        of("warnings", &["scenario", "actor", "position", "operation"]),
        [
            "other-process cpu1 1 link_create m1 as l1 ",
            "other-process cpu1 2 call 0 test_1 ",
            "other-process cpu1 3 link_close l1 ",
            "other-process cpu2 1 link_pin ",
            "other-process cpu3 2 map_lookup m1 ",
        ]
    );
}

#[test]
fn any_number_of_parts_in_any_order_and_form() {
    let folder = Folder::new();
    let whole = check(&[]).stdout;
    for of in [1, 2, 5, 40] {
        let format = if of == 2 { "json" } else { "json-lines" };
        let mut files = folder.shards(of, &[], format);
        files.reverse();
        assert_eq!(merge(&files, "text").stdout, whole, "{of}");
    }
    // One whole result is printed in another format.
    let file = folder.write("whole.json", &check(&["--format", "json"]).stdout);
    assert_eq!(merge(&[file], "text").stdout, whole);
}

#[test]
fn what_a_killed_shard_has_written_is_kept() {
    let folder = Folder::new();
    let mut files = folder.shards(2, &[], "json-lines");
    let text = fs::read_to_string(&files[0]).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (runs, half) = (lines.len() - 2, lines[2].len() / 2);
    // One run was whole, the next line was being written.
    let killed = [lines[0], lines[1], &lines[2][..half]].join("\n");
    files[0] = folder.write("killed.json-lines", &killed);
    let merged = merge(&files, "json");
    let document = json(&merged.stdout);
    assert_eq!(document["skipped"].as_array().unwrap().len(), runs - 1);
    let text = merge(&files, "text");
    let message = format!("incomplete: {} runs not explored at all", runs - 1);
    assert!(text.stdout.contains(&message), "{}", text.stdout);
    assert!([1, 2].contains(&text.exit));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = Folder::new();
    let parts = folder.shards(3, &[], "json");
    let [one, two, three] = parts.as_slice() else {
        panic!("three shards");
    };
    let text = fs::read_to_string(one).unwrap();
    let changed = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut document = json(&text);
        change(&mut document);
        folder.write(name, &document.to_string())
    };
    let bounded = folder.shards(3, &["--max-states", "7"], "json").remove(1);
    let seven = folder.shards(7, &[], "json").remove(1);
    let whole = folder.write("whole.json", &check(&["--format", "json"]).stdout);
    let version = changed("version.json", &|d| d["version"] = "0.0.1".into());
    let schema = changed("schema.json", &|d| d["schema"] = 1.into());
    let tool = changed("tool.json", &|d| d["tool"] = "another".into());
    let verb = changed("verb.json", &|d| d["verb"] = "random".into());
    let shard = changed("shard.json", &|d| d["asked"]["shard"]["index"] = 9.into());
    let other = changed("other.json", &|d| {
        d["scenarios"][0]["toml"] = "title = \"x\"".into();
    });
    let twice = changed("twice.json", &|d| {
        let runs = d["runs"].as_array_mut().unwrap();
        runs.push(runs[0].clone());
    });
    let foreign = changed("foreign.json", &|d| {
        let runs = json(&fs::read_to_string(two).unwrap());
        d["runs"] = runs["runs"].clone();
    });
    let action = changed("action.json", &|d| {
        let runs = d["runs"].as_array_mut().unwrap();
        let broken = runs
            .iter_mut()
            .flat_map(|r| r["verdicts"].as_array_mut().unwrap())
            .find(|v| v["verdict"] == "violated")
            .unwrap();
        broken["counterexamples"][0]["trace"][0]["action"] = "cpu0 leap".into();
    });
    let steps = |name: &str, change: &dyn Fn(&mut Value)| {
        changed(name, &|d| {
            let runs = d["runs"].as_array_mut().unwrap();
            let mut verdicts = runs
                .iter_mut()
                .flat_map(|r| r["verdicts"].as_array_mut().unwrap());
            let broken = verdicts.find(|v| v["verdict"] == "violated").unwrap();
            change(&mut broken["counterexamples"][0]);
        })
    };
    let order = steps("order.json", &|c| {
        c["trace"].as_array_mut().unwrap().reverse()
    });
    let shorter = steps("shorter.json", &|c| {
        c["trace"].as_array_mut().unwrap().pop();
    });
    let many = changed("many.json", &|d| d["runs"][0]["states"] = u64::MAX.into());
    let word = changed("word.json", &|d| d["runs"][0]["states"] = "many".into());
    let half = folder.write("half.json", &text[..text.len() / 2]);
    let more = folder.write("more.json", &format!("{text}{text}"));
    let nothing = folder.write("nothing.json", "");
    let words = folder.write("words.json", "over 3 scenarios\n");
    let explain = ran(&["explain", "rfc", "--format", "json"]).stdout;
    let explain = folder.write("explain.json", &explain);
    for (files, message) in [
        (vec![one, two], "merge: shard 3/3 is missing"),
        (vec![two], "merge: shards 1/3, 3/3 are missing"),
        (vec![one, two, three, two], "this is shard 2/3, and so is"),
        (
            vec![one, &bounded, three],
            "`max_states` is 7 here, null there",
        ),
        (vec![one, &seven, three], "this is shard 2/7, and"),
        (vec![one, &whole], "this is no shard but a whole check"),
        (vec![&whole, &whole], "this is no shard but a whole check"),
        (
            vec![&version, two, three],
            "written by struct-ops-sim 0.0.1",
        ),
        (vec![one, two, &schema], "schema 1, and this is"),
        (vec![&tool], "a document of `another`"),
        (vec![&verb], "the result of `random`"),
        (vec![&explain], "the result of `explain`"),
        (vec![&shard, two, three], "expected 1/3 to 3/3"),
        (
            vec![two, three, &other],
            "scenario two-links is one here, another one there",
        ),
        (vec![&twice, two, three], "is in it twice"),
        (vec![&foreign, two, three], "was not this run's to explore"),
        (vec![&action, two, three], "`cpu0 leap` is no action"),
        (vec![&order, two, three], "of a trace cannot be taken"),
        (vec![&shorter, two, three], "a trace does not break"),
        (vec![&many, two, three], "more than can have been counted"),
        (
            vec![&word],
            "not what `check` prints: found string \"many\", expected a whole number",
        ),
        (vec![&half], "the file ends too early"),
        (vec![&more], "there is more behind the end"),
        (vec![&nothing], "not a result of `check --format json`"),
        (vec![&words], "not a result of `check --format json`"),
    ] {
        let files: Vec<String> = files.into_iter().cloned().collect();
        let merged = merge(&files, "json");
        assert_eq!(merged.exit, 3, "{message}: {}", merged.stderr);
        assert_eq!(merged.stdout, "");
        assert!(
            merged.stderr.contains(message),
            "expected {message}, found {}",
            merged.stderr
        );
    }
}
