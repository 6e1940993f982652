//! Who allocates what when: a map, a link, an attachment, under a design.
//!
//! Stands for the allocations of `kernel/bpf/bpf_struct_ops.c` and for `bpf_struct_ops_map_mem_usage()`, and for those
//! of the kernel patch series where a link owns what is built for it. Counted are
//!
//! - **charged**: what the map says of itself (`memlock` in its fdinfo);
//! - **uncharged**: the slab objects of `bpf_tramp_link`, `bpf_ksym` and `bpf_struct_ops_link`, which nobody is charged
//!   for, rounded up to the slab's size classes;
//! - **pages**: image pages. The kernel charges a map for exactly one, however many it has; `charged` does the same.
//!
//! Not counted: files behind fds, programs, and what the subsystem allocates.

use serde::Serialize;
use struct_ops_model::Design;
use struct_ops_model::design::{Build, Identity, Owner};

use super::{DesignCost, LinksCost};
use crate::btf::{Btf, BtfError};
use crate::tramp::image::PAGE_SIZE;

/// Pages, and bytes of other memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Image pages.
    pub pages: u64,
    /// Image pages that are in `charged`: what the map reports is not what it has.
    pub pages_charged: u64,
    /// Bytes that the map reports.
    pub charged: u64,
    /// Bytes that nobody is charged for.
    pub uncharged: u64,
}

impl Memory {
    /// Bytes that are really in use.
    pub fn total(&self) -> u64 {
        (self.charged + self.uncharged + self.pages * PAGE_SIZE as u64)
            .saturating_sub(self.pages_charged * PAGE_SIZE as u64)
    }
}

impl std::ops::Add for Memory {
    type Output = Memory;

    fn add(self, other: Memory) -> Memory {
        Memory {
            pages: self.pages + other.pages,
            pages_charged: self.pages_charged + other.pages_charged,
            charged: self.charged + other.charged,
            uncharged: self.uncharged + other.uncharged,
        }
    }
}

impl std::ops::Mul<Memory> for u64 {
    type Output = Memory;

    fn mul(self, memory: Memory) -> Memory {
        Memory {
            pages: self * memory.pages,
            pages_charged: self * memory.pages_charged,
            charged: self * memory.charged,
            uncharged: self * memory.uncharged,
        }
    }
}

/// Sizes of a kernel's structs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLayout {
    map: usize,
    value: usize,
    link: usize,
    tramp_link: usize,
    ksym: usize,
}

impl KernelLayout {
    /// From BTF.
    pub fn read(btf: &Btf) -> Result<Self, BtfError> {
        Ok(KernelLayout {
            map: btf.struct_size("bpf_struct_ops_map")?,
            value: btf.struct_size("bpf_struct_ops_value")?,
            link: btf.struct_size("bpf_struct_ops_link")?,
            tramp_link: btf.struct_size("bpf_tramp_link")?,
            ksym: btf.struct_size("bpf_ksym")?,
        })
    }
}

/// Sizes where a link owns what is built for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachmentLayout {
    map: usize,
    value: usize,
    link: usize,
    /// Up to its kvalue.
    attachment: usize,
    /// Program and ksym of one member.
    trampoline: usize,
}

impl AttachmentLayout {
    /// From the BTF of a kernel with the series.
    pub fn read(btf: &Btf) -> Result<Self, BtfError> {
        let value = btf.struct_size("bpf_struct_ops_value")?;
        Ok(AttachmentLayout {
            map: btf.struct_size("bpf_struct_ops_map")?,
            value,
            link: btf.struct_size("bpf_struct_ops_link")?,
            attachment: btf
                .struct_size("bpf_struct_ops_attachment")?
                .saturating_sub(value),
            trampoline: btf.struct_size("bpf_struct_ops_trampoline")?,
        })
    }
}

/// One type's sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub kernel: KernelLayout,
    pub attachment: AttachmentLayout,
    pub value_size: usize,
    /// Function pointers of the type: arrays are as long.
    pub funcs_cnt: usize,
    /// Those that have a program.
    pub members: usize,
    pub pages: usize,
    pub pages_with_cookie: usize,
}

impl Layout {
    /// `bpf_struct_ops_map_mem_usage()`: an array of links and one of ksyms.
    fn map_mem_usage(&self) -> u64 {
        let map = self.kernel.map + self.value_size - self.kernel.value;
        (map + self.value_size + 2 * 8 * self.funcs_cnt + PAGE_SIZE) as u64
    }

    /// The same where a link owns what is built for it: an array of programs, no page.
    fn map_mem_usage_link_owned(&self) -> u64 {
        let map = self.attachment.map + self.value_size - self.attachment.value;
        (map + self.value_size + 8 * self.funcs_cnt) as u64
    }

    fn tramp_links(&self) -> u64 {
        self.members as u64 * kmalloc(self.kernel.tramp_link)
    }

    fn ksyms(&self) -> u64 {
        self.members as u64 * kmalloc(self.kernel.ksym)
    }

    fn per_map(&self, design: &Design) -> Memory {
        match (design.owner, design.build) {
            (Owner::Link, _) => Memory {
                charged: self.map_mem_usage_link_owned(),
                ..Memory::default()
            },
            (Owner::Map, Build::MapUpdate) => Memory {
                pages: self.pages as u64,
                pages_charged: 1,
                charged: self.map_mem_usage(),
                uncharged: self.tramp_links() + self.ksyms(),
            },
            (Owner::Map, Build::LinkCreate) => Memory {
                pages: 0,
                pages_charged: 1,
                charged: self.map_mem_usage(),
                uncharged: self.tramp_links(),
            },
        }
    }

    fn per_link(&self, design: &Design) -> Memory {
        // the worst immediate, if there is a cookie at all
        let pages = match design.identity {
            Identity::Cookie | Identity::MapExtra | Identity::MapId => self.pages_with_cookie,
            Identity::None | Identity::ThisPointer | Identity::Association | Identity::Task => {
                self.pages
            }
        };
        match (design.owner, design.build) {
            (Owner::Link, _) => {
                let attachment = self.attachment.attachment
                    + self.value_size
                    + self.funcs_cnt * self.attachment.trampoline
                    + pages * PAGE_SIZE;
                Memory {
                    pages: pages as u64,
                    pages_charged: pages as u64,
                    charged: attachment as u64,
                    uncharged: kmalloc(self.attachment.link),
                }
            }
            (Owner::Map, Build::MapUpdate) => Memory {
                uncharged: kmalloc(self.kernel.link),
                ..Memory::default()
            },
            (Owner::Map, Build::LinkCreate) => Memory {
                pages: pages as u64,
                pages_charged: 0,
                charged: 0,
                uncharged: self.ksyms() + kmalloc(self.kernel.link),
            },
        }
    }

    /// How many maps so many links need, if every link is to have what tells it apart. What belongs to the map takes a
    /// map each; so does a cookie in trampolines of which a map has one set. A design without identity tells nothing
    /// apart: one map will do.
    fn maps(design: &Design, links: u64) -> u64 {
        match (design.identity, design.owner) {
            (Identity::None | Identity::Task, _) | (Identity::Cookie, Owner::Link) => 1,
            _ => links,
        }
    }

    pub(super) fn design(&self, design: &Design, links: &[u64]) -> DesignCost {
        let (per_map, per_link) = (self.per_map(design), self.per_link(design));
        DesignCost {
            design: design.name.clone(),
            per_map,
            per_link,
            links: links
                .iter()
                .map(|&links| {
                    let maps = Self::maps(design, links);
                    LinksCost {
                        links,
                        maps,
                        memory: maps * per_map + links * per_link,
                    }
                })
                .collect(),
        }
    }
}

/// What a kmalloc() of a size takes.
fn kmalloc(size: usize) -> u64 {
    let size = match size {
        65..=96 => 96,
        129..=192 => 192,
        size => size.next_power_of_two().max(8),
    };
    size as u64
}
