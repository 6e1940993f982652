//! Subsystems that a scenario brings: what is wrong in one is named at its place, what goes wrong in one is found, and one
//! that says the same as a built-in one gets the same verdicts.

use std::collections::BTreeMap;

use struct_ops_model::world::{Body, CpuDecl, Plan, Subsystem};
use struct_ops_model::{Design, Invariant, Machine};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::report::explain::explain;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::scenario::{
    Case, Scenario, Words, built_in_subsystem, emit, shipped_subsystems,
};
use struct_ops_sim::shipped;
use struct_ops_sim::verdict::Run;
use struct_ops_sim::walk;

const REG: &str = "publish slot";
const UNREG: &str = "withdraw slot\nsynchronize_rcu";

/// A scenario with this subsystem, in which `run walk` stands beside an attach and its end.
fn scenario(reg: &str, unreg: &str, walk: &str) -> String {
    format!(
        r#"title = "t"
question = "q"
source = "a test"
[[subsystem]]
name = "own_ops"
locks = ["a_lock", "b_lock"]
slots = {{ slot = "one" }}
srcu = ["domain"]
flags = {{ up = true, never = false }}
objects = ["thing"]
reg = '''
{reg}
'''
unreg = '''
{unreg}
'''
[subsystem.run]
walk = '''
{walk}
'''
[[type]]
name = "t"
subsystem = "own_ops"
members = [{{ name = "member" }}]
[[program]]
name = "p1"
type = "t"
member = "member"
[[map]]
name = "m1"
type = "t"
programs = ["p1"]
[run]
setup = ["map_create m1", "map_update m1"]
[[cpu]]
do = ["link_create m1 cookie=0x11 as l1", "link_close l1"]
[[cpu]]
do = ["run walk"]
"#
    )
}

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse("own", "own.toml", text).map_err(|e| e.to_string())
}

fn explored(scenario: &Scenario, design: &Design) -> Run {
    let settings = Settings {
        threads: 1,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    check(scenario, design, &settings, &UNBOUNDED, &mut |_| ()).expect("it can be set up")
}

fn broken(scenario: &Scenario, design: &Design) -> Vec<Invariant> {
    let run = explored(scenario, design);
    let all = Invariant::ALL.iter().copied();
    all.filter(|i| run.shortest(*i).is_some()).collect()
}

#[test]
fn a_mistake_has_its_line() {
    let wrong = [
        ("publish slat", "unknown slot `slat`: the only one is slot"),
        ("pubish slot", "unknown statement `pubish`"),
        (
            "publish",
            "the name of a slot is missing: write `publish SLOT`",
        ),
        (
            "publish slot slot",
            "`slot` is one word too many: write `publish SLOT`",
        ),
        (
            "find slot else goto out",
            "`find` belongs into a function that is run",
        ),
        (
            "replace slot else goto out",
            "`replace` belongs into `update`",
        ),
        (
            "publish slot; mutex_lock a_lock",
            "`mutex_lock` waits: expected a line that begins with it",
        ),
        (
            "synchronize_rcu; publish slot",
            "`publish` after a statement that ends its line",
        ),
        ("publish slot;", "a statement is missing beside `;`"),
        ("goto out", "unknown label `out`: there is none"),
        (
            "again: if up goto again",
            "a loop that may never end: expected `next` in it",
        ),
        ("return -ENOWAY", "unknown error `-ENOWAY`"),
        ("alloc thing or goto out", "`or` where `else` is expected"),
        ("x:\nx:", "label `x` is there already"),
        ("if upp goto x\nx:", "unknown slot, flag or object `upp`"),
        (
            "call membr",
            "unknown member `membr`: the only one is member",
        ),
        ("fentry p1", "`p1` is no tracing program"),
        ("fentry p2", "unknown tracing program `p2`: there is none"),
    ];
    for (reg, message) in wrong {
        let error = parse(&scenario(reg, UNREG, "rcu_read_lock; rcu_read_unlock")).unwrap_err();
        assert!(error.contains(message), "{reg}: {error}");
        // The text of reg() begins in line 12.
        let line = 12 + usize::from(reg.starts_with("x:\nx:"));
        assert!(
            error.starts_with(&format!("own.toml:{line}:")),
            "{reg}: {error}"
        );
    }
    let error = parse(&scenario(
        "if up goto x;\nx: publish slot",
        UNREG,
        "use thing",
    ))
    .unwrap_err();
    assert!(error.contains("label `x` inside a line"), "{error}");
    // A line that goes on is one step.
    let whole = parse(&scenario(
        "if up goto x; publish slot\nx:",
        UNREG,
        "use thing",
    ))
    .unwrap();
    let broken = parse(&scenario(
        "if up goto x;\n  publish slot\nx:",
        UNREG,
        "use thing",
    ))
    .unwrap();
    assert_eq!(whole.world.script.lines, broken.world.script.lines);
    let walk = "again: find slot else goto out\nnext slot else goto out\ngoto again\nout:";
    let error = parse(&scenario(REG, UNREG, walk)).unwrap_err();
    assert!(error.contains("`find` in a loop begins anew"), "{error}");
    for many in [
        "set up\n".repeat(300),
        (0..300).map(|i| format!("l{i}:\n")).collect(),
    ] {
        let error = parse(&scenario(&many, UNREG, "use thing")).unwrap_err();
        assert!(error.contains("more than 255"), "{error}");
    }
    let error = parse(&scenario(REG, "return -EBUSY", "use thing")).unwrap_err();
    assert!(
        error.contains("in unreg(), which returns nothing"),
        "{error}"
    );
    let error = parse(&scenario(REG, UNREG, "get else goto out\nout:")).unwrap_err();
    assert!(error.contains("`get` before a `find`"), "{error}");
    let found = "find slot else goto out\npublish slot\nout:";
    let error = parse(&scenario(REG, UNREG, found)).unwrap_err();
    assert!(
        error.contains("`publish slot` in a function that is run"),
        "{error}"
    );
}

#[test]
fn what_goes_wrong_in_one_is_found() {
    let cases = [
        (REG, UNREG, "use thing", Invariant::NoUseAfterFree),
        (
            "alloc thing else goto out\npublish slot\nout:",
            UNREG,
            "rcu_read_lock; rcu_read_unlock",
            Invariant::NoLeak,
        ),
        (
            REG,
            "synchronize_rcu",
            "rcu_read_lock; rcu_read_unlock",
            Invariant::NoLeak,
        ),
        (
            REG,
            UNREG,
            "find slot else goto out; put\nout:",
            Invariant::RefcountsBalance,
        ),
        (REG, UNREG, "mutex_lock a_lock", Invariant::NoDeadlock),
        (REG, UNREG, "mutex_unlock a_lock", Invariant::NoDeadlock),
        (REG, UNREG, "rcu_read_unlock", Invariant::NoDeadlock),
        (REG, UNREG, "srcu_read_lock domain", Invariant::NoDeadlock),
        (REG, UNREG, "rcu_read_lock", Invariant::NoDeadlock),
        (REG, UNREG, "rcu_read_lock_trace", Invariant::NoDeadlock),
        (
            "publish slot; rcu_read_lock",
            UNREG,
            "rcu_read_lock; rcu_read_unlock",
            Invariant::NoDeadlock,
        ),
        (REG, UNREG, "wait never", Invariant::NoDeadlock),
        (
            REG,
            UNREG,
            "find slot else goto out\nuse link\nout:",
            Invariant::NoUseAfterFree,
        ),
        (
            REG,
            UNREG,
            "find slot else goto out\nuse kdata\nout:",
            Invariant::NoUseAfterFree,
        ),
        (
            "mutex_lock a_lock\nmutex_lock b_lock; publish slot; mutex_unlock b_lock\nmutex_unlock a_lock",
            UNREG,
            "mutex_lock b_lock\nmutex_lock a_lock; mutex_unlock a_lock\nmutex_unlock b_lock",
            Invariant::NoDeadlock,
        ),
    ];
    for (reg, unreg, walk, invariant) in cases {
        let scenario = parse(&scenario(reg, unreg, walk)).unwrap();
        // Under mainline kdata lives as long as the map, which nobody closes here.
        let design = match walk.contains("use kdata") {
            true => Design::parse("link-owned").unwrap(),
            false => Design::mainline(),
        };
        let broken = broken(&scenario, &design);
        assert!(
            broken.contains(&invariant),
            "{reg} | {unreg} | {walk}: {broken:?}"
        );
    }
}

/// A syscall program is in a read side of Tasks Trace RCU, which reg() neither entered nor may leave.
#[test]
fn the_read_side_of_a_syscall_program_is_its_own() {
    let in_program = |reg: &str| {
        let text = scenario(reg, UNREG, "rcu_read_lock; rcu_read_unlock")
            .replace("\"link_create m1", "\"sys_bpf_link_create m1");
        broken(&parse(&text).unwrap(), &Design::mainline())
    };
    assert_eq!(in_program(REG), []);
    let entered = in_program("rcu_read_lock_trace; publish slot; rcu_read_unlock_trace");
    assert_eq!(entered, []);
    let left = in_program("publish slot; rcu_read_unlock_trace");
    assert_eq!(left, [Invariant::NoDeadlock]);
}

/// More read sides than anybody nests are a bound of the model, and no panic.
#[test]
fn read_sides_are_nested_as_deep_as_they_are_counted() {
    for side in ["rcu_read_lock", "rcu_read_lock_trace"] {
        let leave = side.replace("lock", "unlock");
        for (times, full) in [(4, false), (5, true), (300, true)] {
            let walk = [vec![side; times], vec![leave.as_str(); times]]
                .concat()
                .join("; ");
            let scenario = parse(&scenario(REG, UNREG, &walk)).unwrap();
            let run = explored(&scenario, &Design::mainline());
            assert_eq!(run.bound.is_some(), full, "{times} times {side}");
            assert!(run.found.is_empty());
        }
    }
}

/// Readers are waited for by the grace period of their kind, and by no other.
#[test]
fn grace_periods_wait_for_their_readers() {
    let kinds = ["rcu", "rcu_trace", "srcu"];
    let (enter, leave, wait) = (
        [
            "rcu_read_lock",
            "rcu_read_lock_trace",
            "srcu_read_lock domain",
        ],
        [
            "rcu_read_unlock",
            "rcu_read_unlock_trace",
            "srcu_read_unlock domain",
        ],
        [
            "synchronize_rcu",
            "synchronize_rcu_tasks_trace",
            "synchronize_srcu domain",
        ],
    );
    for reader in 0..3 {
        for waiter in 0..3 {
            let reg = "alloc thing else goto out\npublish slot\nout:";
            let unreg = format!("withdraw slot\n{}\nfree thing", wait[waiter]);
            let walk = format!(
                "{}; find slot else goto out\nuse thing\nout: {}",
                enter[reader], leave[reader]
            );
            let scenario = parse(&scenario(reg, &unreg, &walk)).unwrap();
            let broken = broken(&scenario, &Design::mainline());
            let expected: &[Invariant] = match reader == waiter {
                true => &[],
                false => &[Invariant::NoUseAfterFree],
            };
            assert_eq!(
                broken, expected,
                "{} waits for {}",
                kinds[waiter], kinds[reader]
            );
        }
    }
}

/// An operation of a scenario on a built-in subsystem, as one on the same subsystem said in the language; `None` where that
/// has no function for it.
fn said(operation: &str, functions: &[&str]) -> Option<String> {
    let words: Vec<&str> = operation.split(' ').collect();
    let function = match words[..] {
        ["sock_open", _] => "sock_open".to_string(),
        ["sock_call", "0", member] => format!("sock_call_{member}"),
        ["sock_close", "0"] => "sock_close".to_string(),
        ["ring_setup", _] => "ring_setup".to_string(),
        ["ring_close", "0"] => "ring_close".to_string(),
        ["call", "0", member] => format!("call_{member}"),
        ["call", "1", member] => format!("call_second_{member}"),
        ["cgroup_call", _, member] => format!("cgroup_call_{member}"),
        [
            "sock_call" | "sock_close" | "ring_close" | "call" | "cgroup_rmdir" | "scx_error"
            | "test_run",
            ..,
        ] => {
            return None;
        }
        ["link_create", ref rest @ ..] => {
            let plain = |w: &&str| !w.starts_with("cgroup=") && *w != "preorder";
            let rest: Vec<&str> = rest.iter().copied().filter(plain).collect();
            let placed = rest
                .iter()
                .any(|w| w.starts_with("before") || w.starts_with("after"));
            return (!placed).then(|| format!("link_create {}", rest.join(" ")));
        }
        _ => return Some(operation.to_string()),
    };
    let known = functions.contains(&function.as_str());
    known.then(|| format!("run {function}"))
}

/// The scenario with the copy in the place of the built-in subsystem, if the copy has a word for everything in it.
fn copied(scenario: &Scenario, name: &str, text: &str) -> Option<Scenario> {
    let world = &scenario.world;
    let fixed = |cpu: &CpuDecl| matches!(cpu.plan, Plan::Fixed(_));
    let uses = world.types.iter().all(|t| t.subsystem.facts().name == name);
    let simple = world.types.iter().all(|t| !t.module)
        && world.progs.iter().all(|p| p.body != Body::Switch)
        && world.procs == 1
        && world.cgroups.len() <= 1
        && world.cpus.iter().all(fixed);
    // A lookup by name finds one of several; here it finds the first one. One socket is open at a time, and one ring.
    let by_name = ["tcp_congestion_ops", "io_uring_bpf_ops"];
    let keys = !by_name.contains(&name) || world.keys.len() == 1;
    let opened = scenario.head.text.matches("sock_open").count();
    if !uses || !simple || !keys || opened > 1 {
        return None;
    }
    let functions: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_suffix(" = '''"))
        .collect();
    let mut all = true;
    let words = Words {
        title: "t",
        question: "q",
        source: "s",
    };
    let mut out = String::new();
    let mut in_list = false;
    for line in emit(words, world).lines() {
        let operation = line.trim().trim_start_matches('"').trim_end_matches("\",");
        if in_list && line != "]" {
            match said(operation, &functions) {
                Some(operation) => out += &format!("  \"{operation}\",\n"),
                None => all = false,
            }
            continue;
        }
        in_list = line == "setup = [" || line == "do = [";
        let line = line.replace(&format!("= \"{name}\""), &format!("= \"my_{name}\""));
        out += &format!("{line}\n");
    }
    if !all {
        return None;
    }
    let cgroup = out.find("\n[[cgroup]]");
    if let Some(at) = cgroup {
        let end = at + out[at..].find("\n[run]").unwrap();
        out.replace_range(at..end, "");
    }
    let at = out.find("\n[[type]]").unwrap();
    Some(
        parse(&format!("{}{text}{}", &out[..at], &out[at..]))
            .unwrap_or_else(|e| panic!("{e}\n{out}")),
    )
}

/// Where what the copy leaves out decides: which promises differ in a scenario under a design.
const DIFFERENT: &[(&str, &str, &[&str])] = &[
    // A socket is a user of kdata there; here it is a reference, which is none for failure-atomic.
    ("alloc-failure", "rfc-one-link", &["failure-atomic"]),
    // A probe loads rdesc_ops and its member in one step there; `call` loads the member in a step of its own.
    (
        "two-links-hid",
        "rfc-one-link",
        &["cookie-fidelity", "no-torn-publish"],
    ),
    // `ops->hdev` is in the struct there and goes with it; here it is an entry of a slot, which stays.
    ("two-links-hid", "mainline", &["no-leak"]),
    (
        "two-links-hid",
        "link-owned",
        &["no-leak", "failure-atomic", "refusals-kept"],
    ),
    // The ring calls its copy of the function pointer there; `call` loads the one in kdata.
    (
        "two-links-io-uring",
        "rfc",
        &["cookie-fidelity", "no-torn-publish"],
    ),
    // There is no array here that cannot be allocated.
    (
        "cgroup-detach-without-memory",
        "mainline",
        &["no-use-after-free"],
    ),
    (
        "cgroup-detach-without-memory",
        "link-owned",
        &["no-use-after-free"],
    ),
];

#[test]
fn a_built_in_one_said_in_the_language_gets_the_same_verdicts() {
    let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for built_in in Subsystem::ALL {
        let name = built_in.facts().name;
        let text = built_in_subsystem(name).unwrap_or_else(|| panic!("{name} is not said"));
        compared.insert(name, 0);
        for case in shipped::all().unwrap() {
            let Case::Attach(scenario) = case else {
                continue;
            };
            let Some(copy) = copied(&scenario, name, text) else {
                continue;
            };
            for design in Design::attach_paths() {
                if !scenario.runs_under(&design) || walk::attach(&scenario, &design).is_err() {
                    continue;
                }
                let (one, other) = (broken(&scenario, &design), broken(&copy, &design));
                let differs = |i: &&Invariant| one.contains(i) != other.contains(i);
                let differ: Vec<&str> = Invariant::ALL
                    .iter()
                    .filter(differs)
                    .map(|i| i.id())
                    .collect();
                let known = DIFFERENT
                    .iter()
                    .find(|d| d.0 == scenario.head.name && d.1 == design.name);
                if differ != known.map_or(&[][..], |d| d.2) {
                    wrong.push(format!(
                        "(\"{}\", \"{design}\", &{differ:?}),",
                        scenario.head.name
                    ));
                }
                *compared.get_mut(name).unwrap() += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing of bpf_dummy_ops is registered, and what runs its programs has no word.
    let asked = |(name, n): (&&str, &usize)| *n > 0 || *name == "bpf_dummy_ops";
    assert!(compared.iter().all(asked), "{compared:?}");
}

/// Whoever copies one gets a file that is read.
#[test]
fn what_is_printed_of_a_built_in_one_can_be_copied() {
    for built_in in Subsystem::ALL {
        let facts = built_in.facts();
        let printed = explain(&Screen::plain(100), facts.name, &[]).unwrap();
        let at = printed.find("[[subsystem]]").unwrap();
        let member = facts.members[0];
        let rest = format!(
            r#"
[[type]]
name = "t"
subsystem = "my_{}"
members = [{{ name = "{member}" }}]
[[program]]
name = "p1"
type = "t"
member = "{member}"
[[map]]
name = "m1"
type = "t"
programs = ["p1"]
[run]
setup = ["map_create m1", "map_update m1"]
[[cpu]]
do = ["link_create m1 as l1"]
"#,
            facts.name
        );
        let head = "title = \"t\"\nquestion = \"q\"\nsource = \"s\"\n";
        let text = format!("{head}{}{rest}", &printed[at..]);
        parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
}

/// A shrunk world is written as a file: it must be the same world.
#[test]
fn what_is_written_is_read_as_the_same_world() {
    let words = Words {
        title: "t",
        question: "q",
        source: "s",
    };
    let mut seen = 0;
    for case in shipped::all().unwrap() {
        let Case::Attach(scenario) = case else {
            continue;
        };
        if scenario.world.script.subsystems.is_empty() {
            continue;
        }
        seen += 1;
        let text = emit(words, &scenario.world);
        let again = parse(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", scenario.head.name));
        assert_eq!(again.world, scenario.world, "{}", scenario.head.name);
    }
    assert!(seen > 10);
}

/// Every shipped subsystem is brought by some scenario.
#[test]
fn shipped_subsystems_are_used() {
    let mut used: BTreeMap<&str, usize> = shipped_subsystems().iter().map(|s| (s.0, 0)).collect();
    for case in shipped::all().unwrap() {
        if let Case::Attach(scenario) = case {
            for own in &scenario.world.script.subsystems {
                if let Some(count) = used.get_mut(own.name.as_str()) {
                    *count += 1;
                }
            }
        }
    }
    assert!(used.values().all(|n| *n > 0), "{used:?}");
}

/// The set-up ends, whatever a function does.
#[test]
fn a_set_up_that_never_ends_is_an_error() {
    let text = scenario(REG, UNREG, "wait never")
        .replace("\"map_update m1\"]", "\"map_update m1\", \"run walk\"]");
    let scenario = parse(&text).unwrap();
    let error = Machine::new(scenario.world, Design::mainline()).unwrap_err();
    assert_eq!(error.to_string(), "set-up operation 3: it never returns");
}

/// A scenario of several maps, of which `m1` and `m3` have one name, and what its set-up and its CPUs do.
fn several(key: &str, functions: &str, body: &str, setup: &[&str], cpus: &[&str]) -> Scenario {
    let mut text = format!(
        "title = \"t\"\nquestion = \"q\"\nsource = \"a test\"\n[[subsystem]]\nname = \"own_ops\"\n\
         slots = {{ slot = \"{key}\" }}\nobjects = [\"thing\"]\n{functions}\n\
         [[type]]\nname = \"t\"\nsubsystem = \"own_ops\"\nmembers = [{{ name = \"member\" }}]\n"
    );
    let mut ready = Vec::new();
    for (map, name) in [("m1", "a"), ("m2", "b"), ("m3", "a")] {
        text += &format!(
            "[[program]]\nname = \"{map}_p\"\ntype = \"t\"\nmember = \"member\"\nbody = \"{body}\"\n\
             [[map]]\nname = \"{map}\"\ntype = \"t\"\nkey = \"{name}\"\nprograms = [\"{map}_p\"]\n"
        );
        ready.extend([format!("map_create {map}"), format!("map_update {map}")]);
    }
    ready.extend(setup.iter().map(ToString::to_string));
    text += &format!("[run]\nsetup = {ready:?}\n");
    for operations in cpus {
        text += &format!(
            "[[cpu]]\ndo = {:?}\n",
            operations.split("; ").collect::<Vec<_>>()
        );
    }
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

const IF_FREE: &str = "reg = '''\nif slot goto taken; publish slot\nreturn\ntaken: return -EEXIST\n'''\n\
                       unreg = \"withdraw slot\"\n[subsystem.run]\nnothing = \"return\"";

/// Which of two attaches is refused is what the key of a slot says.
#[test]
fn entries_differ_in_the_key_of_their_slot() {
    let refused = |key: &str, second: &str, design: &str| {
        let attach = [
            "link_create m1 cookie=0x11 as l1".to_string(),
            format!("link_create {second} cookie=0x22 as l2"),
        ];
        let setup: Vec<&str> = attach.iter().map(String::as_str).collect();
        let scenario = several(key, IF_FREE, "read-cookie", &setup, &["run nothing"]);
        Machine::new(scenario.world, Design::parse(design).unwrap()).is_err()
    };
    for (key, same_map, other_name, same_name) in [
        ("one", true, true, true),
        ("name", true, false, true),
        ("map", true, false, false),
        ("kdata", true, false, false),
        ("link", false, false, false),
    ] {
        assert_eq!(
            refused(key, "m1", "mainline"),
            same_map,
            "{key}, the same map"
        );
        assert_eq!(
            refused(key, "m2", "mainline"),
            other_name,
            "{key}, another name"
        );
        assert_eq!(
            refused(key, "m3", "mainline"),
            same_name,
            "{key}, the same name"
        );
    }
    // An attachment has a kdata of its own.
    assert!(!refused("kdata", "m1", "link-owned"));
}

#[test]
fn what_is_right_breaks_nothing() {
    let links = [
        "link_create m1 cookie=0x11 as l1",
        "link_create m2 cookie=0x22 as l2",
    ];
    let update = "reg = \"publish slot\"\nunreg = '''\nwithdraw slot\nsynchronize_rcu\n'''\n\
                  update = '''\nreplace slot else goto bad\nsynchronize_rcu\nreturn\nbad: return -EINVAL\n'''\n\
                  [subsystem.run]\n";
    let walk = "walk = '''\nrcu_read_lock; find slot else goto out\nget else goto out\n\
                rcu_read_unlock\ncall member\nput; return\nout: rcu_read_unlock\n'''\n";
    // One entry has no next one, and of two the second is found once.
    let next = "next = '''\nfind slot else goto out; next slot else goto out; next slot else goto out\nuse thing\nout:\n'''\n";
    let functions = format!("{update}{walk}{next}");
    let cases = [
        (
            "one",
            &links[..1],
            ["link_update l1 m2; link_close l1; map_close m1", "run walk"],
        ),
        ("link", &links[..1], ["link_close l1", "run next"]),
        ("link", &links[..], ["link_close l1", "run next"]),
    ];
    for (key, setup, cpus) in cases {
        let scenario = several(key, &functions, "read-cookie", setup, &cpus);
        for design in ["mainline", "link-owned"] {
            let broken = broken(&scenario, &Design::parse(design).unwrap());
            assert_eq!(broken, [], "{key} under {design}: {cpus:?}");
        }
    }
}

#[test]
fn what_update_answers_is_what_link_update_answers() {
    let setup = ["link_create m1 cookie=0x11 as l1"];
    let broken = |update: &str, cpus: &[&str]| {
        let functions = format!(
            "reg = \"publish slot\"\nunreg = \"withdraw slot; return\"\nupdate = '''\n{update}\n'''\n\
             [subsystem.run]\nnothing = \"return\"\n"
        );
        let scenario = several("name", &functions, "read-cookie", &setup, cpus);
        let designs = ["mainline", "link-owned"].map(|d| Design::parse(d).unwrap());
        designs.map(|design| broken(&scenario, &design))
    };
    for err in ["-EINVAL", "-EPERM", "-ENOLINK", "-EBUSY", "-EOPNOTSUPP"] {
        let returns = format!("return {err}");
        let cpus = ["link_update l1 m3; link_close l1", "run nothing"];
        assert_eq!(broken(&returns, &cpus), [[], []], "{err}");
    }
    // It is refused, and what it has held of the link was the last reference: unreg() returns, and answers nothing.
    let replaces = "replace slot else goto bad; return\nbad: return -EINVAL";
    let cpus = ["link_update l1 m3 replace=m3", "link_close l1"];
    assert_eq!(broken(replaces, &cpus), [[], []]);
    // Another entry has that name.
    let cpus = [
        "link_create m2 cookie=0x22 as l2; link_update l1 m2",
        "run nothing",
    ];
    assert_eq!(broken(replaces, &cpus), [[], []]);
}

#[test]
fn a_walk_goes_on_behind_an_entry_that_has_gone() {
    // The first of two goes when the walk stands on it.
    let functions = "flags = { found = false }\nreg = \"publish slot\"\nunreg = '''\nwait found\nwithdraw slot\n'''\n\
                     [subsystem.run]\nwalk = '''\nfind slot else goto out; set found\nnext slot else goto skipped\n\
                     return\nskipped: use thing\nout:\n'''\n";
    let setup = [
        "link_create m1 cookie=0x11 as l1",
        "link_create m2 cookie=0x22 as l2",
    ];
    let cpus = ["link_close l1; link_info l2", "run walk"];
    let scenario = several("link", functions, "read-cookie", &setup, &cpus);
    assert_eq!(broken(&scenario, &Design::mainline()), []);
}

/// A work item, which holds no lock of theirs, unties programs under a mutex.
#[test]
fn own_locks_stand_beside_programs_that_ask() {
    let text = scenario(
        "mutex_lock a_lock; publish slot; mutex_unlock a_lock",
        UNREG,
        "use thing",
    );
    let text = text.replace(
        "source = \"a test\"",
        "source = \"a test\"\nlinux = \"7.3\"",
    );
    let asks = "[[program]]\nname = \"asks\"\nkind = \"syscall\"\n[[map]]";
    let text = text
        .replacen("[[map]]", asks, 1)
        .replace("use thing", "if up goto out\nout:");
    let text = text.replace(
        "\"link_close l1\"]",
        "\"prog_assoc asks m1\", \"link_close l1\", \"map_close m1\"]",
    );
    for design in [
        "association",
        "this-pointer",
        "link-owned,identity=association",
    ] {
        let broken = broken(&parse(&text).unwrap(), &Design::parse(design).unwrap());
        assert_eq!(broken, [], "{design}");
    }
}

#[test]
fn an_entry_that_somebody_overwrites_was_unregistered_by_a_stranger() {
    let functions =
        "reg = \"publish slot\"\nunreg = \"withdraw slot\"\n[subsystem.run]\nnothing = \"return\"";
    let attach = [
        "link_create m1 cookie=0x11 as l1; link_close l1",
        "link_create m2 cookie=0x22 as l2",
    ];
    let scenario = several("one", functions, "read-cookie", &[], &attach);
    assert!(broken(&scenario, &Design::mainline()).contains(&Invariant::NoForeignUnreg));
}

#[test]
fn a_program_that_fails_is_noticed() {
    let functions = "reg = '''\npublish slot\ncall member\nif failed goto bad\nreturn\nbad: withdraw slot; return -EIO\n'''\n\
                     unreg = \"withdraw slot\"\n[subsystem.run]\nnothing = \"return\"";
    for (body, refused) in [("fail", true), ("read-cookie", false)] {
        let setup = ["link_create m1 cookie=0x11 as l1"];
        let scenario = several("one", functions, body, &setup, &["run nothing"]);
        let machine = Machine::new(scenario.world, Design::mainline());
        assert_eq!(machine.is_err(), refused, "{body}");
    }
}
