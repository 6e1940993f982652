//! The BTF reader: the shipped extracts, and files that are not what they should be.

use quickcheck::quickcheck;
use struct_ops_sim::btf::{Btf, BtfError, MemberKind, OpsType, extract::Extract};
use struct_ops_sim::cost::{self, kernels};

const V7_3: &[u8] = include_bytes!("../btf/7.3.btf");

/// Function models of a type: name, argument sizes, return size.
fn models(kernel: &str, name: &str) -> Vec<(String, Vec<u8>, usize)> {
    let kernel = kernels::shipped(kernel).unwrap().unwrap();
    let ops = OpsType::read(&kernel.btf, name).unwrap();
    cost::members(&ops)
        .into_iter()
        .map(|(member, model)| {
            let sizes = model.args().iter().map(|arg| arg.size).collect();
            (member.to_owned(), sizes, model.ret_size())
        })
        .collect()
}

#[test]
fn shipped_types_are_there() {
    for name in cost::TYPES {
        for kernel in kernels::names() {
            let kernel = kernels::shipped(kernel).unwrap().unwrap();
            let there = OpsType::read(&kernel.btf, name).is_ok();
            // a struct_ops type since 6.16
            assert_eq!(
                there,
                !(kernel.name == "6.12" && name == "Qdisc_ops"),
                "{name} in {}",
                kernel.name
            );
        }
    }
    let dummy = models("6.12", "bpf_dummy_ops");
    assert_eq!(dummy[1], ("test_2".into(), vec![8, 4, 2, 1, 8], 4));
}

/// The members that a booted kernel took programs for, with the sizes that its own BTF has, are those of the extract.
#[test]
fn members_and_models_are_those_of_the_dumps() {
    #[derive(serde::Deserialize)]
    struct Dump {
        trampoline: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        what: String,
        args: Vec<u8>,
        ret: usize,
    }
    let dumps = [
        (
            "6.12",
            "tcp_congestion_ops",
            include_str!("../golden/6.12-ibt.toml"),
        ),
        (
            "6.12",
            "tcp_congestion_ops",
            include_str!("../golden/6.12.toml"),
        ),
        ("6.12", "sched_ext_ops", include_str!("../golden/6.12.toml")),
        (
            "7.3",
            "tcp_congestion_ops",
            include_str!("../golden/7.3-ibt.toml"),
        ),
        (
            "7.3",
            "sched_ext_ops",
            include_str!("../golden/7.3-ibt.toml"),
        ),
        ("7.3", "Qdisc_ops", include_str!("../golden/7.3-ibt.toml")),
    ];
    for (kernel, name, text) in dumps {
        let dump: Dump = toml::from_str(text).unwrap();
        let dumped: Vec<_> = dump
            .trampoline
            .into_iter()
            .filter_map(|entry| {
                let member = entry.what.strip_prefix(&format!("{name}."))?.to_owned();
                Some((member, entry.args, entry.ret))
            })
            .collect();
        assert_eq!(models(kernel, name), dumped, "{name} in {kernel}");
    }
}

/// What the sizes add up to is what kernels report.
#[test]
fn computed_is_what_was_measured() {
    let mainline = [struct_ops_model::Design::mainline()];
    let mut compared = 0;
    for kernel in kernels::names() {
        let kernel = kernels::shipped(kernel).unwrap().unwrap();
        for name in ["tcp_congestion_ops", "sched_ext_ops"] {
            let cost = cost::of_type(&kernel, name, &mainline, &[1]).unwrap();
            for measured in &cost.measured {
                let per_map = cost.designs[0].per_map;
                assert_eq!(measured.members, cost.members.len() as u64);
                assert_eq!(measured.memlock, per_map.charged);
                assert_eq!(measured.pages, measured.maps * per_map.pages);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3);
}

#[test]
fn what_is_not_btf_is_refused() {
    let parse = |bytes: &[u8]| Btf::parse(bytes).unwrap_err();
    assert_eq!(
        parse(b"\x7fELF\x02"),
        BtfError::NotBtf {
            found: "7f 45 4c 46".into()
        }
    );
    assert_eq!(parse(b"\xeb\x9f\x01\x00"), BtfError::BigEndian);
    assert_eq!(
        parse(b""),
        BtfError::CutShort {
            what: "the header",
            expected: 24,
            found: 0
        }
    );
    assert_eq!(
        parse(&V7_3[..10]),
        BtfError::CutShort {
            what: "the header",
            expected: 24,
            found: 10
        }
    );
    let half = &V7_3[..V7_3.len() / 2];
    assert!(matches!(parse(half), BtfError::CutShort { found, .. } if found == half.len()));
    let mut version = V7_3.to_vec();
    version[2] = 9;
    assert_eq!(parse(&version), BtfError::Version(9));
    let mut kind = V7_3.to_vec();
    kind[24 + 7] = 0x1f;
    assert!(matches!(parse(&kind), BtfError::BadType { id: 1, .. }));
}

#[test]
fn a_type_that_is_missing_is_named() {
    let btf = Btf::parse(V7_3).unwrap();
    let error = OpsType::read(&btf, "tcp_ops").unwrap_err();
    assert!(
        matches!(&error, BtfError::Missing { name, .. } if name == "struct_ops type `tcp_ops`")
    );
    assert!(error.to_string().contains("tcp_congestion_ops"), "{error}");
    let empty = Btf::parse(&Extract::new().finish()).unwrap();
    assert!(
        OpsType::read(&empty, "x")
            .unwrap_err()
            .to_string()
            .contains("modules")
    );
}

#[test]
fn an_extract_of_an_extract_is_the_same() {
    let btf = Btf::parse(V7_3).unwrap();
    let mut extract = Extract::new();
    for name in cost::TYPES {
        assert!(extract.add(&btf, name));
        assert!(extract.add_size(&btf, &format!("bpf_struct_ops_{name}")));
    }
    let again = Btf::parse(&extract.finish()).unwrap();
    for name in cost::TYPES {
        let ops = OpsType::read(&btf, name).unwrap();
        assert_eq!(OpsType::read(&again, name).unwrap(), ops);
        assert!(
            ops.members
                .iter()
                .any(|m| matches!(m.kind, MemberKind::Func(_)))
        );
    }
}

quickcheck! {
    /// A file with a few wrong bytes is read or refused; nothing else happens.
    fn damage_is_no_panic(at: usize, byte: u8, length: usize) -> bool {
        let mut bytes = V7_3.to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - length % 3 * (length % bytes.len()) / 3);
        if let Ok(btf) = Btf::parse(&bytes) {
            for name in cost::TYPES {
                let _ = OpsType::read(&btf, name);
            }
        }
        true
    }
}
