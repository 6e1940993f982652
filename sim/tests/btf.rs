//! The BTF reader: the shipped extracts, files that are not what they should be, and what is concluded from BTF about a
//! kernel's code generator. Small files are made here; those that `tests/cmd/cost.trycmd` reads are in `tests/btf/`.

mod builder;

use builder::{ARRAY, FUNC_PROTO, File, INT, PTR, STRUCT};
use quickcheck::quickcheck;
use struct_ops_model::Design;
use struct_ops_sim::btf::{Btf, BtfError, MemberKind, OpsType, Type, extract::Extract};
use struct_ops_sim::cost::generator::Generator;
use struct_ops_sim::cost::{self, kernels};
use struct_ops_sim::tramp::Version;

const V7_3: &[u8] = include_bytes!("../btf/7.3.btf");
const ARM64: &[u8] = include_bytes!("btf/7.3-arm64.btf");

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
    let mainline = [Design::mainline()];
    let mut compared = 0;
    for kernel in kernels::names() {
        let kernel = kernels::shipped(kernel).unwrap().unwrap();
        for name in ["tcp_congestion_ops", "sched_ext_ops"] {
            let cost = cost::of_type(&kernel, name, &mainline, &[1]).unwrap();
            for measured in &cost.measured {
                let per_map = cost.designs[0].per_map;
                assert_eq!(measured.members, cost.members.len() as u64);
                assert_eq!(Some(measured.memlock), per_map.charged);
                assert_eq!(
                    Some(measured.pages),
                    per_map.pages.map(|n| n * measured.maps)
                );
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
            found: "7f 45 4c 46".into(),
            hint: "; an ELF file's is in its .BTF section: objcopy --dump-section .BTF=OUT FILE /dev/null",
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
            .contains("--btf-base")
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

/// A file with a layout section is read although it has kinds that are not known here.
#[test]
fn unknown_kinds_are_stepped_over_where_the_layout_section_describes_them() {
    let mut file = File::new();
    let int = file.entry("int", INT, 0, 4, &[32]);
    file.entry("one", 20, 0, 8, &[1, 2]);
    file.entry("many", 21, 3, int, &[int, int, int]);
    file.entry("both", 22, 2, 0, &[7, 1, 2, 3, 4]);
    // 7 bits of kind, 24 of vlen
    file.entry("far", 127, 0x1_0000, 0, &vec![0; 0x1_0000]);
    let last = file.entry("last", STRUCT, 1, 4, &[0, int, 0]);
    let mut layout = [[0; 2]; 128];
    layout[20] = [8, 0];
    layout[21] = [0, 4];
    layout[22] = [4, 8];
    layout[127] = [0, 4];
    let mut layouts = layout.to_vec();
    let btf = Btf::parse(&file.with_layout(&layouts)).unwrap();
    assert_eq!(btf.find_struct("last"), Some(last));
    assert_eq!(btf.struct_size("last"), Ok(4));

    let refused = |layout: &[[u8; 2]]| Btf::parse(&file.with_layout(layout)).unwrap_err();
    layouts.truncate(22);
    let error = refused(&layouts).to_string();
    assert!(
        error.starts_with("type 4 of 4: kind 22, expected 1 to 19, or below 22"),
        "{error}"
    );
    layouts[21] = [0, 3];
    let error = refused(&layouts).to_string();
    assert!(error.starts_with("type 3 of 3: kind 21, of"), "{error}");
    let error = refused(&[]).to_string();
    assert!(
        error.contains("kind 20, expected 1 to 19, or a layout"),
        "{error}"
    );
    let mut bytes = file.with_layout(&layout);
    let at = bytes.len() - 4 * 128;
    bytes[28..30].copy_from_slice(&511u16.to_le_bytes());
    let error = Btf::parse(&bytes).unwrap_err().to_string();
    assert!(error.contains("511 bytes, expected a multiple"), "{error}");
    bytes[28..30].copy_from_slice(&512u16.to_le_bytes());
    bytes.truncate(at + 8);
    assert!(matches!(
        Btf::parse(&bytes),
        Err(BtfError::CutShort {
            what: "the layout section",
            ..
        })
    ));
}

/// Kind 0 is none, although the layout section has a line for it.
#[test]
fn kind_0_is_refused() {
    let mut file = File::new();
    file.entry("", 0, 0, 0, &[]);
    let error = Btf::parse(&file.with_layout(&[[0; 2]; 20])).unwrap_err();
    assert!(error.to_string().contains("kind 0"), "{error}");
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let mut bytes = V7_3.to_vec();
    bytes[4] = 20;
    assert_eq!(
        Btf::parse(&bytes).unwrap_err().to_string(),
        "header: it says that it has 20 bytes, expected at least 24"
    );
    // vlen alone takes no memory
    let mut file = File::new();
    file.entry("huge", STRUCT, 0xff_ffff, 4, &[]);
    let error = Btf::parse(&file.finish()).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
}

#[test]
fn structs_of_more_than_65535_fields_are_read() {
    let mut file = File::new();
    let int = file.entry("int", INT, 0, 4, &[32]);
    let name = file.string("f");
    let fields = [name, int, 0].repeat(0x1_0001);
    file.entry("large", STRUCT, 0x1_0001, 4, &fields);
    let id = file.entry("last", STRUCT, 0, 4, &[]);
    let btf = Btf::parse(&file.finish()).unwrap();
    assert_eq!(btf.find_struct("last"), Some(id));
    assert!(matches!(btf.get(id - 1).1, Type::Struct { fields, .. } if fields.len() == 0x1_0001));
}

#[test]
fn a_32_bit_kernel_is_refused() {
    let mut file = File::new();
    file.entry("long unsigned int", INT, 0, 4, &[32]);
    let error = Btf::parse(&file.finish()).unwrap_err();
    assert_eq!(
        error,
        BtfError::Bits32 {
            long: "long unsigned int"
        }
    );
}

/// A module's BTF: a struct_ops type of its own over a type of its kernel.
fn module(base: &[u8]) -> Vec<u8> {
    let kernel = Btf::parse(base).unwrap();
    let sock = kernel.find_struct("bpf_struct_ops_value").unwrap();
    let mut file = File::on(base, kernel.nr_types() as u32);
    let ptr = file.entry("", PTR, 0, sock, &[]);
    let arg = file.string("arg");
    let proto = file.entry("", FUNC_PROTO, 1, 0, &[arg, ptr]);
    let func = file.entry("", PTR, 0, proto, &[]);
    let member = file.string("run");
    // a member that no trampoline can stand for
    let wide = file.entry("__int128", INT, 0, 16, &[128]);
    let proto = file.entry("", FUNC_PROTO, 0, wide, &[]);
    let wide = file.entry("", PTR, 0, proto, &[]);
    let count = file.string("count");
    let members = [member, func, 0, count, wide, 64];
    file.entry("module_ops", STRUCT, 2, 16, &members);
    file.entry("bpf_struct_ops_module_ops", STRUCT, 0, 128, &[]);
    file.finish()
}

#[test]
fn split_btf_is_read_over_its_base() {
    let bytes = module(V7_3);
    assert_eq!(Btf::parse(&bytes).unwrap_err(), BtfError::Split);
    let base = Btf::parse(V7_3).unwrap();
    assert_eq!(
        Btf::parse_split(V7_3, base.clone()).unwrap_err(),
        BtfError::NotSplit
    );
    let btf = Btf::parse_split(&bytes, base).unwrap();
    let ops = OpsType::read(&btf, "module_ops").unwrap();
    assert_eq!(ops.funcs().count(), 1);
    assert!(OpsType::read(&btf, "tcp_congestion_ops").is_ok());
    let kernel = kernels::of_btf("module", btf).unwrap();
    let cost = cost::of_type(&kernel, "module_ops", &[Design::mainline()], &[1]).unwrap();
    assert_eq!(cost.members[0].bytes, Some(64 + 105));
    assert_eq!(cost.members.len(), 1);
    assert_eq!(cost.unsupported[0].member, "count");

    // another kernel's BTF as base: names begin in the middle of its strings, or types are missing
    let other = Btf::parse(include_bytes!("../btf/6.12.btf")).unwrap();
    let error = Btf::parse_split(&bytes, other).unwrap_err();
    assert!(matches!(error, BtfError::BadType { .. }), "{error}");
}

/// A split file finds its unknown kinds described in its base.
#[test]
fn the_layout_of_a_base_is_that_of_its_modules() {
    let mut file = File::new();
    let int = file.entry("int", INT, 0, 4, &[32]);
    let mut layout = [[0; 2]; 24];
    layout[23] = [4, 0];
    let base = file.with_layout(&layout);
    let mut split = File::on(&base, 2);
    split.entry("unknown", 23, 0, 0, &[1]);
    split.entry("last", STRUCT, 1, 4, &[0, int, 0]);
    let btf = Btf::parse_split(&split.finish(), Btf::parse(&base).unwrap()).unwrap();
    assert_eq!(btf.find_struct("last"), Some(3));
}

/// What BTF shows of 7.3, without some of it.
fn generator_without(left_out: &str) -> Generator {
    let btf = Btf::parse(V7_3).unwrap();
    let mut extract = Extract::new();
    for name in [
        "pt_regs",
        "bpf_tramp_run_ctx",
        "bpf_verifier_ops",
        "bpf_tramp_image",
    ] {
        assert!(name == left_out || extract.add(&btf, name), "{name}");
    }
    assert!(left_out == "save_args" || extract.add_func(&btf, "save_args"));
    Generator::of_btf(&Btf::parse(&extract.finish()).unwrap())
}

#[test]
fn a_generator_needs_evidence() {
    let version = |generator: &Generator| generator.jit.map(|jit| jit.version);
    assert_eq!(version(&generator_without("")), Some(Version::V7_3));
    let sentence = |left_out| {
        let generator = generator_without(left_out);
        assert_eq!(generator.jit, None, "without {left_out}");
        generator.sentence()
    };
    let none = "as none of those known here (6.12 to 6.18, 6.19 to 7.1, 7.2, 7.3); --generator takes one all the same.";
    assert_eq!(
        sentence("bpf_tramp_run_ctx"),
        format!(
            "none: its BTF has no struct bpf_tramp_run_ctx (its trampolines hand on no cookie), {none}"
        )
    );
    assert_eq!(
        sentence("save_args"),
        format!(
            "none: its BTF has bpf_tramp_image.skips, no bpf_tramp_image.ip_after_call, no function save_args(), {none}"
        )
    );
    assert!(
        sentence("bpf_verifier_ops").contains("no struct bpf_verifier_ops (it is older than 6.12)")
    );
    assert!(sentence("bpf_tramp_image").contains("no struct bpf_tramp_image"));
    assert_eq!(
        sentence("pt_regs"),
        "none: the architecture is not known to be x86-64 (its BTF has no struct pt_regs); --generator takes it to be \
         that."
    );
    // asked for, it is taken, unless it is another architecture's
    let asked = generator_without("save_args").asked(Version::V7_2).unwrap();
    assert_eq!(version(&asked), Some(Version::V7_2));
    assert!(
        asked
            .sentence()
            .starts_with("that of Linux 7.2, as asked for;")
    );
    let arm64 = Generator::of_btf(&Btf::parse(ARM64).unwrap());
    assert_eq!((arm64.machine, arm64.jit), (Some("arm64"), None));
    assert!(arm64.asked(Version::V7_3).is_err());
}

/// What does not depend on the code is known of other architectures too; the size of a page is read from BTF.
#[test]
fn memory_without_a_generator() {
    let designs = [Design::mainline(), Design::link_owned()];
    let costs = |btf: Btf| {
        let kernel = kernels::of_btf("arm64", btf).unwrap();
        cost::of_type(&kernel, "tcp_congestion_ops", &designs, &[10]).unwrap()
    };
    let arm64 = costs(Btf::parse(ARM64).unwrap());
    let x86 = kernels::shipped("7.3").unwrap().unwrap();
    let x86 = cost::of_type(&x86, "tcp_congestion_ops", &designs, &[10]).unwrap();
    assert_eq!(arm64.members.len(), x86.members.len());
    assert!(arm64.members.iter().all(|m| m.bytes.is_none()));
    assert_eq!(arm64.pages, None);
    for (arm64, x86) in arm64.designs.iter().zip(&x86.designs) {
        assert_eq!(arm64.per_map.charged, x86.per_map.charged);
        assert_eq!(arm64.per_link.objects, x86.per_link.objects);
        assert_eq!(arm64.links[0].memory.objects, x86.links[0].memory.objects);
        assert_eq!(arm64.links[0].memory.total(), None);
    }
    // the same with pages of 64 KiB
    let mut wide = File::read(ARM64);
    wide.move_field("consumer_pos", 8 * 0x1_0000);
    let wide = costs(Btf::parse(&wide.finish()).unwrap());
    let charged = |cost: &cost::TypeCost| cost.designs[0].per_map.charged.unwrap();
    assert_eq!(charged(&wide), charged(&arm64) + 0xf000);
}

/// More links than there is memory are refused, not counted wrongly.
#[test]
fn links_beyond_counting_are_refused() {
    let kernel = kernels::shipped("7.3").unwrap().unwrap();
    let cost = |links| cost::of_type(&kernel, "bpf_dummy_ops", &[Design::rfc()], &[links]);
    assert!(cost(1 << 40).is_ok());
    let error = cost(u64::MAX).unwrap_err().to_string();
    assert!(error.contains("18446744073709551615 links"), "{error}");
}

/// What `btf_distill_func_proto()` and `bpf_struct_ops_desc_init()` make of values in more than one register.
#[test]
fn large_values() {
    let btf = Btf::parse(include_bytes!("btf/large-values.btf")).unwrap();
    let ops = OpsType::read(&btf, "my_ops").unwrap();
    let refusal = |name| match cost::member(&ops, name).unwrap() {
        Err(why) => why,
        Ok(model) => panic!("{name}: {model:?}"),
    };
    assert!(cost::member(&ops, "arg128").unwrap().is_ok());
    assert!(refusal("ret128").starts_with("a return value of 16 bytes, expected 0 to 8"));
    assert!(refusal("byval").starts_with("argument 1 has 24 bytes, expected 1 to 16"));
    assert_eq!(cost::member(&ops, "none"), None);
}

/// Prototypes that the kernel refuses, in the order in which it looks.
#[test]
fn prototypes_that_are_refused() {
    let refusal = |ret: &str, params: &[&str]| {
        let mut file = File::new();
        let int = file.entry("int", INT, 0, 4, &[32]);
        let float = file.entry("double", builder::FLOAT, 0, 8, &[]);
        let array = file.entry("", ARRAY, 0, 0, &[int, int, 2]);
        let fwd = file.entry("fwd", builder::FWD, 0, 0, &[]);
        let id = |name: &str| match name {
            "int" => int,
            "double" => float,
            "array" => array,
            "fwd" => fwd,
            _ => 0,
        };
        let params: Vec<u32> = params.iter().flat_map(|p| [0, id(p)]).collect();
        let proto = file.entry("", FUNC_PROTO, params.len() as u32 / 2, id(ret), &params);
        let ptr = file.entry("", PTR, 0, proto, &[]);
        let name = file.string("f");
        file.entry("o", STRUCT, 1, 8, &[name, ptr, 0]);
        file.entry("bpf_struct_ops_o", STRUCT, 0, 128, &[]);
        let btf = Btf::parse(&file.finish()).unwrap();
        match &OpsType::read(&btf, "o").unwrap().members[0].kind {
            MemberKind::Unsupported(why) => Some(why.clone()),
            _ => None,
        }
    };
    assert_eq!(refusal("int", &["int"; 12]), None);
    let why = |ret, params: &[&str]| refusal(ret, params).unwrap();
    assert!(why("int", &["int"; 13]).starts_with("13 arguments"));
    assert!(why("double", &[]).starts_with("its return value"));
    assert!(why("int", &["double"]).contains("is no integer"));
    assert!(why("int", &["array"]).contains("is no integer"));
    assert!(why("int", &["fwd"]).contains("is no integer"));
    assert!(why("int", &["int", "void"]).starts_with("variable arguments"));
    assert!(why("int", &["void", "int"]).contains("is no integer"));
}

/// The files that the transcripts of `cost` read.
#[test]
fn the_files_of_the_transcripts() {
    let mut unknown = File::new();
    unknown.entry("int", INT, 0, 4, &[32]);
    unknown.entry("loc", 20, 0, 0, &[]);
    let mut big_endian = File::new().finish();
    big_endian[..2].copy_from_slice(&[0xeb, 0x9f]);
    let mut bits32 = File::new();
    bits32.entry("long unsigned int", INT, 0, 4, &[32]);
    let mut old = File::read(V7_3);
    old.rename("bpf_tramp_run_ctx", "bpf_tramp_run_old");
    let files = [
        ("unknown-kind.btf", unknown.finish()),
        ("big-endian.btf", big_endian),
        ("32-bit.btf", bits32.finish()),
        ("no-cookie.btf", old.finish()),
        ("module.btf", module(V7_3)),
    ];
    for (name, bytes) in files {
        let path = format!("{}/tests/btf/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var("TRYCMD").as_deref() == Ok("overwrite") {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "{name} is not what is made here"
        );
    }
}

/// Reads a file over a base and concludes what there is to be concluded.
fn read_all(bytes: &[u8], base: Option<&Btf>) {
    let btf = match base {
        Some(base) => Btf::parse_split(bytes, base.clone()),
        None => Btf::parse(bytes),
    };
    let Ok(btf) = btf else { return };
    for name in cost::TYPES.iter().chain(&["module_ops"]) {
        let _ = OpsType::read(&btf, name);
    }
    let _ = Generator::of_btf(&btf).sentence();
    if let Ok(kernel) = kernels::of_btf("damaged", btf) {
        let _ = cost::of_type(&kernel, "module_ops", &[Design::link_owned()], &[1 << 60]);
        let _ = cost::of_type(&kernel, "bpf_dummy_ops", &[Design::rfc()], &[1 << 60]);
    }
}

quickcheck! {
    /// A file with a few wrong bytes is read or refused; nothing else happens.
    fn damage_is_no_panic(places: Vec<(usize, u8)>, length: usize) -> bool {
        let mut layout = File::new();
        layout.entry("int", INT, 0, 4, &[32]);
        layout.entry("unknown", 20, 2, 0, &[1, 2, 3]);
        layout.entry("bpf_struct_ops_module_ops", STRUCT, 0, 128, &[]);
        let layout = layout.with_layout(&[[4, 4]; 21]);
        let base = Btf::parse(V7_3).unwrap();
        for (bytes, base) in [
            (V7_3, None),
            (ARM64, None),
            (&module(V7_3)[..], Some(&base)),
            (&layout[..], None),
        ] {
            let mut bytes = bytes.to_vec();
            for (at, byte) in &places {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            bytes.truncate(bytes.len() - length % 3 * (length % bytes.len()) / 3);
            read_all(&bytes, base);
        }
        true
    }
}
