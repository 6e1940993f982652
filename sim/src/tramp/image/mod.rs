//! Images: the memory that trampolines run in. Written while it is writable, then executable, and never writable again.
//!
//! Stands for `bpf_struct_ops_image_alloc()`, `arch_protect_bpf_trampoline()`, `bpf_struct_ops_image_free()` and for
//! the page filling of `bpf_struct_ops_prepare_trampoline()`. When an image may be freed (grace periods) is the
//! runtime's business.
//!
//! There are two ways to get one, as in the kernel:
//!
//! - [`Image::alloc`]: pages of its own, writable first, executable after [`Image::protect`]. This is the `__weak`
//!   `arch_alloc_bpf_trampoline()` of `kernel/bpf/trampoline.c`.
//! - [`pack::Packs::alloc`]: a piece of a 2 MiB pack that many images share and that is executable from the start
//!   (`bpf_prog_pack_alloc()`); text is poked into it through another door. This is what x86-64 does, in 6.12 and in 7.x.
//!
//! Either way a struct_ops map asks for one page at a time and for at most [`MAX_TRAMP_IMAGE_PAGES`]: [`Pages`].
//!
//! An image that is freed can be kept as [`Freed`]: its addresses stay taken and inaccessible, so that whoever still
//! calls into it is found out and never runs something else.

mod map;
pub mod pack;

use super::{Code, Error, Trampoline};
use pack::Piece;

/// What a struct_ops map asks for at a time.
pub const PAGE_SIZE: usize = 4096;

/// `MAX_TRAMP_IMAGE_PAGES` of a struct_ops map.
pub const MAX_TRAMP_IMAGE_PAGES: usize = 8;

/// Executable memory. Dropped, its memory is given back at once.
#[derive(Debug)]
pub struct Image {
    memory: Memory,
    executable: bool,
}

#[derive(Debug)]
enum Memory {
    Own(map::Mapping),
    Pack(Piece),
}

impl Image {
    /// Whole pages, writable, within reach of the code at `near`.
    pub fn alloc(size: usize, near: u64) -> Result<Self, Error> {
        let size = size.next_multiple_of(PAGE_SIZE);
        Ok(Image {
            memory: Memory::Own(map::Mapping::near(size, near)?),
            executable: false,
        })
    }

    /// Where it lies.
    pub fn addr(&self) -> u64 {
        match &self.memory {
            Memory::Own(mapping) => mapping.addr(),
            Memory::Pack(piece) => piece.addr(),
        }
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        match &self.memory {
            Memory::Own(mapping) => mapping.size(),
            Memory::Pack(piece) => piece.size(),
        }
    }

    /// Whether it was protected.
    pub fn is_executable(&self) -> bool {
        self.executable
    }

    /// Whether an address lies in it.
    pub fn contains(&self, addr: u64) -> bool {
        (self.addr()..self.addr() + self.size() as u64).contains(&addr)
    }

    /// Writes at an offset, as long as the image is not executable.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        if self.executable {
            return Err(Error::Protected { at: self.addr() });
        }
        let size = self.size();
        if offset.checked_add(bytes.len()).is_none_or(|end| end > size) {
            return Err(Error::OutOfBounds {
                offset,
                len: bytes.len(),
                size,
            });
        }
        match &mut self.memory {
            Memory::Own(mapping) => {
                mapping.write(offset, bytes);
                Ok(())
            }
            Memory::Pack(piece) => piece.poke(offset, bytes),
        }
    }

    /// Executable from now on, and never writable again.
    pub fn protect(&mut self) -> Result<(), Error> {
        if !self.executable {
            if let Memory::Own(mapping) = &mut self.memory {
                mapping.make_executable()?;
            }
            self.executable = true;
        }
        Ok(())
    }

    /// Freed, but its addresses stay taken: nothing else comes to lie there while the result lives.
    pub fn free(self) -> Result<Freed, Error> {
        let freed = Freed {
            addr: self.addr(),
            size: self.size(),
            _memory: self,
        };
        match &freed._memory.memory {
            Memory::Own(mapping) => mapping.make_inaccessible()?,
            Memory::Pack(piece) => piece.fill_hole()?,
        }
        Ok(freed)
    }
}

/// A freed image: inaccessible, or full of int3 in a pack. Dropped, its addresses may be used again.
#[derive(Debug)]
pub struct Freed {
    addr: u64,
    size: usize,
    _memory: Image,
}

impl Freed {
    /// Where it was.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Whether an address lies in it.
    pub fn contains(&self, addr: u64) -> bool {
        (self.addr..self.addr + self.size as u64).contains(&addr)
    }
}

/// How trampolines fill pages: one after the other into the current page, a new page when the next does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    pages: usize,
    offset: usize,
}

impl Filling {
    /// Page and offset of the next trampoline.
    pub fn place(&mut self, size: usize) -> Result<(usize, usize), Error> {
        if self.pages == 0 || size > PAGE_SIZE - self.offset {
            if self.pages == MAX_TRAMP_IMAGE_PAGES || size > PAGE_SIZE {
                return Err(Error::Full { pages: self.pages });
            }
            self.pages += 1;
            self.offset = 0;
        }
        let place = (self.pages - 1, self.offset);
        self.offset += size;
        Ok(place)
    }

    /// Pages so far.
    pub fn pages(&self) -> usize {
        self.pages
    }
}

/// The image pages of one owner (a struct_ops map, or a link that owns its trampolines).
#[derive(Debug, Default)]
pub struct Pages {
    images: Vec<Image>,
    filling: Filling,
}

impl Pages {
    /// `bpf_struct_ops_prepare_trampoline()`: the trampoline goes behind the previous one; `alloc` gives a new page
    /// when it does not fit there any more.
    pub fn prepare_trampoline(
        &mut self,
        trampoline: &Trampoline<'_>,
        alloc: impl FnOnce() -> Result<Image, Error>,
    ) -> Result<Code, Error> {
        // the size does not depend on the address, but the targets must be in reach of it
        let size = trampoline.generate(trampoline.targets.enter)?.size();
        let mut filling = self.filling;
        let (page, offset) = filling.place(size)?;
        if page == self.images.len() {
            self.images.push(alloc()?);
        }
        let code = trampoline.generate(self.images[page].addr() + offset as u64)?;
        self.images[page].write(offset, code.bytes())?;
        self.filling = filling;
        Ok(code)
    }

    /// All pages executable.
    pub fn protect(&mut self) -> Result<(), Error> {
        self.images.iter_mut().try_for_each(Image::protect)
    }

    /// The pages, in order.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The pages, for whoever frees them.
    pub fn into_images(self) -> Vec<Image> {
        self.images
    }
}
