//! Exact counts of a few scenarios: whoever changes a step, the packing or a reduction sees it here.
//!
//! A count says nothing about right or wrong. When the model changes on purpose, so do these numbers.

mod common;

use std::fmt::Write;

use struct_ops_model::Design;
use struct_ops_sim::engine::{Options, explore};
use struct_ops_sim::explore::{Explored, Reductions};

/// Scenario, design, then states and transitions unreduced, and states and transitions with all reductions.
const PINNED: &str = "\
straight-path mainline 509 960 148 259
straight-path link-owned 677 1392 148 259
attach-detach-attach rfc-one-link 485 847 259 435
two-links-tcp rfc 489 713 263 363
two-links-always mainline 524 974 252 456
two-links-sched-ext link-owned 524 1084 84 124
update-races-detach link-owned 8475 23300 596 1129
process-exit rfc 1274 2736 498 963
universe-assoc-2cpu association 725250 1730475 47696 120789
assoc-two-links link-owned,identity=association 1770 4169 423 786
";

/// Free choices, where reductions have the most to do: states and transitions with all of them. A name that looks less
/// different than it did costs states here, and breaks nothing anywhere.
const REDUCED: &str = "\
universe-binfmt-2cpu mainline 5861 13608
universe-binfmt-2cpu rfc 13506 27408
universe-binfmt-2cpu rfc-one-link 11601 25653
universe-binfmt-2cpu link-owned 7258 16595
universe-qdisc-2cpu rfc 12481 27277
universe-singleton-2cpu mainline 14476 41708
universe-singleton-2cpu link-owned 18701 61434
universe-scx-2cpu mainline 21054 56576
universe-scx-2cpu link-owned 25339 77884
";

#[test]
fn reductions_reduce_as_much_as_they_did() {
    let mut now = String::new();
    for row in REDUCED.lines() {
        let mut words = row.split(' ');
        let (scenario, design) = (words.next().unwrap(), words.next().unwrap());
        let world = common::scenario(scenario).world;
        let parsed = Design::parse(design).unwrap();
        let explored = Explored::new(world, parsed, Reductions::ALL).unwrap();
        let o = explore(&explored, &Options::default(), &mut |_| ());
        writeln!(now, "{scenario} {design} {} {}", o.states, o.transitions).unwrap();
    }
    assert_eq!(now, REDUCED, "the counts of today:\n{now}");
}

#[test]
fn states_and_transitions_are_what_they_were() {
    let mut now = String::new();
    for (scenario, design) in [
        ("straight-path", "mainline"),
        ("straight-path", "link-owned"),
        ("attach-detach-attach", "rfc-one-link"),
        ("two-links-tcp", "rfc"),
        ("two-links-always", "mainline"),
        ("two-links-sched-ext", "link-owned"),
        ("update-races-detach", "link-owned"),
        ("process-exit", "rfc"),
        ("universe-assoc-2cpu", "association"),
        ("assoc-two-links", "link-owned,identity=association"),
    ] {
        let world = common::scenario(scenario).world;
        let design = Design::parse(design).unwrap();
        write!(now, "{scenario} {design}").unwrap();
        for reductions in [Reductions::NONE, Reductions::ALL] {
            let explored = Explored::new(world.clone(), design.clone(), reductions).unwrap();
            let o = explore(&explored, &Options::default(), &mut |_| ());
            write!(now, " {} {}", o.states, o.transitions).unwrap();
        }
        now.push('\n');
    }
    assert_eq!(now, PINNED, "the counts of today:\n{now}");
}
