//! The memory of an image page, and the jump into it.
//!
//! Where machine code can run it is [`crate::tramp`]'s: mapped, written, protected, inaccessible once freed. Under
//! shuttle, and on other processors, a trampoline is the same three calls made by Rust. Not here: who may jump.

use super::Unavailable;
use super::enter;
use super::object::Prog;

/// What a trampoline is made for.
pub(crate) struct Link<'a> {
    pub prog: &'a Prog,
    pub cookie: u64,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    base: usize,
}

/// Addresses of pages without memory.
static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1 << 20);

impl Page {
    pub(crate) fn alloc(_machine: bool) -> Result<Self, Unavailable> {
        Ok(Page {
            base: NEXT.fetch_add(4096, std::sync::atomic::Ordering::Relaxed),
        })
    }

    pub(crate) fn addr(&self) -> usize {
        self.base
    }

    pub(crate) fn write(
        &mut self,
        _offset: usize,
        _size: usize,
        _link: &Link<'_>,
    ) -> Result<(), Unavailable> {
        Ok(())
    }

    pub(crate) fn protect(&mut self) -> Result<(), Unavailable> {
        Ok(())
    }

    pub(crate) fn revoke(self) -> Self {
        self
    }
}

/// Calls the trampoline at an address: the caller has looked it up and counted itself in.
pub(crate) fn call(_machine: bool, _address: usize, prog: &Prog, cookie: u64) -> u64 {
    enter::plain(prog, cookie, 0)
}
