//! Every invariant catches a broken twin: exploring a scenario under a design that has the mistake finds it.
//!
//! A check that can never fail would pass every other test. Not here: whether the shipped designs break it.

mod common;

use struct_ops_model::{Design, Invariant};
use struct_ops_sim::engine::{Options, explore};
use struct_ops_sim::explore::{Explored, Reductions};

/// Invariant, broken design, scenario.
const TWINS: [(Invariant, &str, &str); 13] = [
    (Invariant::SingleLinkPerMap, "mainline", "two-links-always"),
    (Invariant::CookieFidelity, "rfc", "two-links-tcp"),
    (Invariant::NoUseAfterFree, "rfc", "two-links-tcp"),
    (Invariant::NoLeak, "rfc", "two-links-always"),
    (
        Invariant::TextImmutable,
        "mainline,twin=write-protected",
        "straight-path",
    ),
    (Invariant::NoTornPublish, "rfc", "two-links-tcp"),
    (Invariant::FailureAtomic, "rfc", "two-links-tcp"),
    (
        Invariant::RefcountsBalance,
        "link-owned,twin=extra-put",
        "straight-path",
    ),
    (Invariant::ErrnoContract, "rfc", "failing-validate"),
    (Invariant::KsymsMatchImages, "rfc", "two-links-tcp"),
    (Invariant::NoDeadlock, "mainline", "update-to-same-map"),
    (
        Invariant::EventualRelease,
        "mainline,twin=lost-callback",
        "straight-path",
    ),
    (
        Invariant::NoForeignUnreg,
        "link-owned,twin=foreign-unreg",
        "two-links-always",
    ),
];

#[test]
fn every_invariant_catches_its_broken_twin() {
    let mut missed = String::new();
    for (invariant, design, scenario) in TWINS {
        let world = common::scenario(scenario).world;
        let design_parsed = Design::parse(design).unwrap();
        let explored = Explored::new(world, design_parsed, Reductions::ALL).unwrap();
        let outcome = explore(
            &explored,
            &Options {
                threads: 2,
                ..Options::default()
            },
            &mut |_| (),
        );
        let found: Vec<_> = outcome
            .violations
            .iter()
            .map(|f| Invariant::ALL[usize::from(f.violation.invariant)].id())
            .collect();
        if !found.contains(&invariant.id()) {
            missed += &format!(
                "{} under {design} in {scenario}: found only {found:?}\n",
                invariant.id()
            );
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[test]
fn no_invariant_is_without_twin() {
    // The twins of those about lookups are in `reach.rs`.
    for invariant in Invariant::ALL.iter().filter(|i| !i.of_lookups()) {
        assert!(
            TWINS.iter().any(|t| t.0 == *invariant),
            "{} has no twin",
            invariant.id()
        );
    }
}
