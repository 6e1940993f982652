//! Shipped scenarios, for tests.

use std::fs;
use std::path::PathBuf;

use struct_ops_sim::scenario::Scenario;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The shipped scenario of that name.
pub fn scenario(name: &str) -> Scenario {
    let path = folder().join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Scenario::parse(name, &path.display().to_string(), &text).unwrap_or_else(|e| panic!("{e}"))
}

/// Every shipped scenario, by name.
#[allow(dead_code)]
pub fn all() -> Vec<Scenario> {
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
    names.iter().map(|name| scenario(name)).collect()
}
