//! The recipes of `docs/src/campaigns.md`: the YAML is YAML, and the command lines, run with the environment that the
//! services would give them, come to what the unsharded check says. The services themselves are not here.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

const PAGE: &str = include_str!("../../docs/src/campaigns.md");

/// What is checked here; `--threads` because memory per state is printed and depends on it.
const CHECK: &str = "--quiet --threads 1 --scenario two-links-tcp --scenario forgotten-cookie --design rfc \
                     --design mainline --design link-owned";
const SHARDS: i64 = 3;

/// The blocks of one language, in the order of the page.
fn blocks(language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let parts = PAGE.split(begin.as_str()).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_string())
        .collect()
}

fn yaml(index: usize) -> Yaml {
    let text = &blocks("yaml")[index];
    let documents = YamlLoader::load_from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let [document] = documents.as_slice() else {
        panic!("one document: {text}");
    };
    document.clone()
}

type Environment = BTreeMap<String, String>;

/// Runs a command line in a folder, with the program in `PATH`, and returns what it printed.
fn shell(shell: &[&str], script: &str, folder: &Path, environment: &Environment) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_struct-ops-sim"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(script)
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("COLUMNS")
        .envs(environment)
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What all shards together have to say.
fn whole() -> String {
    let folder = tempfile::tempdir().unwrap();
    let check = format!("struct-ops-sim check {CHECK}");
    shell(&["sh", "-c"], &check, folder.path(), &Environment::new())
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let pairs = pairs.iter();
    pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn a_github_matrix() {
    let workflow = yaml(0);
    let folder = tempfile::tempdir().unwrap();
    let job = &workflow["jobs"]["shard"];
    let matrix = job["strategy"]["matrix"]["shard"].as_vec().unwrap();
    assert_eq!(matrix.len() as i64, SHARDS);
    let runs = |job: &Yaml| -> Vec<String> {
        let steps = job["steps"].as_vec().unwrap().iter();
        let runs = steps.filter_map(|s| s["run"].as_str());
        // Building is no part of this test.
        let runs = runs.filter(|run| !run.starts_with("cargo install"));
        runs.map(Into::into).collect()
    };
    for shard in matrix {
        let mut variables = Environment::new();
        for (name, value) in job["env"].as_hash().unwrap() {
            let value = match value.as_str().unwrap() {
                "${{ matrix.shard }}" => shard.as_i64().unwrap().to_string(),
                "${{ strategy.job-total }}" => matrix.len().to_string(),
                plain => {
                    assert!(!plain.contains("${{"), "{plain}");
                    plain.to_string()
                }
            };
            variables.insert(name.as_str().unwrap().into(), value);
        }
        assert!(variables.insert("CHECK".into(), CHECK.into()).is_some());
        let steps = runs(job);
        assert_eq!(steps.len(), 1);
        for script in steps {
            shell(&["bash", "-e", "-c"], &script, folder.path(), &variables);
        }
    }
    let merge = &workflow["jobs"]["merge"];
    assert_eq!(merge["needs"].as_str(), Some("shard"));
    let printed: Vec<String> = runs(merge)
        .iter()
        .map(|script| {
            shell(
                &["bash", "-e", "-c"],
                script,
                folder.path(),
                &Environment::new(),
            )
        })
        .collect();
    assert_eq!(printed.last(), Some(&whole()));
    let junit = std::fs::read_to_string(folder.path().join("results.xml")).unwrap();
    assert!(junit.contains("<testsuites "), "{junit}");
}

#[test]
fn a_kubernetes_indexed_job() {
    let job = yaml(1);
    let folder = tempfile::tempdir().unwrap();
    let spec = &job["spec"];
    assert_eq!(spec["completionMode"].as_str(), Some("Indexed"));
    assert_eq!(spec["completions"].as_i64(), Some(SHARDS));
    let container = &spec["template"]["spec"]["containers"][0];
    let mut variables = Environment::new();
    for variable in container["env"].as_vec().unwrap() {
        let text = |key: &str| variable[key].as_str().unwrap().to_string();
        variables.insert(text("name"), text("value"));
    }
    assert_eq!(variables["SHARDS"], SHARDS.to_string());
    assert_eq!(
        Some(variables["RESULTS"].as_str()),
        container["volumeMounts"][0]["mountPath"].as_str()
    );
    let results = folder.path().display().to_string();
    assert!(variables.insert("RESULTS".into(), results).is_some());
    assert!(variables.insert("CHECK".into(), CHECK.into()).is_some());
    let command = container["command"].as_vec().unwrap().iter();
    let command: Vec<&str> = command.map(|c| c.as_str().unwrap()).collect();
    let [script] = container["args"].as_vec().unwrap().as_slice() else {
        panic!("one script");
    };
    let elsewhere = tempfile::tempdir().unwrap();
    for index in 0..SHARDS {
        variables.insert("JOB_COMPLETION_INDEX".into(), index.to_string());
        let script = script.as_str().unwrap();
        shell(&command, script, elsewhere.path(), &variables);
    }
    let merge = blocks("sh");
    let merge = merge.iter().find(|b| b.contains("\"$RESULTS\"/")).unwrap();
    let printed = shell(&["sh", "-c"], merge, elsewhere.path(), &variables);
    assert_eq!(printed, whole());
}

#[test]
fn a_slurm_array() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = blocks("sh");
    let script = blocks
        .iter()
        .find(|b| b.starts_with("#!/bin/sh\n#SBATCH"))
        .unwrap();
    assert!(script.contains(&format!("#SBATCH --array=1-{SHARDS}\n")));
    for id in 1..=SHARDS {
        let mut variables = environment(&[("CHECK", CHECK), ("SLURM_CPUS_PER_TASK", "1")]);
        // The script names the threads, and so does what is checked here.
        variables.insert("CHECK".into(), CHECK.replace("--threads 1 ", ""));
        variables.insert("SLURM_ARRAY_TASK_ID".into(), id.to_string());
        variables.insert("SLURM_ARRAY_TASK_COUNT".into(), SHARDS.to_string());
        shell(&["sh", "-c"], script, folder.path(), &variables);
    }
    let wrap = blocks.iter().find(|b| b.contains("--wrap")).unwrap();
    let merge = wrap.split("--wrap '").nth(1).unwrap();
    let merge = merge.split('\'').next().unwrap();
    let printed = shell(&["sh", "-c"], merge, folder.path(), &Environment::new());
    assert_eq!(printed, whole());
}
