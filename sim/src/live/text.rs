//! Executable memory as everybody sees it: image pages with their trampolines, and what kallsyms names.
//!
//! Stands for `st_map->image_pages[]`, `arch_protect_bpf_trampoline()`, `arch_free_bpf_trampoline()` and kernel/bpf's
//! ksyms. All of it is under one lock, for a moment: a caller looks up the page that it is about to jump into, and a
//! page that is freed is inaccessible once nobody is inside, so a call into a freed page is reported and not made.
//! Not here: the bytes of a page (`page`).

use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use struct_ops_model::kernel::Code;

use super::object::Built;
use super::page::Page;

/// One trampoline.
#[derive(Clone, Copy, Debug)]
struct Trampoline {
    /// Its address.
    at: usize,
    code: Code,
}

/// One page of `image_pages[]`.
#[derive(Debug)]
pub(crate) struct Image {
    /// The memory, once nobody writes it any more.
    page: Option<Page>,
    pub live: bool,
    pub protected: bool,
    pub fill: usize,
    code: Vec<Trampoline>,
    /// Threads between the jump into it and the return.
    inside: u32,
    pub history: Vec<String>,
}

impl Image {
    /// The trampoline at an address.
    fn code_at(&self, address: usize) -> Code {
        let trampoline = self.code.iter().find(|c| c.at == address);
        trampoline
            .expect("function pointers point to trampolines")
            .code
    }
}

/// `struct bpf_ksym`.
#[derive(Debug)]
struct Ksym {
    func: usize,
    listed: bool,
}

/// What a caller finds at an address.
#[derive(Debug)]
pub(crate) enum Found {
    /// A trampoline in a page that can be executed.
    Code { code: Code, named: bool },
    /// The page is not executable yet.
    NotExecutable,
    /// The page has been freed.
    Gone { history: Vec<String> },
}

/// All image pages and kallsyms entries of a runtime, under one lock.
#[derive(Debug, Default)]
pub struct Text {
    images: BTreeMap<usize, Image>,
    ksyms: Slab<Ksym>,
    /// What the listed ones name.
    names: BTreeSet<usize>,
    live: usize,
    /// Pages that were freed while somebody was inside.
    pub(crate) freed_inside: usize,
}

/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 4096;

impl Text {
    fn image_mut(&mut self, address: usize) -> Option<&mut Image> {
        let (base, image) = self.images.range_mut(..=address).next_back()?;
        (address < base + PAGE_SIZE).then_some(image)
    }

    /// A new page at this address, empty.
    pub(crate) fn insert(&mut self, base: usize, by: String) {
        self.live += 1;
        self.images.insert(
            base,
            Image {
                page: None,
                live: true,
                protected: false,
                fill: 0,
                code: Vec::new(),
                inside: 0,
                history: vec![format!("allocated by {by}")],
            },
        );
    }

    /// Bytes used in a page.
    pub(crate) fn fill(&self, base: usize) -> usize {
        self.images.get(&base).map_or(PAGE_SIZE, |i| i.fill)
    }

    /// Whether the page is executable.
    pub(crate) fn protected(&self, base: usize) -> bool {
        self.images.get(&base).is_some_and(|i| i.protected)
    }

    /// A trampoline was written.
    pub(crate) fn push(&mut self, base: usize, at: usize, code: Code, size: usize) {
        let image = self.images.get_mut(&base).expect("the page is being built");
        image.fill += size;
        image.code.push(Trampoline { at, code });
    }

    /// Looks up the page to be entered, and counts the caller in.
    pub(crate) fn enter(&mut self, address: usize) -> Found {
        let named = self.named(address);
        let Some(image) = self.image_mut(address) else {
            return Found::Gone {
                history: vec!["not a page of any map".into()],
            };
        };
        if !image.live {
            return Found::Gone {
                history: image.history.clone(),
            };
        }
        if !image.protected {
            return Found::NotExecutable;
        }
        let code = image.code_at(address);
        image.inside += 1;
        Found::Code { code, named }
    }

    /// The trampoline that somebody is inside, if its page is still there; otherwise what happened to it.
    pub(crate) fn still_there(&mut self, address: usize) -> Result<Code, Vec<String>> {
        match self.image_mut(address) {
            Some(image) if image.live => Ok(image.code_at(address)),
            Some(image) => Err(image.history.clone()),
            None => Err(Vec::new()),
        }
    }

    /// What happened to the page of an address.
    pub(crate) fn history(&mut self, address: usize) -> Vec<String> {
        self.image_mut(address)
            .map_or_else(Vec::new, |i| i.history.clone())
    }

    /// The caller is out again; the last one out of a freed page makes it inaccessible.
    pub(crate) fn leave(&mut self, address: usize) {
        if let Some(image) = self.image_mut(address) {
            image.inside -= 1;
            if !image.live && image.inside == 0 {
                image.page = image.page.take().map(Page::revoke);
            }
        }
    }

    /// `arch_protect_bpf_trampoline()` was there.
    pub(crate) fn protect(&mut self, base: usize) {
        if let Some(image) = self.images.get_mut(&base) {
            image.protected = true;
        }
    }

    /// Keeps the memory of a page that nobody writes any more.
    pub(crate) fn keep(&mut self, base: usize, page: Page) {
        if let Some(image) = self.images.get_mut(&base) {
            image.page = Some(page);
        }
    }

    /// `bpf_struct_ops_map_free_image()`. Whether kallsyms still names something inside.
    pub(crate) fn free_images(&mut self, built: &mut Built, by: &str) -> bool {
        let mut named = false;
        for base in std::mem::take(&mut built.pages).into_iter().flatten() {
            named |= self.names.range(base..base + PAGE_SIZE).next().is_some();
            self.free_image(base, by);
        }
        named
    }

    /// One page goes.
    pub(crate) fn free_image(&mut self, base: usize, by: &str) {
        let image = self.images.get_mut(&base).expect("pages are in the table");
        image.live = false;
        image.history.push(format!("freed by {by}"));
        self.live -= 1;
        if image.inside == 0 {
            image.page = image.page.take().map(Page::revoke);
        } else {
            self.freed_inside += 1;
        }
    }

    // ---- kallsyms ---------------------------------------------------------------------------------

    /// A `bpf_ksym`, naming nothing yet.
    pub(crate) fn ksym_alloc(&mut self) -> usize {
        self.ksyms.insert(Ksym {
            func: 0,
            listed: false,
        })
    }

    /// `bpf_image_ksym_init()`.
    pub(crate) fn ksym_init(&mut self, ksym: usize, func: usize) {
        self.ksyms[ksym].func = func;
    }

    /// `bpf_struct_ops_map_add_ksyms()`: up to the first NULL.
    pub(crate) fn add_ksyms(&mut self, built: &Built) {
        for ksym in built.ksyms.iter().map_while(|k| *k) {
            self.ksyms[ksym].listed = true;
            self.names.insert(self.ksyms[ksym].func);
        }
    }

    /// `bpf_struct_ops_map_del_ksyms()`.
    pub(crate) fn del_ksyms(&mut self, built: &Built) {
        for ksym in built.ksyms.iter().map_while(|k| *k) {
            self.ksyms[ksym].listed = false;
            self.names.remove(&self.ksyms[ksym].func);
        }
    }

    /// `bpf_struct_ops_map_free_ksyms()`. Whether kallsyms still had one.
    pub(crate) fn free_ksyms(&mut self, built: &mut Built) -> bool {
        let mut listed = false;
        for place in &mut built.ksyms {
            let Some(ksym) = place.take() else { break };
            let ksym = self.ksyms.remove(ksym);
            listed |= ksym.listed;
            if ksym.listed {
                self.names.remove(&ksym.func);
            }
        }
        // What follows a NULL is lost, as in the kernel.
        built.ksyms.fill(None);
        listed
    }

    fn named(&self, address: usize) -> bool {
        self.names.contains(&address)
    }

    /// Forgets pages that are gone: their memory is given back.
    pub(crate) fn empty_quarantine(&mut self) {
        self.images.retain(|_, i| i.live || i.inside > 0);
    }

    /// Live pages and ksyms.
    pub(crate) fn live(&self) -> (usize, usize) {
        (self.live, self.ksyms.len())
    }
}
