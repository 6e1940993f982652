//! What attaching costs: bytes of machine code per member, pages and memory per map and per link.
//!
//! Code sizes come from the generator ([`crate::tramp`]), function models and sizes of the kernel's structs from BTF
//! ([`crate::btf`]), what a design allocates when from its choices ([`memory`]). Nothing is allocated or run here;
//! what kernels were measured to use is in [`measured`].

pub mod generator;
pub mod kernels;
pub mod measured;
pub mod memory;

use schemars::JsonSchema;
use serde::Serialize;
use struct_ops_model::Design;

use crate::btf::{Btf, BtfError, MemberKind, OpsType};
use crate::tramp::image::{Filling, PAGE_SIZE};
use crate::tramp::{Code, Error, Flags, FuncModel, Jit, Targets, TrampLink, Trampoline};
use generator::Generator;
use memory::{Layout, Memory};

/// The struct_ops types that are looked at unless others are named.
pub const TYPES: [&str; 5] = [
    "tcp_congestion_ops",
    "sched_ext_ops",
    "Qdisc_ops",
    "hid_bpf_ops",
    "bpf_dummy_ops",
];

/// How many links are counted.
pub const LINKS: [u64; 4] = [1, 10, 100, 1000];

/// Members for which no program is taken: the type's `cfi_stubs` has no function for them, or its `check_member()`
/// refuses them. BTF does not tell.
const NO_PROGRAM: [(&str, &[&str]); 3] = [
    ("tcp_congestion_ops", &["get_info"]),
    ("sched_ext_ops", &["sub_caps_updated", "sub_ecaps_updated"]),
    (
        "Qdisc_ops",
        &[
            "peek",
            "change",
            "attach",
            "change_tx_queue_len",
            "change_real_num_tx",
            "dump",
            "dump_stats",
            "ingress_block_set",
            "egress_block_set",
            "ingress_block_get",
            "egress_block_get",
        ],
    ),
];

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The file lacks something.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// More memory than a number can hold.
    #[error("{links} links of {name}: that is more memory than can be counted (2^64 bytes)")]
    Links {
        /// The type's name.
        name: String,
        /// How many.
        links: u64,
    },
    /// No trampoline for a member.
    #[error("{member}: {error}")]
    Trampoline {
        /// Whose.
        member: String,
        /// Why.
        error: Error,
    },
}

/// A kernel: its types and its code generator.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As people call it: `6.12`, or a file's name.
    pub name: String,
    /// Its types.
    pub btf: Btf,
    /// Its code generator, as far as its types show it.
    pub generator: Generator,
    /// Sizes of the structs that a link-owned attachment consists of.
    pub attachment: memory::AttachmentLayout,
}

/// One struct_ops type of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TypeCost {
    /// Its name.
    pub r#type: String,
    /// The kernel's name.
    pub kernel: String,
    /// Members that take a program.
    pub members: Vec<MemberCost>,
    /// Function pointers that no trampoline can stand for.
    pub unsupported: Vec<Unsupported>,
    /// Pages that hold the trampolines of all of them; `None` if no generator is known to be the kernel's.
    pub pages: Option<usize>,
    /// The same if every cookie takes the largest immediate.
    pub pages_with_cookie: Option<usize>,
    /// Per design.
    pub designs: Vec<DesignCost>,
    /// What kernels were measured to use for it.
    pub measured: Vec<measured::Measured>,
}

/// A function pointer that no trampoline can stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unsupported {
    /// The member's name.
    pub member: String,
    /// What the kernel makes of it.
    pub reason: String,
}

/// One member's trampoline, the slack of 64 bytes included. Bytes are `None` if no generator is known to be the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemberCost {
    /// Its name.
    pub member: String,
    /// Registers that its arguments take.
    pub argument_registers: usize,
    /// Without a cookie: the immediate is 0.
    pub bytes: Option<usize>,
    /// With one, by the size of its immediate.
    pub bytes_with_cookie: Option<BytesWithCookie>,
}

/// A cookie costs bytes, never an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BytesWithCookie {
    /// 1 to 2^32 - 1.
    pub u32: usize,
    /// The last 2^31 values: sign-extended.
    pub s32: usize,
    /// All others.
    pub u64: usize,
}

/// One design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DesignCost {
    /// Its name.
    pub design: String,
    /// A map that is READY.
    pub per_map: Memory,
    /// What a link adds.
    pub per_link: Memory,
    /// For so many links, each with an identity of its own if the design knows any.
    pub links: Vec<LinksCost>,
}

/// Many links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LinksCost {
    /// How many.
    pub links: u64,
    /// Maps that this takes.
    pub maps: u64,
    /// All together.
    #[serde(flatten)]
    pub memory: Memory,
}

/// Immediates of every size: none, u32, negative s32, anything else.
const COOKIES: [u64; 4] = [0, 0x11, -2i64 as u64, 0x1122_3344_5566_7788];

/// Addresses as a kernel has them: text and trampolines above -2 GiB, programs' structs in vmalloc memory.
mod place {
    pub const ENTER: u64 = 0xffff_ffff_8120_0000;
    pub const EXIT: u64 = 0xffff_ffff_8120_0400;
    pub const IMAGE: u64 = 0xffff_ffff_c000_0000;
    pub const BPF_FUNC: u64 = 0xffff_ffff_c000_4000;
    pub const PROG: u64 = 0xffff_c900_0000_5000;
}

/// The trampoline of one member.
pub fn trampoline(jit: Jit, model: &FuncModel, cookie: u64) -> Result<Code, Error> {
    let links = [TrampLink {
        prog: place::PROG,
        bpf_func: place::BPF_FUNC,
        cookie,
        ..TrampLink::default()
    }];
    let targets = Targets {
        enter: place::ENTER,
        exit: place::EXIT,
        enter_sleepable: place::ENTER,
        exit_sleepable: place::EXIT,
        ..Targets::default()
    };
    Trampoline {
        jit,
        model,
        flags: Flags::struct_ops(model),
        links: &links,
        targets: &targets,
        func: Default::default(),
    }
    .generate(place::IMAGE)
}

/// Members of a type that take a program, with their models.
pub fn members(ops: &OpsType) -> Vec<(&str, &FuncModel)> {
    ops.funcs()
        .filter(|(name, _)| !takes_no_program(&ops.name, name))
        .collect()
}

/// A member's model, or why no trampoline stands for it; `None` if there is no such member.
pub fn member<'a>(ops: &'a OpsType, name: &str) -> Option<Result<&'a FuncModel, String>> {
    let member = ops.members.iter().find(|member| member.name == name)?;
    Some(match &member.kind {
        MemberKind::Data => Err("it is data, not a function pointer".to_owned()),
        MemberKind::Unsupported(why) => Err(why.clone()),
        MemberKind::Func(_) if takes_no_program(&ops.name, name) => {
            Err("the subsystem takes no program for it".to_owned())
        }
        MemberKind::Func(model) => Ok(model),
    })
}

fn takes_no_program(ty: &str, member: &str) -> bool {
    NO_PROGRAM
        .iter()
        .any(|(of, members)| *of == ty && members.contains(&member))
}

/// The figures of one type.
pub fn of_type(
    kernel: &Kernel,
    name: &str,
    designs: &[Design],
    links: &[u64],
) -> Result<TypeCost, CostError> {
    let ops = OpsType::read(&kernel.btf, name)?;
    let mut costs = Vec::new();
    for (member, model) in members(&ops) {
        let size = |jit, cookie| {
            trampoline(jit, model, cookie)
                .map(|code| code.size())
                .map_err(|error| CostError::Trampoline {
                    member: format!("{name}.{member}"),
                    error,
                })
        };
        let (bytes, bytes_with_cookie) = match kernel.generator.jit {
            None => (None, None),
            Some(jit) => (
                Some(size(jit, COOKIES[0])?),
                Some(BytesWithCookie {
                    u32: size(jit, COOKIES[1])?,
                    s32: size(jit, COOKIES[2])?,
                    u64: size(jit, COOKIES[3])?,
                }),
            ),
        };
        costs.push(MemberCost {
            member: member.to_owned(),
            argument_registers: model.nr_regs(),
            bytes,
            bytes_with_cookie,
        });
    }
    let pages = pages(name, costs.iter().map(|m| m.bytes))?;
    let with_cookie = costs.iter().map(|m| Some(m.bytes_with_cookie?.u64));
    let pages_with_cookie = self::pages(name, with_cookie)?;
    let layout = Layout {
        kernel: memory::KernelLayout::read(&kernel.btf)?,
        attachment: kernel.attachment,
        value_size: ops.value_size,
        funcs_cnt: ops.funcs_cnt(),
        members: costs.len(),
        page_size: match kernel.generator.jit {
            Some(_) => Some(PAGE_SIZE as u64),
            None => memory::page_size(&kernel.btf),
        },
        pages,
        pages_with_cookie,
    };
    Ok(TypeCost {
        r#type: name.to_owned(),
        kernel: kernel.name.clone(),
        members: costs,
        unsupported: ops
            .members
            .iter()
            .filter_map(|member| match &member.kind {
                MemberKind::Unsupported(reason) => Some(Unsupported {
                    member: member.name.clone(),
                    reason: reason.clone(),
                }),
                _ => None,
            })
            .collect(),
        pages,
        pages_with_cookie,
        designs: designs
            .iter()
            .map(|design| layout.design(design, links))
            .collect::<Result<_, u64>>()
            .map_err(|links| CostError::Links {
                name: name.to_owned(),
                links,
            })?,
        measured: measured::of(name, &kernel.name),
    })
}

/// Pages that trampolines of these sizes fill; `None` if a size is not known.
fn pages(
    name: &str,
    sizes: impl Iterator<Item = Option<usize>>,
) -> Result<Option<usize>, CostError> {
    let mut filling = Filling::default();
    for size in sizes {
        let Some(size) = size else { return Ok(None) };
        filling.place(size).map_err(|error| CostError::Trampoline {
            member: name.to_owned(),
            error,
        })?;
    }
    Ok(Some(filling.pages()))
}
