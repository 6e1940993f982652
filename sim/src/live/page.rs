//! The memory of an image page, and the jump into it.
//!
//! Where machine code can run it is [`crate::tramp`]'s: mapped, written, protected, inaccessible once freed. Under
//! shuttle, and on other processors, a trampoline is the same three calls made by Rust. Not here: who may jump.

// The jump itself: an address becomes a function.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use struct_ops_model::kernel::Code;

use super::object::Prog;
use super::runtime::Runtime;
use super::text::PAGE_SIZE;
use super::{Unavailable, enter};
use crate::tramp::image::{Freed, Image};
use crate::tramp::{Error, Flags, FuncModel, Jit, Targets, TrampLink, Trampoline};

/// What a trampoline is made for.
pub(crate) struct Link<'a> {
    prog: &'a Prog,
    cookie: u64,
}

impl<'a> Link<'a> {
    pub(crate) fn new(rt: &'a Runtime, code: Code) -> Self {
        Link {
            prog: &rt.progs[usize::from(code.prog - 1)],
            cookie: rt.world.cookies[usize::from(code.cookie)],
        }
    }
}

/// One page.
#[derive(Debug)]
pub(crate) enum Page {
    /// Executable memory.
    Machine(Image),
    /// It was: nothing can be read there, and nothing else comes to lie there.
    Revoked { addr: usize, _memory: Option<Freed> },
    /// No memory: only an address that nothing else has.
    Plain(usize),
}

/// Addresses of pages without memory.
static NEXT: AtomicUsize = AtomicUsize::new(1 << 20);

impl From<Error> for Unavailable {
    fn from(error: Error) -> Self {
        Unavailable(error.to_string())
    }
}

impl Page {
    pub(crate) fn alloc(jit: bool) -> Result<Self, Unavailable> {
        if jit {
            Ok(Page::Machine(Image::alloc(PAGE_SIZE, targets().enter)?))
        } else {
            Ok(Page::Plain(NEXT.fetch_add(PAGE_SIZE, Relaxed)))
        }
    }

    pub(crate) fn addr(&self) -> usize {
        match self {
            Page::Machine(image) => image.addr() as usize,
            Page::Revoked { addr, .. } | Page::Plain(addr) => *addr,
        }
    }

    /// Writes the trampoline of a member that has `size` bytes of the page.
    pub(crate) fn write(
        &mut self,
        offset: usize,
        size: usize,
        link: &Link<'_>,
    ) -> Result<(), Unavailable> {
        let Page::Machine(image) = self else {
            return Ok(());
        };
        // Every member takes a pointer and returns a word.
        let model = FuncModel::new(&[8], 8)?;
        let links = [TrampLink {
            prog: std::ptr::from_ref(link.prog) as u64,
            bpf_func: bpf_func(enter::bpf_func),
            cookie: link.cookie,
            sleepable: link.prog.sleepable,
            ..TrampLink::default()
        }];
        let trampoline = Trampoline {
            jit: Jit::V6_12,
            model: &model,
            flags: Flags::struct_ops(&model),
            links: &links,
            targets: &targets(),
            func: Default::default(),
        };
        let code = trampoline.generate(image.addr() + offset as u64)?;
        if code.bytes().len() > size {
            return Err(Unavailable(format!(
                "a trampoline has {} bytes, and the type gives its member {size}",
                code.bytes().len()
            )));
        }
        Ok(image.write(offset, code.bytes())?)
    }

    pub(crate) fn protect(&mut self) -> Result<(), Unavailable> {
        match self {
            Page::Machine(image) => Ok(image.protect()?),
            _ => Ok(()),
        }
    }

    /// Freed: nobody is inside.
    pub(crate) fn revoke(self) -> Self {
        let addr = self.addr();
        match self {
            Page::Machine(image) => Page::Revoked {
                addr,
                _memory: image.free().ok(),
            },
            other => other,
        }
    }
}

/// The address of a program's code.
fn bpf_func(f: extern "C" fn(*const u64, u64) -> u64) -> u64 {
    f as usize as u64
}

/// Where trampolines call.
fn targets() -> Targets {
    let enter = |f: extern "C" fn(u64, *mut enter::RunCtx) -> u64| f as usize as u64;
    let exit = |f: extern "C" fn(u64, u64, *mut enter::RunCtx)| f as usize as u64;
    Targets {
        enter: enter(enter::__bpf_prog_enter),
        exit: exit(enter::__bpf_prog_exit),
        enter_sleepable: enter(enter::__bpf_prog_enter_sleepable),
        exit_sleepable: exit(enter::__bpf_prog_exit_sleepable),
        enter_recur: enter(enter::__bpf_prog_enter_recur),
        exit_recur: exit(enter::__bpf_prog_exit_recur),
        enter_sleepable_recur: enter(enter::__bpf_prog_enter_sleepable_recur),
        exit_sleepable_recur: exit(enter::__bpf_prog_exit_sleepable_recur),
        ..Targets::default()
    }
}

/// Calls the trampoline at an address: the caller has looked it up and counted itself in.
pub(crate) fn call(jit: bool, address: usize, prog: &Prog, cookie: u64) -> u64 {
    let arg = std::ptr::from_ref(prog) as u64;
    if !jit {
        return enter::plain(prog, cookie, arg);
    }
    // SAFETY: the address is that of a trampoline which `write` generated for this signature, in a page that was
    // live and executable when `Text::enter` counted this thread in; a page with somebody inside is never made
    // inaccessible. What the trampoline calls has the C ABI and does not unwind.
    let trampoline: extern "C" fn(u64) -> u64 = unsafe { std::mem::transmute(address) };
    trampoline(arg)
}
