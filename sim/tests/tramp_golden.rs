//! Byte equality: what booted kernels emitted, the generator emits from the same inputs.
//!
//! `sim/golden/*.toml` holds the kernels' bytes with everything that went into them. Nothing is masked: call targets are
//! the addresses that the dump names. Two pointers that nothing but the code tells (`struct bpf_prog *`,
//! `struct bpf_tramp_image *`) are read from the code itself; each stands there at least twice. The generator is the one
//! that an extract of the same kernel's BTF leads to.

use std::collections::BTreeMap;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use serde::Deserialize;
use struct_ops_sim::btf::Btf;
use struct_ops_sim::cost::generator::Generator;
use struct_ops_sim::report::cost::instructions;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::tramp::{
    Flags, Func, FuncModel, Jit, Kind, Return, Targets, TrampLink, Trampoline, Version,
};

#[derive(Deserialize)]
struct Dump {
    kernel: String,
    targets: BTreeMap<String, String>,
    trampoline: Vec<Entry>,
    jit: JitEntry,
}

#[derive(Deserialize)]
struct JitEntry {
    ibt: bool,
    r#return: String,
    thunk: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    what: String,
    args: Vec<usize>,
    ret: usize,
    /// The traced function; absent for struct_ops.
    func: Option<String>,
    #[serde(default)]
    endbr: bool,
    #[serde(default)]
    ip_arg: bool,
    #[serde(default)]
    jmp: bool,
    at: String,
    code: String,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    kind: String,
    bpf_func: String,
    cookie: String,
    sleepable: bool,
    recur: bool,
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect(text)
}

fn dumps() -> Vec<(String, Dump)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "toml"))
        .map(|f| {
            let text = std::fs::read_to_string(&f).unwrap();
            let name = f.file_name().unwrap().to_string_lossy().into_owned();
            (
                name,
                toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", f.display())),
            )
        })
        .collect()
}

/// "6.12.117+deb13-cloud-amd64" is a 6.12.
fn series(release: &str) -> String {
    let numbers: Vec<&str> = release.split('.').take(2).collect();
    numbers.join(".")
}

/// The generator that the kernel's BTF leads to.
fn version(release: &str) -> Version {
    let file = format!("{}.btf", series(release));
    let folders = ["btf", "tests/btf"];
    let bytes = folders
        .iter()
        .find_map(|folder| {
            std::fs::read(format!("{}/{folder}/{file}", env!("CARGO_MANIFEST_DIR"))).ok()
        })
        .unwrap_or_else(|| panic!("no {file} in {folders:?}"));
    let generator = Generator::of_btf(&Btf::parse(&bytes).unwrap());
    let jit = generator.jit;
    jit.unwrap_or_else(|| panic!("{file}: {}", generator.sentence()))
        .version
}

fn jit(dump: &Dump) -> Jit {
    let version = version(&dump.kernel);
    let ret = match dump.jit.r#return.as_str() {
        "ret" => Return::Ret,
        "ret; int3" => Return::RetInt3,
        "jmp" => Return::Thunk(number(dump.jit.thunk.as_deref().unwrap())),
        other => panic!("return = {other}"),
    };
    Jit {
        version,
        ibt: dump.jit.ibt,
        ret,
    }
}

fn targets(dump: &Dump) -> Targets {
    let target = |name: &str| number(&dump.targets[name]);
    Targets {
        enter: target("__bpf_prog_enter"),
        exit: target("__bpf_prog_exit"),
        enter_sleepable: target("__bpf_prog_enter_sleepable"),
        exit_sleepable: target("__bpf_prog_exit_sleepable"),
        enter_recur: target("__bpf_prog_enter_recur"),
        exit_recur: target("__bpf_prog_exit_recur"),
        enter_sleepable_recur: target("__bpf_prog_enter_sleepable_recur"),
        exit_sleepable_recur: target("__bpf_prog_exit_sleepable_recur"),
        tramp_enter: target("__bpf_tramp_enter"),
        tramp_exit: target("__bpf_tramp_exit"),
    }
}

/// The pointers that only the code tells: one `struct bpf_prog *` per link, and the `struct bpf_tramp_image *`.
fn pointers(code: &[u8], at: u64, tramp_enter: u64) -> (Vec<u64>, u64) {
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, at, DecoderOptions::NONE)
        .iter()
        .collect();
    let mut progs = Vec::new();
    let mut im = 0;
    for pair in instructions.windows(2) {
        let loads_rdi =
            pair[0].code() == Code::Mov_r64_imm64 && pair[0].op0_register() == Register::RDI;
        if pair[1].code() == Code::Lea_r64_m && pair[1].op0_register() == Register::RSI {
            assert!(loads_rdi);
            progs.push(pair[0].immediate64());
        }
        if loads_rdi && pair[1].is_call_near() && pair[1].near_branch_target() == tramp_enter {
            im = pair[0].immediate64();
        }
    }
    (progs, im)
}

#[test]
fn kernels_emitted_these_bytes() {
    let mut compared = BTreeMap::new();
    for (file, dump) in dumps() {
        let (jit, targets) = (jit(&dump), targets(&dump));
        for entry in &dump.trampoline {
            let expected: Vec<u8> = entry
                .code
                .split_whitespace()
                .map(|b| u8::from_str_radix(b, 16).unwrap())
                .collect();
            let at = number(&entry.at);
            let (progs, im) = pointers(&expected, at, targets.tramp_enter);
            assert_eq!(progs.len(), entry.links.len(), "{file}: {}", entry.what);
            let links: Vec<TrampLink> = entry
                .links
                .iter()
                .zip(progs)
                .map(|(link, prog)| TrampLink {
                    prog,
                    bpf_func: number(&link.bpf_func),
                    cookie: number(&link.cookie),
                    kind: match link.kind.as_str() {
                        "struct_ops" | "fentry" => Kind::Fentry,
                        "fmod_ret" => Kind::ModifyReturn,
                        "fexit" => Kind::Fexit,
                        other => panic!("kind = {other}"),
                    },
                    sleepable: link.sleepable,
                    recur: link.recur,
                })
                .collect();
            let model = FuncModel::new(&entry.args, entry.ret).unwrap();
            let mut flags = match entry.func {
                None => Flags::struct_ops(&model),
                Some(_) => Flags::tracing(&links, entry.jmp),
            };
            if entry.ip_arg {
                flags = flags | Flags::IP_ARG;
            }
            let func = Func {
                addr: entry.func.as_deref().map_or(0, number),
                endbr: entry.endbr,
                im,
            };
            let trampoline = Trampoline {
                jit,
                model: &model,
                flags,
                links: &links,
                targets: &targets,
                func,
            };
            let code = trampoline.generate(at).unwrap();
            assert!(
                code.bytes() == expected,
                "{file}: {}: the generator says\n{}\nthe kernel\n{}",
                entry.what,
                instructions(&Screen::plain(120), &code),
                listing(&expected, at)
            );
            *compared.entry(file.clone()).or_insert(0) += 1;
        }
    }
    // nothing passes because a file is empty
    assert!(
        compared.len() >= 4 && compared.values().all(|&n| n >= 12),
        "{compared:?}"
    );
}

/// What is said of a generator's kernels was compared at both ends.
#[test]
fn first_and_last_kernel_of_each_generator_were_dumped() {
    let mut dumped = BTreeMap::new();
    for (_, dump) in dumps() {
        dumped.insert(series(&dump.kernel), version(&dump.kernel));
    }
    for version in Version::ALL {
        let (first, last) = version.kernels();
        assert_eq!(first, version.name());
        for kernel in [first, last] {
            assert_eq!(dumped.get(kernel), Some(&version), "{kernel}");
        }
    }
}

fn listing(code: &[u8], at: u64) -> String {
    Decoder::with_ip(64, code, at, DecoderOptions::NONE)
        .iter()
        .map(|i| format!("{:4x}: {i}\n", i.ip() - at))
        .collect()
}
