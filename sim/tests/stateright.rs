//! The same machine on stateright's breadth-first search: it must see as many states as our engine does,
//! unreduced. Not a judge of verdicts: only the walk and the identity of states are compared, ours by the
//! packed encoding, stateright's by `Hash` of the state itself.

mod common;
#[path = "common/theirs.rs"]
mod theirs;

use stateright::{Checker, Model};
use struct_ops_model::Design;
use struct_ops_sim::engine::{Options, explore};
use struct_ops_sim::explore::{Explored, Reductions};
use theirs::Theirs;

fn compare(scenario: &str, design: &str) {
    let world = common::scenario(scenario).world;
    let explored = Explored::new(
        world.clone(),
        Design::parse(design).unwrap(),
        Reductions::NONE,
    )
    .unwrap();
    let ours = explore(
        &explored,
        &Options {
            threads: 2,
            ..Options::default()
        },
        &mut |_| (),
    );
    let theirs = Theirs(explored.machine)
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    assert_eq!(
        ours.states,
        theirs.unique_state_count() as u64,
        "{scenario} under {design}: states"
    );
    // The initial state counts as generated in stateright.
    assert_eq!(
        ours.transitions + 1,
        theirs.state_count() as u64,
        "{scenario} under {design}: transitions"
    );
}

#[test]
fn attach_detach_attach() {
    compare("attach-detach-attach", "mainline");
    compare("attach-detach-attach", "link-owned");
}

#[test]
fn violations_included() {
    compare("two-links-tcp", "rfc");
    compare("two-links-always", "rfc");
    compare("socket-outlives-link", "rfc-one-link");
    compare("update-to-same-map", "mainline");
}

#[test]
fn subsystems() {
    compare("two-links-sched-ext", "mainline");
    compare("two-links-keyed", "link-owned");
    compare("two-links-singleton", "rfc-one-link");
    compare("plain-map", "mainline");
}

#[test]
fn races() {
    compare("update-races-detach", "link-owned");
    compare("process-exit", "rfc");
    compare("alloc-failure", "rfc");
}
