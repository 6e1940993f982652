//! What `cost` prints.

use schemars::JsonSchema;
use serde::Serialize;

use crate::cost::{Kernel, TypeCost};
use crate::tramp::Line;

/// What `cost` prints: a table, or with `--disassemble` a trampoline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Cost {
    /// Figures of types.
    Table {
        /// One per type and kernel.
        types: Vec<TypeCost>,
        /// Types that a kernel does not have.
        missing: Vec<Missing>,
        /// One per kernel.
        generators: Vec<Generator>,
    },
    /// The trampoline of one member.
    Trampoline {
        /// The struct_ops type.
        r#type: String,
        /// The kernel.
        kernel: String,
        /// The member.
        member: String,
        /// The cookie in it.
        cookie: u64,
        /// Bytes, the slack behind the code included.
        bytes: usize,
        /// One per instruction.
        lines: Vec<Line>,
        /// Whose code it is.
        generator: Generator,
    },
}

/// The code generator that a kernel was taken to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Generator {
    /// The kernel.
    pub kernel: String,
    /// The architecture; none if it is none that is known here.
    pub machine: Option<String>,
    /// The kernel version of the generator; none if no generator here is known to be this kernel's.
    pub version: Option<String>,
    /// Whether it emits code for IBT.
    pub ibt: Option<bool>,
    /// It was asked for instead of being concluded.
    pub asked: bool,
    /// What BTF has, or has not, that decides.
    pub btf_has: Vec<String>,
}

impl Generator {
    /// That of a kernel.
    pub fn of(kernel: &Kernel) -> Self {
        let generator = &kernel.generator;
        Generator {
            kernel: kernel.name.clone(),
            machine: generator.machine.map(Into::into),
            version: generator.jit.map(|jit| jit.version.name().into()),
            ibt: generator.jit.map(|jit| jit.ibt),
            asked: generator.asked,
            btf_has: generator.reasons.clone(),
        }
    }
}

/// A type that a kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Missing {
    /// The type.
    pub r#type: String,
    /// The kernel.
    pub kernel: String,
    /// Why there are no figures.
    pub reason: String,
}
