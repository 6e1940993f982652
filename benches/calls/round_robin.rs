//! Calls that go round all attachments: what instruction cache and number of pages do.
//!
//! One set of trampolines for all (they belong to the map), a page for each (they belong to the link), and what a pack
//! makes of the latter if trampolines are allocated by their own size instead of by pages.

use std::hint::black_box;

use struct_ops_sim::tramp::image::{Image, PAGE_SIZE, pack::Packs};
use struct_ops_sim::tramp::{Flags, FuncModel, Jit, Trampoline};

use super::targets::targets;
use super::{Arm, Member, Row, link};

const ATTACHMENTS: [usize; 4] = [1, 10, 100, 1000];

/// Where the trampolines of so many attachments lie.
fn arm(name: &str, attachments: usize, images: usize, alloc: impl Fn(usize) -> Image) -> Arm {
    let model = FuncModel::new(&[8], 8).expect("one argument");
    let targets = targets();
    let mut made = Vec::new();
    for cookie in 1..=images as u64 {
        let links = [link(cookie)];
        let trampoline = Trampoline {
            jit: Jit::V7_3,
            model: &model,
            flags: Flags::struct_ops(&model),
            links: &links,
            targets: &targets,
            func: Default::default(),
        };
        let size = trampoline.generate(targets.enter).expect("in reach").size();
        let mut image = alloc(size);
        let code = trampoline.generate(image.addr()).expect("in reach");
        image.write(0, code.bytes()).expect("it fits");
        image.protect().expect("mprotect");
        made.push(image);
    }
    let members: Vec<Member> = (0..attachments)
        // SAFETY: every image is executable and holds a trampoline for a function of one u64; they live in the arm.
        .map(|i| unsafe { std::mem::transmute::<usize, Member>(made[i % images].addr() as usize) })
        .collect();
    Arm::new(format!("{name}, {attachments} attachments"), move |n| {
        let _images = &made;
        let members = black_box(&members);
        let mut next = 0;
        for i in 0..n {
            black_box(members[next](black_box(i)));
            next += 1;
            if next == members.len() {
                next = 0;
            }
        }
    })
}

pub(super) fn rows() -> Vec<Row> {
    let near = targets().enter;
    let page = move |_| Image::alloc(PAGE_SIZE, near).expect("an image");
    let mut rows = Vec::new();
    for attachments in ATTACHMENTS {
        let per_map = || arm("per map", attachments, 1, page);
        rows.push(Row {
            arm: arm("a page per link", attachments, attachments, page),
            against: per_map(),
        });
        let packs = Packs::default();
        let piece = move |size| packs.alloc(size, near).expect("an image");
        rows.push(Row {
            arm: arm("per link, packed", attachments, attachments, piece),
            against: per_map(),
        });
    }
    rows
}
