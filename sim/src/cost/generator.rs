//! Which code generator a kernel has: what its BTF shows of it.
//!
//! BTF holds neither an architecture nor a version. It holds the registers that the kernel saves (`struct pt_regs`), the
//! structs that a trampoline works with, and the parameters of the functions that emit it. Those of `save_args()` and the
//! fields of `struct bpf_tramp_image` changed with each change of the emitted code from 6.12 to 7.3, so they tell the
//! generators of [`Version`] apart; `sim/tests/btf.rs` holds this to kernels whose code was dumped. A kernel that shows
//! something else gets no generator. What is not in BTF at all, IBT and the mitigations, is taken to be as distributions
//! configure it.

use crate::btf::Btf;
use crate::tramp::{Jit, Return, Version};

/// What was concluded about a kernel's generator, and from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    /// The architecture; `None` if BTF does not show one that is known here.
    pub machine: Option<&'static str>,
    /// The generator; `None` if none of those here is known to be this kernel's.
    pub jit: Option<Jit>,
    /// Whether the generator was asked for instead of being concluded.
    pub asked: bool,
    /// What BTF has, or has not, that decides.
    pub reasons: Vec<String>,
}

/// Architectures whose kernels have BPF trampolines and little-endian BTF, with registers that no other has.
const MACHINES: [(&str, &[Fact]); 4] = [
    (
        X86_64,
        &[
            Fact::Field("pt_regs", "r15"),
            Fact::Field("pt_regs", "orig_ax"),
        ],
    ),
    ("arm64", &[Fact::Field("pt_regs", "orig_x0")]),
    ("riscv64", &[Fact::Field("pt_regs", "epc")]),
    ("loongarch64", &[Fact::Field("pt_regs", "csr_era")]),
];

const X86_64: &str = "x86-64";

/// What all kernels have whose code was compared, and what a kernel without it is like.
const COMMON: [(Fact, &str); 2] = [
    (
        Fact::Field("bpf_tramp_run_ctx", "bpf_cookie"),
        "its trampolines hand on no cookie",
    ),
    (
        Fact::Field("bpf_verifier_ops", "gen_epilogue"),
        "it is older than 6.12",
    ),
];

/// What tells a generator from the others.
fn marks(version: Version) -> [Fact; 2] {
    let save_args: &[&str] = match version {
        Version::V6_12 => &["m", "prog", "stack_size", "for_call_origin"],
        Version::V6_19 | Version::V7_2 => &["m", "prog", "stack_size", "for_call_origin", "flags"],
        Version::V7_3 => &[
            "m",
            "prog",
            "stack_size",
            "for_call_origin",
            "flags",
            "arena_base",
        ],
    };
    let image = match version {
        Version::V6_12 | Version::V6_19 => "ip_after_call",
        Version::V7_2 | Version::V7_3 => "skips",
    };
    [
        Fact::Params("save_args", save_args),
        Fact::Field("bpf_tramp_image", image),
    ]
}

/// Something that BTF has or has not.
#[derive(Clone, Copy)]
enum Fact {
    /// A field of a struct.
    Field(&'static str, &'static str),
    /// A function with these parameters and no others.
    Params(&'static str, &'static [&'static str]),
}

impl Fact {
    fn holds(self, btf: &Btf) -> bool {
        match self {
            Fact::Field(name, field) => btf.field_offset(name, field).is_some(),
            Fact::Params(name, wanted) => btf
                .param_names(name)
                .is_some_and(|params| params.eq(wanted.iter().copied())),
        }
    }

    /// What BTF has, if it holds.
    fn text(self) -> String {
        match self {
            Fact::Field(name, field) => format!("{name}.{field}"),
            Fact::Params(name, params) => format!("{name}({})", params.join(", ")),
        }
    }

    /// What BTF has instead, if it does not hold.
    fn instead(self, btf: &Btf) -> String {
        match self {
            Fact::Field(name, _) if btf.find_struct(name).is_none() => format!("no struct {name}"),
            Fact::Field(..) => format!("no {}", self.text()),
            Fact::Params(name, _) => match btf.param_names(name) {
                Some(params) => format!("{name}({})", params.collect::<Vec<_>>().join(", ")),
                None => format!("no function {name}()"),
            },
        }
    }

    fn found(self, btf: &Btf) -> String {
        match self.holds(btf) {
            true => self.text(),
            false => self.instead(btf),
        }
    }
}

impl Generator {
    /// From what BTF shows.
    pub fn of_btf(btf: &Btf) -> Self {
        let all = |facts: &[Fact]| facts.iter().all(|fact| fact.holds(btf));
        let Some((machine, registers)) = MACHINES.into_iter().find(|(_, facts)| all(facts)) else {
            let missing = MACHINES[0].1.iter().find(|fact| !fact.holds(btf));
            return Generator {
                machine: None,
                jit: None,
                asked: false,
                reasons: missing.map(|fact| fact.instead(btf)).into_iter().collect(),
            };
        };
        let none = |reasons| Generator {
            machine: Some(machine),
            jit: None,
            asked: false,
            reasons,
        };
        if machine != X86_64 {
            return none(registers.iter().map(|fact| fact.text()).collect());
        }
        if let Some((missing, so)) = COMMON.iter().find(|(fact, _)| !fact.holds(btf)) {
            return none(vec![format!("{} ({so})", missing.instead(btf))]);
        }
        let Some(version) = Version::ALL.into_iter().find(|&v| all(&marks(v))) else {
            // what there is of the oldest one's marks, and of the newest one's
            let marks = [Version::V6_12, Version::V7_3].into_iter().flat_map(marks);
            let mut reasons: Vec<String> = marks.map(|fact| fact.found(btf)).collect();
            reasons.sort();
            reasons.dedup();
            return none(reasons);
        };
        let common = COMMON.map(|(fact, _)| fact);
        Generator {
            machine: Some(machine),
            jit: Some(Self::jit(version)),
            asked: false,
            reasons: [registers, &common, &marks(version)]
                .concat()
                .into_iter()
                .map(Fact::text)
                .collect(),
        }
    }

    /// The one that was asked for, if the kernel is not known to be of another architecture.
    pub fn asked(self, version: Version) -> Result<Self, String> {
        match self.machine {
            None | Some(X86_64) => Ok(Generator {
                jit: Some(Self::jit(version)),
                asked: true,
                ..self
            }),
            Some(_) => Err(self.why_none()),
        }
    }

    /// As distributions configure a kernel: with IBT, and with int3 behind ret.
    fn jit(version: Version) -> Jit {
        Jit {
            version,
            ibt: true,
            ret: Return::RetInt3,
        }
    }

    /// What its BTF has.
    fn shown(&self) -> String {
        format!("its BTF has {}", self.reasons.join(", "))
    }

    /// Why there is no generator, if there is none.
    pub fn why_none(&self) -> String {
        let shown = self.shown();
        match self.machine {
            Some(X86_64) => {
                let known = Version::ALL.map(kernels).join(", ");
                format!(
                    "{shown}, as none of those known here ({known}); --generator takes one all the same"
                )
            }
            Some(machine) => {
                format!(
                    "the architecture is {machine} ({shown}), code is generated here for {X86_64} alone"
                )
            }
            None => format!(
                "the architecture is not known to be {X86_64} ({shown}); --generator takes it to be that"
            ),
        }
    }

    /// The conclusion, and from what it was drawn.
    pub fn sentence(&self) -> String {
        let Some(jit) = self.jit else {
            return format!("none: {}.", self.why_none());
        };
        let why = match self.asked {
            true => format!("as asked for; {}", self.shown()),
            false => format!("because {}", self.shown()),
        };
        let config = match (jit.ibt, jit.ret) {
            (true, Return::RetInt3) => {
                "CONFIG_X86_KERNEL_IBT and CONFIG_MITIGATION_SLS, which BTF does not show, are taken to be set"
            }
            _ => "Neither CONFIG_X86_KERNEL_IBT nor CONFIG_MITIGATION_SLS is taken to be set",
        };
        format!("that of Linux {}, {why}. {config}.", kernels(jit.version))
    }
}

/// The kernels that a generator was compared with.
fn kernels(version: Version) -> String {
    let (first, last) = version.kernels();
    match first == last {
        true => first.to_owned(),
        false => format!("{first} to {last}"),
    }
}
