//! Mappings: the system calls behind images. Nothing is known of trampolines here.
//!
//! All `unsafe` of the images is in this file.

#![cfg_attr(all(target_arch = "x86_64", target_os = "linux"), allow(unsafe_code))]

use crate::tramp::Error;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use linux::{Mapping, Shared};
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use none::{Mapping, Shared};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::ffi::c_void;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::Errno;
    use rustix::io::pwrite;
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
    use rustix::mm::{mmap, mmap_anonymous, mprotect, munmap};

    use super::Error;

    /// Distance kept from the code that is called: its binary's own data and heap are there.
    const GAP: u64 = 64 << 20;
    /// How far away a mapping may be: calls reach 2 GiB.
    const REACH: u64 = 1 << 30;

    /// Addresses are handed out one after the other, so that one is not used again soon.
    static NEXT: AtomicU64 = AtomicU64::new(0);

    fn failed(call: &'static str, errno: Errno) -> Error {
        Error::Memory {
            call,
            errno: errno.to_string(),
        }
    }

    /// Tries addresses near `near` until `map` finds one that is free.
    fn search(
        size: usize,
        near: u64,
        call: &'static str,
        map: impl Fn(*mut c_void) -> Result<*mut c_void, Errno>,
    ) -> Result<u64, Error> {
        let size = size as u64;
        let base = near & !(super::super::pack::PACK_SIZE as u64 - 1);
        for _ in 0..REACH / size {
            let distance = GAP + NEXT.fetch_add(size, Relaxed) % REACH / size * size;
            // below, if there is room: the heap grows upwards
            let addr = if base > GAP + REACH + size {
                base - distance - size
            } else {
                base + distance
            };
            match map(std::ptr::with_exposed_provenance_mut(addr as usize)) {
                Ok(found) => return Ok(found.expose_provenance() as u64),
                Err(Errno::EXIST | Errno::NOMEM) => {}
                Err(errno) => return Err(failed(call, errno)),
            }
        }
        Err(Error::NoAddress { near })
    }

    /// Private pages, unmapped when dropped.
    #[derive(Debug)]
    pub(in super::super) struct Mapping {
        addr: u64,
        size: usize,
    }

    impl Mapping {
        /// Readable and writable.
        pub(in super::super) fn near(size: usize, near: u64) -> Result<Self, Error> {
            let addr = search(size, near, "mmap", |at| {
                let prot = ProtFlags::READ | ProtFlags::WRITE;
                let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
                // SAFETY: FIXED_NOREPLACE takes free addresses only, so no memory of anybody else changes.
                unsafe { mmap_anonymous(at, size, prot, flags) }
            })?;
            Ok(Mapping { addr, size })
        }

        pub(in super::super) fn addr(&self) -> u64 {
            self.addr
        }

        pub(in super::super) fn size(&self) -> usize {
            self.size
        }

        fn ptr(&self) -> *mut c_void {
            std::ptr::with_exposed_provenance_mut(self.addr as usize)
        }

        /// The caller has checked that the mapping is writable and that the bytes fit.
        pub(in super::super) fn write(&mut self, offset: usize, bytes: &[u8]) {
            assert!(offset + bytes.len() <= self.size);
            // SAFETY: the bytes lie in the mapping (just asserted), which is owned and borrowed mutably; `bytes` is a
            // Rust slice and mappings are not lent out as slices, so they do not overlap. Were the mapping protected,
            // the processor would refuse the write; nothing undefined follows from that.
            unsafe {
                let to = self.ptr().cast::<u8>().add(offset);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }

        pub(in super::super) fn make_executable(&mut self) -> Result<(), Error> {
            self.protect(MprotectFlags::READ | MprotectFlags::EXEC)
        }

        pub(in super::super) fn make_inaccessible(&self) -> Result<(), Error> {
            self.protect(MprotectFlags::empty())
        }

        fn protect(&self, flags: MprotectFlags) -> Result<(), Error> {
            // SAFETY: the range is this mapping, to which no Rust reference exists.
            unsafe { mprotect(self.ptr(), self.size, flags) }.map_err(|e| failed("mprotect", e))
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the range is this mapping, to which no Rust reference exists. That no thread runs in it is what
            // whoever calls code in an image promises at the call.
            let unmapped = unsafe { munmap(self.ptr(), self.size) };
            debug_assert!(unmapped.is_ok());
        }
    }

    /// Executable and never writable pages; written through the file behind them.
    #[derive(Debug)]
    pub(in super::super) struct Shared {
        addr: u64,
        size: usize,
        file: OwnedFd,
    }

    impl Shared {
        pub(in super::super) fn near(size: usize, near: u64) -> Result<Self, Error> {
            let file = memfd_create("bpf_prog_pack", MemfdFlags::CLOEXEC)
                .map_err(|e| failed("memfd_create", e))?;
            ftruncate(&file, size as u64).map_err(|e| failed("ftruncate", e))?;
            let addr = search(size, near, "mmap", |at| {
                let prot = ProtFlags::READ | ProtFlags::EXEC;
                let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
                // SAFETY: FIXED_NOREPLACE takes free addresses only, so no memory of anybody else changes.
                unsafe { mmap(at, size, prot, flags, &file, 0) }
            })?;
            Ok(Shared { addr, size, file })
        }

        pub(in super::super) fn addr(&self) -> u64 {
            self.addr
        }

        pub(in super::super) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
            let mut done = 0;
            while done < bytes.len() {
                match pwrite(&self.file, &bytes[done..], (offset + done) as u64) {
                    Ok(n) => done += n,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(failed("pwrite", errno)),
                }
            }
            Ok(())
        }
    }

    impl Drop for Shared {
        fn drop(&mut self) {
            let ptr = std::ptr::with_exposed_provenance_mut(self.addr as usize);
            // SAFETY: the range is this mapping, to which no Rust reference exists; it is dropped with the last image.
            let unmapped = unsafe { munmap(ptr, self.size) };
            debug_assert!(unmapped.is_ok());
        }
    }
}

/// Machines on which trampolines do not run: no value of these types exists.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod none {
    use super::Error;

    #[derive(Debug)]
    pub(in super::super) enum Mapping {}

    impl Mapping {
        pub(in super::super) fn near(_: usize, _: u64) -> Result<Self, Error> {
            Err(Error::Unavailable)
        }

        pub(in super::super) fn addr(&self) -> u64 {
            match *self {}
        }

        pub(in super::super) fn size(&self) -> usize {
            match *self {}
        }

        pub(in super::super) fn write(&mut self, _: usize, _: &[u8]) {
            match *self {}
        }

        pub(in super::super) fn make_executable(&mut self) -> Result<(), Error> {
            match *self {}
        }

        pub(in super::super) fn make_inaccessible(&self) -> Result<(), Error> {
            match *self {}
        }
    }

    #[derive(Debug)]
    pub(in super::super) enum Shared {}

    impl Shared {
        pub(in super::super) fn near(_: usize, _: u64) -> Result<Self, Error> {
            Err(Error::Unavailable)
        }

        pub(in super::super) fn addr(&self) -> u64 {
            match *self {}
        }

        pub(in super::super) fn write(&self, _: usize, _: &[u8]) -> Result<(), Error> {
            match *self {}
        }
    }
}
