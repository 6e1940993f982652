//! BPF trampolines for x86-64: the code that the kernel puts between the caller of a function pointer
//! (struct_ops) or of a traced function (fentry, fexit, fmod_ret) and the BPF programs behind it.
//!
//! Stands for `arch_prepare_bpf_trampoline()` of `arch/x86/net/bpf_jit_comp.c` and for the page filling of
//! `bpf_struct_ops_prepare_trampoline()`. For the same inputs the bytes are the kernel's own: `sim/golden/`
//! holds what booted kernels emitted, `sim/tests/tramp_golden.rs` compares.
//!
//! ```
//! use struct_ops_sim::tramp::{Flags, FuncModel, Jit, TrampLink, Targets, Trampoline};
//!
//! // u32 ssthresh(struct sock *sk), with the cookie 0x11
//! let model = FuncModel::new(&[8], 4)?;
//! let links = [TrampLink { bpf_func: 0x2000, prog: 0x3000, cookie: 0x11, ..TrampLink::default() }];
//! let targets = Targets { enter: 0x4000, exit: 0x5000, ..Targets::default() };
//! let trampoline = Trampoline {
//!     jit: Jit::V7_3,
//!     model: &model,
//!     flags: Flags::struct_ops(&model),
//!     links: &links,
//!     targets: &targets,
//!     func: Default::default(),
//! };
//! let code = trampoline.generate(0x1000)?;
//! assert_eq!(code.size(), code.bytes().len() + 64);
//! for line in code.lines() {
//!     println!("{:4x}: {}  ; {}", line.offset, line.text, line.note);
//! }
//! # Ok::<(), struct_ops_sim::tramp::Error>(())
//! ```
//!
//! # Calling one
//!
//! Code runs only at the address it was generated for, and only in an [`image::Image`] that was protected. All
//! targets must lie within 2 GiB of it, as in the kernel: [`image::Image::alloc`] takes an address to be near to,
//! such as that of the enter function. Everything called has the C ABI:
//!
//! | called | signature | returns |
//! |---|---|---|
//! | [`Targets::enter`] and its variants | `fn(prog: u64, run_ctx: *mut RunCtx) -> u64` | the start time; 0 skips the program |
//! | [`TrampLink::bpf_func`] | `fn(ctx: *const u64, insnsi: u64) -> u64` | what the caller gets, if it gets anything |
//! | [`Targets::exit`] and its variants | `fn(prog: u64, start: u64, run_ctx: *mut RunCtx)` | |
//! | [`Targets::tramp_enter`], `tramp_exit` | `fn(im: u64)` | only with [`Flags::CALL_ORIG`] |
//!
//! `ctx` points to the arguments, one u64 per argument register (a struct of 9..16 bytes takes two), followed for
//! fexit and fmod_ret by the return value; `ctx[-1]` is the number of argument registers. [`RunCtx`] is where the
//! program reads its cookie. `prog` is passed through unchanged: a runtime may put any pointer there.
//!
//! # Not here
//!
//! Call depth tracking, kCFI and FineIBT preambles, arena arguments and session cookies (7.x): no kernel that the
//! dumps come from uses them for these programs. The stack of `bpf_tramp_image` life cycles is not here either.
//!
//! On a processor that is not x86-64 the generator works (it only computes), but no image can be allocated:
//! [`Error::Unavailable`].

mod disassemble;
mod generate;
pub mod image;
mod model;
#[cfg(target_arch = "x86_64")]
mod target;

pub use disassemble::Line;
pub use generate::{Code, Flags, Func, Jit, Kind, Return, Targets, TrampLink, Trampoline, Version};
pub use model::{Arg, FuncModel};

/// Slack that the kernel keeps behind every trampoline (`BPF_INSN_SAFETY`).
pub const BPF_INSN_SAFETY: usize = 64;

/// Most arguments that a trampoline passes on, counted in registers (`MAX_BPF_FUNC_ARGS`).
pub const MAX_BPF_FUNC_ARGS: usize = 12;

/// `struct bpf_tramp_run_ctx`, on the trampoline's stack while a program runs.
#[repr(C)]
#[derive(Debug)]
pub struct RunCtx {
    /// Written by the trampoline before it calls enter.
    pub bpf_cookie: u64,
    /// For enter and exit: what `current->bpf_ctx` was before.
    pub saved_run_ctx: *mut RunCtx,
}

/// Why there is no trampoline.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// -ENOTSUPP: the arguments do not fit.
    #[error(
        "{found} argument registers: a trampoline passes on at most {MAX_BPF_FUNC_ARGS} (-ENOTSUPP)"
    )]
    TooManyArgs {
        /// How many registers the arguments take.
        found: usize,
    },
    /// `btf_distill_func_proto()` takes 1 to 16 bytes.
    #[error(
        "argument {index} has {size} bytes, expected 1 to 16: btf_distill_func_proto() refuses it (-EINVAL)"
    )]
    ArgSize {
        /// Counted from 0.
        index: usize,
        /// In bytes.
        size: usize,
    },
    /// A trampoline saves one register of the return value; a larger one takes two.
    #[error(
        "a return value of {0} bytes, expected 0 to 8: bpf_struct_ops_desc_init() refuses a type with a stub for that (-EOPNOTSUPP)"
    )]
    RetSize(usize),
    /// `F_INDIRECT` goes with `F_RET_FENTRY_RET` only.
    #[error("these flags do not go together: {0:?}")]
    Flags(Flags),
    /// A call or jump does not reach.
    #[error("a target is more than 2 GiB away from {at:#x} (-ERANGE): {what}")]
    OutOfRange {
        /// Where the trampoline is to be.
        at: u64,
        /// What the assembler says.
        what: String,
    },
    /// `MAX_TRAMP_IMAGE_PAGES` pages are full, or the trampoline is larger than a page.
    #[error("no room for another trampoline: {pages} pages are full (-E2BIG)")]
    Full {
        /// Pages in use.
        pages: usize,
    },
    /// An image that is executable is never written.
    #[error("the image at {at:#x} is executable: it cannot be written any more")]
    Protected {
        /// Its address.
        at: u64,
    },
    /// Not inside the image.
    #[error("{len} bytes at offset {offset} do not fit into an image of {size} bytes")]
    OutOfBounds {
        /// Where in the image.
        offset: usize,
        /// How many bytes.
        len: usize,
        /// The image's size.
        size: usize,
    },
    /// The operating system refuses.
    #[error("{call}: {errno}")]
    Memory {
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: String,
    },
    /// No address close enough is free.
    #[error("no free address within 1 GiB of {near:#x}")]
    NoAddress {
        /// What the image has to be near to.
        near: u64,
    },
    /// Trampolines are x86-64 code.
    #[error("trampolines are not available on this machine: they are x86-64 code for Linux")]
    Unavailable,
}
