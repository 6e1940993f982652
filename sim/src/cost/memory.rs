//! Who allocates what when: a map, a link, an attachment, under a design.
//!
//! Stands for the allocations of `kernel/bpf/bpf_struct_ops.c` and for `bpf_struct_ops_map_mem_usage()`, and for those
//! of the kernel patch series where a link owns what is built for it. Counted are
//!
//! - **charged**: what the map says of itself (`memlock` in its fdinfo);
//! - **uncharged**: the slab objects of `bpf_tramp_link`, `bpf_ksym` and `bpf_struct_ops_link`, which nobody is charged
//!   for, rounded up to the slab's size classes;
//! - **pages**: image pages. The kernel charges a map for exactly one, however many it has; `charged` does the same.
//!   How many there are depends on the size of the code: where no generator is known to be the kernel's, it is not known;
//! - **objects**: both without the pages.
//!
//! Not counted: files behind fds, programs, and what the subsystem allocates.

use schemars::JsonSchema;
use serde::Serialize;
use struct_ops_model::Design;
use struct_ops_model::design::{Build, Identity, Owner};

use super::{DesignCost, LinksCost};
use crate::btf::{Btf, BtfError};

/// What is asked of a design; the figures of one with another choice that differs would be made up.
#[derive(Clone, Copy, Debug)]
struct Choices {
    build: Build,
    owner: Owner,
    identity: Identity,
}

/// The keys of the choices that are asked for.
pub const CHOICES: [&str; 3] = [Build::KEY, Owner::KEY, Identity::KEY];

/// Pages, and bytes of other memory. What depends on an unknown number of pages is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Memory {
    /// Image pages.
    pub pages: Option<u64>,
    /// Image pages that are in `charged`: what the map reports is not what it has.
    pub pages_charged: Option<u64>,
    /// Bytes that the map reports.
    pub charged: Option<u64>,
    /// Bytes that nobody is charged for.
    pub uncharged: u64,
    /// Bytes of everything but image pages.
    pub objects: u64,
    #[serde(skip)]
    page_size: Option<u64>,
}

impl Memory {
    /// Bytes that are really in use.
    pub fn total(&self) -> Option<u64> {
        Some(self.objects + bytes(self.pages, self.page_size)?)
    }

    fn new(page_size: Option<u64>, pages: Pages, charged: u64, uncharged: u64) -> Self {
        let pages_charged = bytes(pages.charged, page_size);
        Memory {
            pages: pages.used,
            pages_charged: pages.charged,
            charged: pages_charged.map(|pages| charged + pages),
            uncharged,
            objects: charged + uncharged,
            page_size,
        }
    }

    /// So many of this one and so many of another; `None` if that is more than can be counted.
    fn sum(n: u64, one: Self, m: u64, other: Self) -> Option<Self> {
        let sum = |a: u64, b: u64| n.checked_mul(a)?.checked_add(m.checked_mul(b)?);
        let known = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => sum(a, b).map(Some),
            _ => Some(None),
        };
        let memory = Memory {
            pages: known(one.pages, other.pages)?,
            pages_charged: known(one.pages_charged, other.pages_charged)?,
            charged: known(one.charged, other.charged)?,
            uncharged: sum(one.uncharged, other.uncharged)?,
            objects: sum(one.objects, other.objects)?,
            page_size: one.page_size,
        };
        // so that total() can be counted too
        let pages = memory.pages.unwrap_or(0);
        let bytes = pages.checked_mul(memory.page_size.unwrap_or(0))?;
        memory.objects.checked_add(bytes).and(Some(memory))
    }
}

/// Bytes of so many pages: none are none, whatever their size.
fn bytes(pages: Option<u64>, page_size: Option<u64>) -> Option<u64> {
    match pages? {
        0 => Some(0),
        pages => Some(pages * page_size?),
    }
}

/// Image pages: how many there are, and how many of them are charged.
struct Pages {
    used: Option<u64>,
    charged: Option<u64>,
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

/// The size of a page, if BTF shows it: `consumer_pos` is what a ring buffer's second page begins with.
pub fn page_size(btf: &Btf) -> Option<u64> {
    btf.field_offset("bpf_ringbuf", "consumer_pos")
        .filter(|size| size.is_power_of_two())
        .map(u64::from)
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
    /// `None` if it is not known.
    pub page_size: Option<u64>,
    /// `None` if the size of the code is not known.
    pub pages: Option<usize>,
    pub pages_with_cookie: Option<usize>,
}

impl Layout {
    /// `bpf_struct_ops_map_mem_usage()` but for its page: an array of links and one of ksyms.
    fn map_mem_usage(&self) -> u64 {
        let map = (self.kernel.map + self.value_size).saturating_sub(self.kernel.value);
        (map + self.value_size + 2 * 8 * self.funcs_cnt) as u64
    }

    /// The same where a link owns what is built for it: an array of programs, no page.
    fn map_mem_usage_link_owned(&self) -> u64 {
        let map = (self.attachment.map + self.value_size).saturating_sub(self.attachment.value);
        (map + self.value_size + 8 * self.funcs_cnt) as u64
    }

    fn tramp_links(&self) -> u64 {
        self.members as u64 * kmalloc(self.kernel.tramp_link)
    }

    fn ksyms(&self) -> u64 {
        self.members as u64 * kmalloc(self.kernel.ksym)
    }

    fn memory(&self, pages: Pages, charged: u64, uncharged: u64) -> Memory {
        Memory::new(self.page_size, pages, charged, uncharged)
    }

    fn per_map(&self, design: Choices) -> Memory {
        let pages = |used, charged| Pages {
            used,
            charged: Some(charged),
        };
        let here = self.pages.map(|pages| pages as u64);
        match (design.owner, design.build) {
            (Owner::Link, _) => self.memory(pages(Some(0), 0), self.map_mem_usage_link_owned(), 0),
            (Owner::Map, Build::MapUpdate) => self.memory(
                pages(here, 1),
                self.map_mem_usage(),
                self.tramp_links() + self.ksyms(),
            ),
            (Owner::Map, Build::LinkCreate) => {
                self.memory(pages(Some(0), 1), self.map_mem_usage(), self.tramp_links())
            }
        }
    }

    fn per_link(&self, design: Choices) -> Memory {
        // the worst immediate, if there is a cookie at all
        let here = match design.identity {
            Identity::Cookie | Identity::MapExtra | Identity::MapId => self.pages_with_cookie,
            Identity::None
            | Identity::ThisPointer
            | Identity::Association
            | Identity::Argument
            | Identity::RunCtx
            | Identity::Task => self.pages,
        };
        let here = here.map(|pages| pages as u64);
        let pages = |used, charged| Pages { used, charged };
        match (design.owner, design.build) {
            (Owner::Link, _) => {
                let attachment = self.attachment.attachment
                    + self.value_size
                    + self.funcs_cnt * self.attachment.trampoline;
                self.memory(
                    pages(here, here),
                    attachment as u64,
                    kmalloc(self.attachment.link),
                )
            }
            (Owner::Map, Build::MapUpdate) => {
                self.memory(pages(Some(0), Some(0)), 0, kmalloc(self.kernel.link))
            }
            (Owner::Map, Build::LinkCreate) => self.memory(
                pages(here, Some(0)),
                0,
                self.ksyms() + kmalloc(self.kernel.link),
            ),
        }
    }

    /// How many maps so many links need, if every link is to have what tells it apart. What belongs to the map takes a
    /// map each; so does a cookie in trampolines of which a map has one set. A design without identity tells nothing
    /// apart: one map will do.
    fn maps(design: Choices, links: u64) -> u64 {
        match (design.identity, design.owner) {
            (Identity::None | Identity::Argument | Identity::RunCtx | Identity::Task, _)
            | (Identity::Cookie, Owner::Link) => 1,
            _ => links,
        }
    }

    /// The figures of a design; an error names the number of links that is too large to be counted.
    pub(super) fn design(&self, design: &Design, links: &[u64]) -> Result<DesignCost, u64> {
        let choices = Choices {
            build: design.build,
            owner: design.owner,
            identity: design.identity,
        };
        let (per_map, per_link) = (self.per_map(choices), self.per_link(choices));
        let cost = |&links: &u64| {
            let maps = Self::maps(choices, links);
            let memory = Memory::sum(maps, per_map, links, per_link).ok_or(links)?;
            Ok(LinksCost {
                links,
                maps,
                memory,
            })
        };
        Ok(DesignCost {
            design: design.name.clone(),
            per_map,
            per_link,
            links: links.iter().map(cost).collect::<Result<_, u64>>()?,
        })
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
