//! Shipped scenarios, for tests.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;

use struct_ops_model::kernel::Cpu;
use struct_ops_model::pack::Packing;
use struct_ops_model::world::OpKind;
use struct_ops_model::{Machine, Pc, Report};
use struct_ops_sim::scenario::{Case, Scenario};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The shipped scenario of that name.
pub fn case(name: &str) -> Case {
    let path = folder().join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Case::parse(name, &path.display().to_string(), &text).unwrap_or_else(|e| panic!("{e}"))
}

/// The shipped scenario of that name, about the attach path.
#[allow(dead_code)]
pub fn scenario(name: &str) -> Scenario {
    match case(name) {
        Case::Attach(scenario) => *scenario,
        Case::Reach(_) => panic!("{name} is about lookups"),
    }
}

/// Every shipped scenario about the attach path, by name.
#[allow(dead_code)]
pub fn all() -> Vec<Scenario> {
    let attach = |case| match case {
        Case::Attach(scenario) => Some(*scenario),
        Case::Reach(_) => None,
    };
    cases().into_iter().filter_map(attach).collect()
}

/// Every shipped scenario, by name.
#[allow(dead_code)]
pub fn cases() -> Vec<Case> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("the scenarios are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| {
            path.file_stem()
                .expect("a file")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names.iter().map(|name| case(name)).collect()
}

/// Every result that operations of this kind have in some run.
#[allow(dead_code)]
pub fn results(machine: &Machine, kind: OpKind) -> BTreeSet<i8> {
    let packing = Packing::new(&machine.world, false);
    let mut seen = HashSet::new();
    let mut todo = vec![machine.initial()];
    let mut results = BTreeSet::new();
    while let Some(k) = todo.pop() {
        let mut packed = Vec::new();
        packing.pack(&k, &mut packed);
        if !seen.insert(packed) {
            continue;
        }
        let over = |c: &&Cpu| c.op == kind && c.pc == Pc::Finish;
        results.extend(k.cpus.iter().filter(over).map(|c| c.err));
        let mut actions = Vec::new();
        machine.enabled(&k, &mut actions);
        for action in actions {
            let mut next = k;
            machine.apply(&mut next, action, &mut Report::default(), None);
            todo.push(next);
        }
    }
    results
}
