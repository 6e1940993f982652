//! Scenario files become part of the binary: a new or changed one must build it anew.

fn main() {
    println!("cargo::rerun-if-changed=scenarios");
}
