//! The JSON Schemas in `docs/src/schema/` are made from the types, and what each verb prints is valid under them.
//! `SCHEMAS=overwrite cargo test` writes them anew.

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::path::PathBuf;

use program::{json, ran};
use serde_json::Value;
use struct_ops_sim::report::json::{SCHEMA, VERSION, schemas};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/schema")
}

#[test]
fn files_are_what_the_types_say() {
    let overwrite = std::env::var_os("SCHEMAS").is_some_and(|v| v == "overwrite");
    let mut names = Vec::new();
    for (name, schema) in schemas() {
        let path = directory().join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if overwrite {
            fs::create_dir_all(directory()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{} is not what the types say: `SCHEMAS=overwrite cargo test -p struct-ops-sim --test schema`",
            path.display()
        );
        names.push(format!("{name}.json"));
    }
    for file in fs::read_dir(directory()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} is no schema of anything");
    }
}

#[test]
fn schemas_are_in_the_book() {
    let page = fs::read_to_string(directory().join("../results.md")).unwrap();
    for (name, _) in schemas() {
        let link = format!("(schema/{name}.json)");
        assert!(page.contains(&link), "results.md has no link {link}");
    }
}

/// Additions are allowed to programs that read, not to this test: what is not in the schema is refused.
fn closed(schema: &mut Value, part: bool) {
    match schema {
        Value::Object(object) => {
            let whole = object.contains_key("properties");
            if whole && !part {
                object.insert("unevaluatedProperties".into(), Value::Bool(false));
            }
            for (key, value) in object {
                // Alternatives beside properties are parts of the same object.
                let alternative = ["allOf", "anyOf", "oneOf"].contains(&key.as_str());
                match value {
                    Value::Array(items) if alternative => {
                        items.iter_mut().for_each(|item| closed(item, whole));
                    }
                    _ => closed(value, false),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| closed(item, false)),
        _ => {}
    }
}

/// What is wrong with a document.
fn mistakes(name: &str, document: &Value) -> Vec<String> {
    let (_, schema) = schemas().into_iter().find(|s| s.0 == name).unwrap();
    let mut schema = schema.to_value();
    closed(&mut schema, false);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator
        .iter_errors(document)
        .map(|e| format!("{}: {:.300}", e.instance_path(), e.to_string()))
        .collect()
}

fn valid(name: &str, document: &Value) {
    let mistakes = mistakes(name, document);
    assert!(mistakes.is_empty(), "{name}: {}", mistakes.join("\n"));
}

/// Runs a verb; checks what every document has.
fn document(name: &str, args: &[&str], exit: i32) -> Value {
    let ran = ran(args);
    assert_eq!(ran.exit, exit, "{args:?}: {}", ran.stderr);
    let document = json(&ran.stdout);
    valid(name, &document);
    assert_eq!(document["schema"], SCHEMA);
    assert_eq!(document["tool"], "struct-ops-sim");
    assert_eq!(document["version"], VERSION);
    assert_eq!(document["verb"], name);
    assert_eq!(document["exit"], exit);
    document
}

#[test]
fn every_verb_prints_what_its_schema_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let traces = file("traces");
    let two = "tests/scenarios/two-links.toml";
    let args = ["--scenario", two, "--design", "rfc", "--design", "mainline"];
    let check = |more: &[&str], exit| {
        let args = [&["check", "--quiet", "--format", "json"], &args[..], more].concat();
        document("check", &args, exit)
    };
    let whole = check(&["--save-traces", &traces], 0);
    let run = &whole["runs"][0];
    assert_eq!(run["incomplete"], Value::Null);
    let judged = |run: &Value, id: &str| {
        let verdicts = run["verdicts"].as_array().unwrap();
        verdicts
            .iter()
            .find(|v| v["invariant"] == id)
            .unwrap()
            .clone()
    };
    let fidelity = judged(run, "cookie-fidelity");
    assert_eq!(fidelity["verdict"], "violated");
    assert!(fidelity["exercised"].as_u64().unwrap() > 0);
    let trace = fidelity["counterexamples"][0]["trace"].as_array().unwrap();
    let last = trace.last().unwrap();
    assert_eq!(last["broke"][0], "cookie-fidelity");
    for step in trace {
        assert_ne!(step["event"], "", "{step}");
    }
    assert!(trace.iter().any(|s| s["changes"][0]["change"] == "made"));
    let bounded = check(&["--max-states", "10"], 2);
    assert_eq!(bounded["runs"][0]["incomplete"]["bound"], "max-states");
    assert_eq!(
        judged(&bounded["runs"][1], "no-leak")["verdict"],
        "incomplete"
    );
    check(&["--fail-on", "violation"], 1);
    document(
        "check",
        &[
            "check",
            "--quiet",
            "--format",
            "json",
            "--scenario",
            "tests/scenarios/wrong-verdict.toml",
        ],
        1,
    );
    document(
        "check",
        &[
            "check",
            "--quiet",
            "--format",
            "json",
            "--scenario",
            "forgotten-cookie",
            "--design",
            "rfc",
        ],
        0,
    );

    for (scenario, exit) in [
        ("two-links-first", 3),
        ("two-links-first-wrong", 1),
        ("other-process", 0),
    ] {
        let file = format!("tests/scenarios/{scenario}.toml");
        let args = ["check", "--quiet", "--format", "json", "--scenario", &file];
        document("check", &args, exit);
    }

    let compare = [
        "compare",
        "rfc",
        "link-owned",
        "--quiet",
        "--format",
        "json",
    ];
    let compared = document("compare", &[&compare[..], &["--scenario", two]].concat(), 0);
    let difference = &compared["scenarios"][0]["differences"][0];
    assert_eq!(difference["broken_by"], "rfc");
    assert!(!difference["beside"].as_array().unwrap().is_empty());

    let lines = ran(&[&["check", "--quiet", "--format", "json-lines"], &args[..]].concat());
    for line in lines.stdout.lines() {
        valid("check-lines", &json(line));
    }
    assert_eq!(lines.stdout.lines().count(), 4);

    let saved = file("shard.json");
    fs::write(&saved, &lines.stdout).unwrap();
    document("merge", &["merge", &saved, "--format", "json"], 0);

    let one = file("run.json");
    let run = document("run", &["run", two, "--save", &one, "--format", "json"], 0);
    assert!(!run["exercised"].as_object().unwrap().is_empty());
    document(
        "run",
        &[
            "run", two, "--seed", "3", "--design", "rfc", "--format", "json",
        ],
        0,
    );
    for trace in fs::read_dir(&traces).unwrap() {
        let trace = trace.unwrap().path().display().to_string();
        valid("trace", &json(&fs::read_to_string(&trace).unwrap()));
        let replayed = document("replay", &["replay", &trace, "--format", "json"], 0);
        assert_eq!(replayed["as_recorded"], true);
    }
    valid("trace", &json(&fs::read_to_string(&one).unwrap()));

    let random = [
        "random",
        "--seeds",
        "0..20",
        "--scenario",
        two,
        "--design",
        "rfc",
        "--format",
        "json",
    ];
    let random = document("random", &random, 0);
    assert!(!random["runs"][0]["findings"].as_array().unwrap().is_empty());
    assert!(
        !random["runs"][0]["exercised"]
            .as_object()
            .unwrap()
            .is_empty()
    );
    document(
        "random",
        &[
            "random",
            "--seeds",
            "0..1",
            "--design",
            "link-owned",
            "--format",
            "json",
        ],
        0,
    );

    let cell = file("cell.json");
    let args = ["--design", "rfc", "--program", "fentry", "--save", &cell];
    document(
        "reach",
        &[&["reach", "--format", "json"], &args[..]].concat(),
        0,
    );
    valid("trace", &json(&fs::read_to_string(&cell).unwrap()));
    document("replay", &["replay", &cell, "--format", "json"], 0);

    document("cost", &["cost", "--kernel", "7.3", "--format", "json"], 0);
    document(
        "cost",
        &[
            "cost",
            "--kernel",
            "7.3",
            "--disassemble",
            "ssthresh",
            "--cookie",
            "17",
            "--format",
            "json",
        ],
        0,
    );
    document("list", &["list", "--format", "json"], 0);
    document("list", &["list", "steps", "--format", "json"], 0);
    document(
        "explain",
        &["explain", "cookie-fidelity", "--format", "json"],
        0,
    );
    if cfg!(all(target_arch = "x86_64", unix)) {
        let stress = [
            "stress",
            "--seconds",
            "1",
            "--design",
            "rfc",
            "--format",
            "json",
        ];
        let stress = document("stress", &stress, 0);
        assert!(stress["explained"].as_u64().unwrap() > 0);
        assert!(!stress["exercised"].as_object().unwrap().is_empty());
    }
}

/// The test before this one can fail.
#[test]
fn what_is_not_in_a_schema_is_seen() {
    let ran = ran(&["explain", "rfc", "--format", "json"]);
    let good = json(&ran.stdout);
    assert_eq!(mistakes("explain", &good), [""; 0]);
    for (name, value) in [
        ("more", Value::Bool(true)),
        ("verb", "list".into()),
        ("schema", 1.into()),
        ("exit", "0".into()),
        ("text", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert_ne!(mistakes("explain", &bad), [""; 0], "{name}");
    }
}
