//! Where a link goes in the list of its cgroup: revisions, and anchors that are found by their id; and what is asked of it.
//!
//! The shipped scenarios say what is broken; here is what the operations return and leave behind.

mod common;

use std::collections::BTreeSet;

use struct_ops_model::kernel::{Cpu, Item, Kernel};
use struct_ops_model::operation::Position;
use struct_ops_model::world::{OpKind, Operation};
use struct_ops_model::{Action, Design, Invariant, Linux, Machine, Pc, Report, contract, errno};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::scenario::Case;

/// The shipped scenario, under a design that leaves the order of its operations to the cgroup layer, or not.
fn machine(design: &str) -> Machine {
    let world = common::scenario("cgroup-revision").world;
    Machine::new(world, Design::parse(design).unwrap()).unwrap()
}

/// The names of the links in the list of the only cgroup, and how often that has changed.
fn list(k: &Kernel) -> (Vec<u8>, u8) {
    let cgroup = &k.subsys.cgroups[0];
    let links = cgroup.list.iter().flatten();
    let names = links.map(|in_list| k.links.get(in_list.link).unwrap().name);
    (names.collect(), cgroup.changes)
}

fn attach(map: u8, position: Option<Position>, revision: Option<u8>) -> Operation {
    Operation::LinkCreate {
        map,
        target: Some(0),
        position: position.map(Position::number),
        revision,
        cookie: 0,
        link: map,
    }
}

/// Before the first link.
const BEFORE_L1: Position = Position {
    before: true,
    after: false,
    preorder: false,
    anchor: Some(0),
    by_id: false,
};

#[test]
fn of_two_managers_with_one_revision_one_comes_too_late() {
    for design in ["mainline", "rfc", "link-owned", "run-ctx"] {
        let found = common::results(&machine(design), OpKind::LinkCreate);
        let refused = [0, errno::ESTALE];
        // Who closes the anchor has changed the list before: the revision, which is looked at first, says no.
        assert!(
            found.is_subset(&BTreeSet::from(refused)),
            "{design}: {found:?}"
        );
        assert!(found.contains(&errno::ESTALE), "{design}: {found:?}");
    }
}

#[test]
fn each_change_of_the_list_is_a_revision() {
    for design in ["mainline", "rfc", "link-owned", "run-ctx"] {
        let machine = machine(design);
        let mut k = machine.initial();
        let stale = Err("it returned -ESTALE".to_string());
        // The set-up has attached one link.
        assert_eq!(list(&k), (vec![0], 1));
        for revision in [1, 3, 255] {
            let asked = attach(1, None, Some(revision));
            assert_eq!(
                machine.run_alone(&mut k, asked),
                stale,
                "{design}, {revision}"
            );
            assert_eq!(list(&k), (vec![0], 1), "nothing is done");
        }
        machine.run_alone(&mut k, attach(1, None, Some(2))).unwrap();
        assert_eq!(list(&k), (vec![0, 1], 2), "{design}");
        // None is asked for: whatever it is.
        machine.run_alone(&mut k, attach(2, None, None)).unwrap();
        assert_eq!(list(&k), (vec![0, 1, 2], 3), "{design}");
        let detach = Operation::LinkDetach { link: 0 };
        machine.run_alone(&mut k, detach).unwrap();
        assert_eq!(list(&k), (vec![1, 2], 4), "{design}");
        // What is attached nowhere changes no list.
        machine.run_alone(&mut k, detach).unwrap();
        assert_eq!(list(&k), (vec![1, 2], 4), "{design}");
        let update = Operation::LinkUpdate {
            link: 1,
            map: 0,
            replace: None,
        };
        machine.run_alone(&mut k, update).unwrap();
        assert_eq!(list(&k), (vec![1, 2], 5), "{design}");
        // The release of the cgroup leaves the number alone.
        let rmdir = Operation::CgroupRmdir { cgroup: 0 };
        machine.run_alone(&mut k, rmdir).unwrap();
        assert_eq!(list(&k), (vec![], 5), "{design}");
    }
}

#[test]
fn an_anchor_by_id_is_whoever_has_it_open() {
    let machine = machine("mainline");
    let (by_fd, by_id) = (
        BEFORE_L1,
        Position {
            by_id: true,
            ..BEFORE_L1
        },
    );
    // Process 0 has it open.
    for position in [by_fd, by_id] {
        let mut k = machine.initial();
        let asked = attach(1, Some(position), None);
        machine.run_alone(&mut k, asked).unwrap();
        assert_eq!(list(&k), (vec![1, 0], 2));
        let (link, _) = k.links.iter().find(|(_, l)| l.name == 0).unwrap();
        assert_eq!(
            k.links.get(link).unwrap().refs,
            1,
            "the reference of the look is gone"
        );
    }
    // Only a pin has it: no descriptor leads there, its id does. (A descriptor that is not open is not asked with.)
    let mut k = machine.initial();
    machine
        .run_alone(&mut k, Operation::LinkPin { link: 0 })
        .unwrap();
    machine
        .run_alone(&mut k, Operation::LinkClose { link: 0 })
        .unwrap();
    let mut other = k;
    let closed = machine.run_alone(&mut other, attach(1, Some(by_fd), None));
    assert_eq!(closed, Err("it returned -EBADF".to_string()));
    machine
        .run_alone(&mut k, attach(1, Some(by_id), None))
        .unwrap();
    assert_eq!(list(&k).0, [1, 0]);
    // Nobody has it: its id is nobody's.
    let mut k = machine.initial();
    machine
        .run_alone(&mut k, Operation::LinkClose { link: 0 })
        .unwrap();
    let gone = machine.run_alone(&mut k, attach(1, Some(by_id), None));
    assert_eq!(gone, Err("it returned -ENOENT".to_string()));
}

/// Runs an operation to its end: what it returns, and whatever the contract allows.
fn answers(machine: &Machine, k: &mut Kernel, operation: Operation) -> (i8, BTreeSet<i8>) {
    let request = machine
        .resolve(k, 0, operation)
        .expect("its target is there");
    let mut action = Action::Begin(0, request);
    loop {
        machine.apply(k, action, &mut Report::default(), None);
        let cpu: Cpu = k.cpus[0];
        if cpu.pc == Pc::Finish {
            let all = errno::NAMES.iter().map(|n| n.0).chain([0]);
            let allowed = all.filter(|err| {
                let mut other = cpu;
                other.err = *err;
                contract::allows(&machine.world, &machine.design, k, &other)
            });
            return (cpu.err, allowed.collect());
        }
        action = Action::Step(0, 0);
    }
}

/// Each reason to refuse is one of what was asked, and of nothing else.
#[test]
fn what_may_be_answered_follows_from_what_was_asked() {
    use errno::{EAGAIN, EBADF, EINVAL, ENOENT, ESTALE};
    let machine = machine("mainline");
    let position = |before, after, anchor, by_id| Position {
        before,
        after,
        preorder: false,
        anchor,
        by_id,
    };
    let nowhere = position(true, true, None, false);
    let (by_fd, by_id) = (BEFORE_L1, position(true, false, Some(0), true));
    let mut closed = machine.initial();
    let close = Operation::LinkClose { link: 0 };
    machine.run_alone(&mut closed, close).unwrap();
    for (before, asked, answer, others) in [
        (machine.initial(), attach(1, None, None), 0, vec![]),
        (machine.initial(), attach(1, None, Some(0)), 0, vec![]),
        (machine.initial(), attach(1, None, Some(2)), 0, vec![ESTALE]),
        (machine.initial(), attach(1, None, Some(1)), ESTALE, vec![0]),
        (
            machine.initial(),
            attach(1, Some(nowhere), None),
            EINVAL,
            vec![0],
        ),
        (
            machine.initial(),
            attach(1, Some(by_fd), None),
            0,
            vec![EINVAL, EBADF, ENOENT],
        ),
        (
            closed,
            attach(1, Some(by_fd), None),
            EBADF,
            vec![0, EINVAL, ENOENT],
        ),
        (
            machine.initial(),
            attach(1, Some(by_id), None),
            0,
            vec![EINVAL, EAGAIN, ENOENT],
        ),
        (
            closed,
            attach(1, Some(by_id), None),
            ENOENT,
            vec![0, EINVAL, EAGAIN],
        ),
    ] {
        let mut k = before;
        let (err, allowed) = answers(&machine, &mut k, asked);
        let expected: BTreeSet<i8> = others.into_iter().chain([answer]).collect();
        assert_eq!((err, allowed), (answer, expected), "{asked:?}");
    }
}

/// A shipped file with these pieces of it changed.
fn changed(name: &str, changes: &[(&str, &str)]) -> Result<Case, String> {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "there is no {from}");
        text = text.replace(from, to);
    }
    Case::parse("x", "x.toml", &text).map_err(|e| e.to_string())
}

#[test]
fn another_type_has_no_use_for_a_revision_nor_an_anchor() {
    for (asked, refused) in [("revision=2", true), ("before=l1 by-id", true), ("", false)] {
        let case = changed(
            "cgroup-revision",
            &[(
                "cgroup=c1 revision=2 cookie=0x22 as l2",
                &format!("{asked} as l2"),
            )],
        );
        let Ok(Case::Attach(mut scenario)) = case else {
            panic!("{asked}: it is a scenario");
        };
        let world = &mut scenario.world;
        world.types[0].subsystem = struct_ops_model::world::Subsystem::TcpCong;
        let tail = world.setup.pop();
        let Some(Operation::LinkCreate {
            map, link, cookie, ..
        }) = tail
        else {
            panic!("the last operation of the set-up attaches");
        };
        world.setup.push(Operation::LinkCreate {
            map,
            link,
            cookie,
            target: None,
            position: None,
            revision: None,
        });
        let struct_ops_model::world::Plan::Fixed(operations) = &world.cpus[0].plan else {
            panic!("it is fixed");
        };
        let operation = operations[0];
        let machine = Machine::new(world.clone(), Design::parse("mainline").unwrap()).unwrap();
        let wanted = if refused { errno::EINVAL } else { 0 };
        let only = |err| (err, BTreeSet::from([err]));
        let answer = answers(&machine, &mut machine.initial(), operation);
        assert_eq!(answer, only(wanted), "{asked}");
        // Older kernels do not look at these bytes.
        world.linux = Linux::V7_3;
        let machine = Machine::new(world.clone(), Design::parse("mainline").unwrap()).unwrap();
        let answer = answers(&machine, &mut machine.initial(), operation);
        assert_eq!(answer, only(0), "{asked} on 7.3");
    }
}

#[test]
fn what_is_no_revision_is_refused_where_it_stands() {
    for (word, says) in [
        ("revision=0", "`0` is no revision: expected a number from 1"),
        ("revision=256", "`256` is no revision"),
        ("revision=two", "`two` is no revision"),
        ("by-id", "`by-id` without the link whose id it is"),
    ] {
        let error = changed(
            "cgroup-revision",
            &[("revision=2 cookie=0x22", &format!("{word} cookie=0x22"))],
        )
        .unwrap_err();
        assert!(error.contains(says), "{word}: {error}");
        assert!(error.starts_with("x.toml:"), "{error}");
    }
}

#[test]
fn a_query_counts_an_array_that_is_gone_if_there_was_one_and_anything_is_attached() {
    let attach = (r#", "link_create m1 cgroup=c1 cookie=0x11 as l1""#, "");
    let close = (r#", "link_close l1""#, "");
    let alone = ("parent = \"c1\"\n", "");
    let close_first = (
        r#""cgroup_rmdir c2", "link_close l1""#,
        r#""link_close l1", "cgroup_rmdir c2""#,
    );
    let changes: [(&[(&str, &str)], bool); 4] = [
        (&[], true),
        // It inherits nothing: bpf_empty_prog_array is never freed.
        (&[alone], false),
        // The array is an empty one before it goes.
        (&[close_first], false),
        // Nothing is attached anywhere.
        (&[attach, close], false),
    ];
    for (changes, gone) in changes {
        let Ok(Case::Attach(scenario)) = changed("cgroup-query", changes) else {
            panic!("{changes:?}: it is a scenario");
        };
        let settings = Settings {
            threads: 1,
            max_states: None,
            exact: false,
            reductions: Reductions::ALL,
        };
        let design = Design::parse("mainline").unwrap();
        let run = check(&scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).unwrap();
        let found = run.shortest(Invariant::NoUseAfterFree).is_some();
        assert_eq!(found, gone, "{changes:?}");
    }
}

#[test]
fn a_query_needs_a_cgroup_that_is_there() {
    let world = common::scenario("cgroup-query").world;
    let machine = Machine::new(world, Design::parse("mainline").unwrap()).unwrap();
    let mut k = machine.initial();
    let query = |cgroup| Operation::CgroupQuery { cgroup };
    assert_eq!(machine.run_alone(&mut k, query(0)), Ok(()));
    assert_eq!(machine.run_alone(&mut k, query(1)), Ok(()));
    let rmdir = Operation::CgroupRmdir { cgroup: 1 };
    machine.run_alone(&mut k, rmdir).unwrap();
    let gone = machine.run_alone(&mut k, query(1));
    assert_eq!(gone, Err("it returned -ENOENT".to_string()));
}

#[test]
fn a_link_goes_where_its_position_says() {
    let (before, after) = ((true, false), (false, true));
    let at = |(before, after), anchor| Position {
        before,
        after,
        preorder: false,
        anchor,
        by_id: false,
    };
    let machine = machine("mainline");
    // l1 is there; l2 and l3 come with these positions, and then the list is this.
    for (second, third, wanted) in [
        (None, None, [0, 1, 2]),
        (Some(at(after, None)), Some(at(before, None)), [2, 0, 1]),
        (
            Some(at(after, Some(0))),
            Some(at(after, Some(0))),
            [0, 2, 1],
        ),
        (
            Some(at(before, Some(0))),
            Some(at(before, Some(0))),
            [1, 2, 0],
        ),
        (
            Some(at(after, Some(0))),
            Some(at(before, Some(1))),
            [0, 2, 1],
        ),
        (Some(at(before, None)), Some(at(after, Some(1))), [1, 2, 0]),
    ] {
        let mut k = machine.initial();
        machine.run_alone(&mut k, attach(1, second, None)).unwrap();
        machine.run_alone(&mut k, attach(2, third, None)).unwrap();
        assert_eq!(list(&k).0, wanted, "{second:?}, {third:?}");
    }
    let (both, neither) = ((true, true), (false, false));
    let preorder = Position {
        preorder: true,
        ..at(after, Some(0))
    };
    let refused = [
        at(both, None),
        at(both, Some(0)),
        at(neither, Some(0)),
        preorder,
    ];
    for position in refused {
        let mut k = machine.initial();
        let answer = machine.run_alone(&mut k, attach(1, Some(position), None));
        assert_eq!(
            answer,
            Err("it returned -EINVAL".to_string()),
            "{position:?}"
        );
        assert_eq!(list(&k), (vec![0], 1), "{position:?}");
    }
    // Where there is nothing before and nothing behind, both are the same place.
    let mut k = machine.initial();
    let close = Operation::LinkClose { link: 0 };
    machine.run_alone(&mut k, close).unwrap();
    let alone = attach(1, Some(at(both, None)), None);
    machine.run_alone(&mut k, alone).unwrap();
    assert_eq!(list(&k).0, [1]);
}

/// PREORDER links come first, from the uppermost cgroup down, the others after them, from the cgroup itself up.
#[test]
fn what_is_effective_comes_in_the_order_of_the_cgroups() {
    let world = common::scenario("cgroup-order").world;
    let machine = Machine::new(world, Design::parse("mainline").unwrap()).unwrap();
    let mut k = machine.initial();
    let preorder = Position {
        preorder: true,
        ..Position::default()
    };
    let mut attach = |map, target, position: Option<Position>, link| {
        let operation = Operation::LinkCreate {
            map,
            target: Some(target),
            position: position.map(Position::number),
            revision: None,
            cookie: 0,
            link,
        };
        machine.run_alone(&mut k, operation).unwrap();
        let cgroup = &k.subsys.cgroups[1];
        let items = cgroup.effective.iter().flatten();
        let decl = |item: &Item| {
            let kdata = k.kdatas.get(item.kdata.unwrap()).unwrap();
            kdata.decl
        };
        items.map(decl).collect::<Vec<u8>>()
    };
    // The set-up: m1 on c1, m2 on c2, which is below it.
    assert_eq!(attach(2, 0, None, 2), [1, 0, 2]);
    assert_eq!(attach(2, 1, Some(preorder), 3), [2, 1, 0, 2]);
}
