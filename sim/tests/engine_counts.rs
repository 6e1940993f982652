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
