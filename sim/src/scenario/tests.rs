//! Every mistake has its place and its message; a good file becomes the world that it says.

use quickcheck::quickcheck;
use struct_ops_model::Invariant;
use struct_ops_model::world::{OpKind, Operation, Plan};

use super::Scenario;

const GOOD: &str = r#"title = "Two links on one tcp map"
question = "What does a second BPF_LINK_CREATE do to the first link?"
source = "the cookie RFC's open problem"

[[type]]
name = "ca"
subsystem = "tcp_congestion_ops"
members = [{ name = "ssthresh", required = true, size = 171 }, { name = "init", sleepable = true }]

[[program]]
name = "p1"
type = "ca"
member = "ssthresh"

[[map]]
name = "m1"
type = "ca"
key = "bpf_cubic"
programs = ["p1"]

[run]
alloc-failures = 1
cookies = [0x11]
setup = ["map_create m1", "map_update m1", "link_create m1 cookie=0x11 as l1"]

[[cpu]]
do = ["link_create m1 cookie=0x22 as l2", "link_update l1 m1 replace=m1", "sock_open bpf_cubic", "sock_call 0 ssthresh"]

[[cpu]]
choose = ["link_create", "link_detach"]
times = 3

[expect]
mainline = []
rfc = ["no-use-after-free", "cookie-fidelity"]
"#;

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse("two", "two.toml", text).map_err(|e| e.to_string())
}

/// The message for the good file with one thing replaced.
fn broken(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).expect_err("a mistake")
}

#[test]
fn a_good_file_is_understood() {
    let scenario = parse(GOOD).unwrap();
    let world = &scenario.world;
    assert_eq!(scenario.head.title, "Two links on one tcp map");
    assert_eq!(world.cookies, [0, 0x11, 0x22]);
    assert_eq!(world.links, ["l1", "l2"]);
    assert_eq!(world.keys, ["bpf_cubic"]);
    assert_eq!(world.maps[0].progs[0], Some(0));
    assert_eq!(
        world.setup[2],
        Operation::LinkCreate {
            target: None,
            position: None,
            revision: None,
            map: 0,
            cookie: 1,
            link: 0
        }
    );
    let Plan::Fixed(operations) = &world.cpus[0].plan else {
        panic!("a fixed plan")
    };
    assert_eq!(
        operations[0],
        Operation::LinkCreate {
            target: None,
            position: None,
            revision: None,
            map: 0,
            cookie: 2,
            link: 1
        }
    );
    assert_eq!(
        operations[1],
        Operation::LinkUpdate {
            link: 0,
            map: 0,
            replace: Some(0)
        }
    );
    assert_eq!(
        world.cpus[1].plan,
        Plan::Free {
            kinds: vec![OpKind::LinkCreate, OpKind::LinkDetach],
            budget: 3
        }
    );
    assert_eq!(
        scenario.head.expectation("rfc"),
        Some(&[Invariant::CookieFidelity, Invariant::NoUseAfterFree][..])
    );
    assert_eq!(scenario.head.expectation("link-owned"), None);
}

#[test]
fn any_is_what_has_a_meaning() {
    let text = GOOD.replace(
        "choose = [\"link_create\", \"link_detach\"]",
        "choose = \"any\"",
    );
    let scenario = parse(&text).unwrap();
    let Plan::Free { kinds, .. } = &scenario.world.cpus[1].plan else {
        panic!("a free plan")
    };
    assert!(kinds.contains(&OpKind::SockOpen) && kinds.contains(&OpKind::LinkPin));
    for absent in [
        OpKind::Exit,
        OpKind::SysBpfLinkCreate,
        OpKind::ScxError,
        OpKind::Rmmod,
        OpKind::TestRun,
        OpKind::Run,
    ] {
        assert!(!kinds.contains(&absent), "{absent:?}");
    }
}

#[test]
fn a_mistake_has_its_place() {
    assert_eq!(
        broken("link_update l1 m1", "link_update l1 m2"),
        "two.toml:27:59: unknown map `m2`: the only one is m1\n  \
           27 | do = [\"link_create m1 cookie=0x22 as l2\", \"link_update l1 m2 replace=m1\", \"sock_open bpf_cubic\", \"sock_call 0 ssthresh\"]\n     \
              |                                                           ^^"
    );
    assert_eq!(
        broken("[expect]", "[expekt]"),
        "two.toml:33:2: unknown key `expekt`, expected one of `kind`, `title`, `question`, `source`, `find`, `linux`, \
         `fault`, `extended`, `designs`, `designs-why`, `subsystem`, `type`, `program`, `map`, `cgroup`, `run`, `cpu`, `expect`; did you mean `expect`?\n  33 | [expekt]\n     |  ^^^^^^"
    );
}

#[test]
fn every_mistake_is_named() {
    for (from, to, message) in [
        (
            "\"tcp_congestion_ops\"",
            "\"tcp_congestion\"",
            "two.toml:7:13: unknown subsystem `tcp_congestion`",
        ),
        (
            "\"tcp_congestion_ops\"",
            "\"sched_ext_ops-6.12\"",
            "two.toml:7:13: subsystem `sched_ext_ops-6.12`: write `sched_ext_ops` here, and `linux = \"6.12\"`",
        ),
        (
            "\"tcp_congestion_ops\"",
            "\"bpf_testmod_multi_st_ops\"",
            "two.toml:7:13: Linux 6.12 has no bpf_testmod_multi_st_ops: write `linux = \"7.3\"`",
        ),
        (
            "source = ",
            "linux = \"6.13\"\nsource = ",
            "unknown Linux `6.13`: expected one of 6.12, 7.3",
        ),
        (
            "\"tcp_congestion_ops\"",
            "\"tcp_congestion\"",
            "did you mean `tcp_congestion_ops`?",
        ),
        (
            "member = \"ssthresh\"",
            "member = \"sstresh\"",
            "unknown member of type ca `sstresh`",
        ),
        (
            "member = \"ssthresh\"",
            "member = \"ssthresh\"\nbody = \"sleep\"",
            "is not `sleepable = true`",
        ),
        (
            "member = \"ssthresh\"",
            "member = \"ssthresh\"\nbody = \"slep\"",
            "did you mean `sleep`?",
        ),
        (
            "programs = [\"p1\"]",
            "programs = [\"p1\", \"p1\"]",
            "are both for member ssthresh",
        ),
        (
            "size = 171",
            "size = 0",
            "two.toml:8:57: size is 0: expected 1 to 4096",
        ),
        (
            "name = \"init\"",
            "name = \"ssthresh\"",
            "member `ssthresh` is there already",
        ),
        (
            "name = \"m1\"",
            "name = \"m 1\"",
            "expected 1 to 64 letters, digits",
        ),
        (
            "alloc-failures = 1",
            "alloc-failures = -1",
            "alloc-failures is -1: expected 0 to 8",
        ),
        (
            "alloc-failures = 1",
            "processes = 2",
            "no CPU runs process 1",
        ),
        ("cookies = [0x11]", "cookies = [0]", "always there"),
        (
            "cookies = [0x11]",
            "cookies = [0x11, 17]",
            "cookie 0x11 is there already",
        ),
        (
            "map_create m1",
            "map_crate m1",
            "did you mean `map_create`?",
        ),
        (
            "map_create m1",
            "map_create",
            "ends where a map is expected: write `map_create MAP`",
        ),
        ("map_create m1", "map_create m1 m1", "one word too many"),
        ("map_create m1", "", "an empty operation"),
        (
            "cookie=0x22 as l2",
            "cookie=twelve as l2",
            "cookie `twelve`",
        ),
        (
            "cookie=0x22 as l2",
            "cookie=0x22",
            "ends where `as LINK` is expected",
        ),
        (
            "link_update l1",
            "link_update l3",
            "unknown link `l3`: expected one of l1, l2",
        ),
        (
            "map_update m1\"",
            "link_close l2\"",
            "link `l2` is created only after this operation",
        ),
        (
            "sock_open bpf_cubic",
            "sock_open cubic",
            "unknown key `cubic`: the only one is bpf_cubic",
        ),
        (
            "sock_call 0",
            "sock_call 2",
            "`2` is not a socket: expected a number from 0 to 1",
        ),
        (
            "sock_call 0 ssthresh",
            "scx_error",
            "`scx_error` has no meaning here",
        ),
        (
            "choose = [\"link_create\", \"link_detach\"]",
            "choose = \"all\"",
            "expected \"any\" or a list",
        ),
        (
            "choose = [\"link_create\", \"link_detach\"]",
            "choose = 3",
            "expected \"any\" or a list",
        ),
        (
            "choose = [\"link_create\", \"link_detach\"]",
            "choose = [\"exit\"]",
            "two.toml:30:11: `exit` is not to be chosen",
        ),
        ("\ntimes = 3", "", "`choose` without `times`"),
        ("times = 3", "times = 0", "times is 0: expected 1 to 100"),
        ("mainline = []", "mainlane = []", "did you mean `mainline`?"),
        (
            "mainline = []",
            "mainline = [\"cookie-fidelity\"]",
            "does not apply to `mainline`",
        ),
        (
            "\"no-use-after-free\"",
            "\"use-after-free\"",
            "did you mean `no-use-after-free`?",
        ),
        (
            "mainline = []",
            "mainline = \"set-up works\"",
            "two.toml:34:12: `set-up works`: expected a list of invariants, or \"set-up fails\"",
        ),
        (
            "mainline = []",
            "mainline = 0",
            "expected a list of invariants, or \"set-up fails\"",
        ),
        (
            "as l2",
            "as l1",
            "two.toml:27:38: link `l1` is there already",
        ),
        ("[expect]", "[expect", "two.toml:33:8:"),
        (
            "title =",
            "designs = [\"rfc\"]\ntitle =",
            "say why in `designs-why`",
        ),
        (
            "title =",
            "designs = [\"rfc\"]\ndesigns-why = \"x\"\ntitle =",
            "`designs` leaves `mainline` out",
        ),
        (
            "title = \"Two links on one tcp map\"\n",
            "",
            "missing key `title`",
        ),
        (
            "title = \"Two links on one tcp map\"",
            "title = 3",
            "found integer `3`, expected a string",
        ),
    ] {
        let found = broken(from, to);
        assert!(
            found.contains(message),
            "{to}: expected {message}, found {found}"
        );
    }
}

quickcheck! {
    /// Whatever is done to a file, the parser answers.
    fn never_panics(cuts: Vec<(u16, u8, String)>) -> bool {
        let mut text = GOOD.to_string();
        for (at, length, insert) in cuts {
            let at = usize::from(at) % (text.len() + 1);
            let end = (at + usize::from(length % 12)).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &insert);
            }
        }
        match parse(&text) {
            Ok(scenario) => !scenario.world.cpus.is_empty(),
            Err(message) => message.starts_with("two.toml:"),
        }
    }

    /// Words of the language in other places: nearer to what people get wrong than random characters.
    fn moved_words(moves: Vec<(u16, u16)>) -> bool {
        let mut words: Vec<&str> = GOOD.split_inclusive([' ', '\n', '"', ',']).collect();
        for (a, b) in moves {
            let (a, b) = (usize::from(a) % words.len(), usize::from(b) % words.len());
            words[a] = words[b];
        }
        match parse(&words.concat()) {
            Ok(scenario) => !scenario.world.types.is_empty(),
            Err(message) => message.starts_with("two.toml:"),
        }
    }
}
