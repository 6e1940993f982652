//! Several fds of one object: duplicates, inherited ones, and those found by id or from a pin.
//!
//! The shipped scenarios say what is broken; here is what the operations return and leave behind. Not here: which fds a
//! booted kernel gives.

mod common;

use std::collections::BTreeSet;

use struct_ops_model::kernel::{Kernel, MapKey};
use struct_ops_model::world::{CpuDecl, OpKind, Operation, Plan};
use struct_ops_model::{Design, Machine, errno};
use struct_ops_sim::live::round::{self, RoundError};
use struct_ops_sim::scenario::{Case, Scenario};

fn machine(scenario: &Scenario, design: &str) -> Machine {
    Machine::new(scenario.world.clone(), Design::parse(design).unwrap()).unwrap()
}

#[test]
fn a_link_is_not_found_before_it_is_settled_nor_after_its_last_reference() {
    for design in ["mainline", "link-owned"] {
        let machine = machine(&common::scenario("link-by-id"), design);
        let found = common::results(&machine, OpKind::LinkGetFdById);
        let all = [0, errno::ENOENT, errno::EAGAIN, errno::ENOMEM];
        assert_eq!(found, BTreeSet::from(all), "{design}");
    }
}

fn attached(k: &Kernel) -> Vec<Option<MapKey>> {
    k.links.iter().map(|(_, l)| l.map).collect()
}

#[test]
fn the_last_fd_detaches_whichever_process_has_it() {
    let machine = machine(&common::scenario("forked-fds"), "mainline");
    let mut k = machine.initial();
    let mut run = |operation: Operation| machine.run_alone(&mut k, operation).map(|()| k);
    let link = 0;
    run(Operation::LinkDup { link }).unwrap();
    let k = run(Operation::Fork {}).unwrap();
    let (_, l) = k.links.iter().next().unwrap();
    assert_eq!((l.fds, l.more.0, l.refs), (0b11, [1, 1], 4));
    // The second child would need a third process.
    assert_eq!(
        run(Operation::Fork {}),
        Err("it returned -EAGAIN".to_string())
    );
    run(Operation::LinkClose { link }).unwrap();
    let k = run(Operation::LinkClose { link }).unwrap();
    // The parent has none left, its child has two.
    let again = run(Operation::LinkClose { link });
    assert_eq!(again, Err("its target does not exist".to_string()));
    let (_, l) = k.links.iter().next().unwrap();
    assert_eq!((l.fds, l.more.0, l.refs), (0b10, [0, 1], 2));
    assert_eq!(attached(&k).len(), 1);
    assert!(attached(&k)[0].is_some(), "the child keeps it attached");
}

/// An fd that was duplicated is closed twice; the same without the duplicate detaches at the first close.
#[test]
fn a_duplicate_keeps_the_link_attached() {
    for (duplicate, left) in [(true, 1), (false, 0)] {
        let machine = machine(&common::scenario("forked-fds"), "mainline");
        let mut k = machine.initial();
        if duplicate {
            let dup = Operation::LinkDup { link: 0 };
            machine.run_alone(&mut k, dup).unwrap();
        }
        let close = Operation::LinkClose { link: 0 };
        machine.run_alone(&mut k, close).unwrap();
        assert_eq!(k.links.len(), left, "duplicate: {duplicate}");
    }
}

/// The same file with one line changed.
fn changed(name: &str, from: &str, to: &str) -> Result<Case, String> {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    Case::parse(name, "x.toml", &text.replace(from, to)).map_err(|e| e.to_string())
}

#[test]
fn a_fork_needs_a_process_to_start_and_is_of_the_first_one() {
    let one = changed("forked-fds", "processes = 2", "").unwrap_err();
    assert!(one.contains("there is no process to be forked"), "{one}");
    let child = changed(
        "forked-fds",
        "\"link_close l1\", \"sock_call",
        "\"fork\", \"sock_call",
    );
    let child = child.unwrap_err();
    assert!(child.contains("process 0 forks process 1"), "{child}");
}

#[test]
fn the_runtime_says_what_it_does_not_carry_out() {
    for (name, kind) in [
        ("forked-fds", OpKind::Fork),
        ("link-by-id", OpKind::LinkGetFdById),
    ] {
        let world = common::scenario(name).world;
        let refused = round::run(&world, &Design::mainline(), false, 1).unwrap_err();
        assert_eq!(refused, RoundError::ExplorerOnly(kind));
    }
}

/// An fd that the set-up finds by id is one more.
#[test]
fn a_set_up_finds_a_link_by_its_id() {
    let path = format!(
        "{}/scenarios/two-links-tcp.toml",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let (head, _) = text.split_once("[run]").unwrap();
    let run = r#"[run]
setup = ["map_create m1", "map_update m1", "link_create m1 as l1", "link_get_fd_by_id l1"]

[[cpu]]
do = ["link_close l1", "link_close l1"]
"#;
    let case = Case::parse("by-id", "by-id.toml", &format!("{head}{run}"));
    let Case::Attach(scenario) = case.unwrap() else {
        panic!("the attach path");
    };
    let machine = machine(&scenario, "mainline");
    assert_eq!(
        common::results(&machine, OpKind::LinkClose),
        BTreeSet::from([0])
    );
}

/// A child has the rings of its parent, and the parent keeps them.
#[test]
fn a_fork_hands_on_rings() {
    let mut world = common::scenario("one-map-on-two-rings").world;
    world.procs = 2;
    let plan = Plan::Fixed(vec![Operation::Fork {}]);
    world.cpus = vec![CpuDecl { proc: 0, plan }];
    let machine = Machine::new(world, Design::parse("mainline").unwrap()).unwrap();
    let mut k = machine.initial();
    let open = |k: &Kernel| k.subsys.rings.map(|ring| ring.fds);
    assert!(open(&k).contains(&0b01), "the set-up makes a ring");
    let before = open(&k);
    machine.run_alone(&mut k, Operation::Fork {}).unwrap();
    assert_eq!(open(&k), before.map(|fds| fds | fds << 1));
}
