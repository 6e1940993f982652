//! Every invariant catches a broken twin: exploring a scenario under a design that has the mistake finds it.
//!
//! A check that can never fail would pass every other test. Not here: whether the shipped designs break it.

mod common;

use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;

/// Invariant, broken design, scenario, the step at which the shortest run is caught.
const TWINS: [(Invariant, &str, &str, &str); 17] = [
    (
        Invariant::SingleLinkPerMap,
        "mainline",
        "two-links-always",
        "AlwaysReg",
    ),
    (
        Invariant::CookieFidelity,
        "rfc",
        "two-links-tcp",
        "CallBody",
    ),
    (
        Invariant::NoUseAfterFree,
        "rfc",
        "two-links-tcp",
        "CallEnter",
    ),
    (
        Invariant::NoUseAfterFree,
        "mainline,twin=by-id-of-zero",
        "link-by-id",
        "LinkNewFd",
    ),
    (Invariant::NoLeak, "rfc", "two-links-always", "the end"),
    (
        Invariant::TextImmutable,
        "mainline,twin=write-protected",
        "straight-path",
        "UpdMembers",
    ),
    (Invariant::NoTornPublish, "rfc", "two-links-tcp", "CallRead"),
    (Invariant::FailureAtomic, "rfc", "two-links-tcp", "Finish"),
    (
        Invariant::RefcountsBalance,
        "link-owned,twin=extra-put",
        "straight-path",
        "MapPut",
    ),
    (
        Invariant::ErrnoContract,
        "rfc",
        "failing-validate",
        "Finish",
    ),
    (
        Invariant::KsymsMatchImages,
        "rfc",
        "two-links-tcp",
        "LcRegDone",
    ),
    (
        Invariant::NoDeadlock,
        "mainline",
        "update-to-same-map",
        "SockFind",
    ),
    (
        Invariant::EventualRelease,
        "mainline,twin=lost-callback",
        "straight-path",
        "the end",
    ),
    (
        Invariant::NoForeignUnreg,
        "link-owned,twin=foreign-unreg",
        "two-links-always",
        "AlwaysUnreg",
    ),
    (
        Invariant::RefusalsKept,
        "mainline,twin=forgotten-struct",
        "hid-map-twice",
        "Script",
    ),
    (
        Invariant::AssocFidelity,
        "association,assoc-share=overwrite",
        "assoc-shared-program",
        "AssocGet",
    ),
    (
        Invariant::LockOrder,
        "mainline,twin=lock-order",
        "two-links-singleton",
        "SingletonCallDone",
    ),
];

#[test]
fn every_invariant_catches_its_broken_twin() {
    let settings = Settings {
        threads: 2,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let mut missed = String::new();
    for (invariant, design, scenario, step) in TWINS {
        let scenario = common::scenario(scenario);
        let parsed = Design::parse(design).unwrap();
        let run = check(&scenario, &parsed, &settings, &UNBOUNDED, &mut |_| ()).unwrap();
        let found = run.shortest(invariant);
        let at = found.map(|f| f.place.map_or("the end", |p| p.0));
        if at != Some(step) {
            missed += &format!(
                "{} under {design} in {}: {at:?}, not {step}\n",
                invariant.id(),
                scenario.head.name
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
