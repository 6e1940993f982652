//! What attaching costs, as tables for people.

use std::fmt::Write;

use super::screen::{Mark, Screen};
use super::text::count;
use crate::cost::memory::Memory;
use crate::cost::{DesignCost, TypeCost};
use crate::tramp::Code;

/// One type of one kernel.
pub fn text(screen: &Screen, cost: &TypeCost) -> String {
    let mut out = format!("{} in {}\n\n", cost.r#type, cost.kernel);
    let width = cost
        .members
        .iter()
        .map(|m| m.member.len())
        .chain([6])
        .max()
        .unwrap_or(6);
    let _ = writeln!(
        out,
        "  {:width$}  regs  bytes   with a cookie: u32  s32  u64",
        "member"
    );
    for m in &cost.members {
        let with = m.bytes_with_cookie;
        let _ = writeln!(
            out,
            "  {:width$}  {:>4}  {:>5}                  {:>3}  {:>3}  {:>3}",
            m.member, m.argument_registers, m.bytes, with.u32, with.s32, with.u64
        );
    }
    let bytes: usize = cost.members.iter().map(|m| m.bytes).sum();
    let with: usize = cost.members.iter().map(|m| m.bytes_with_cookie.u64).sum();
    let _ = writeln!(
        out,
        "\n  {} members: {} bytes, {}; with 64-bit cookies {} bytes, {}\n",
        cost.members.len(),
        count(bytes as u64),
        pages(cost.pages),
        count(with as u64),
        pages(cost.pages_with_cookie)
    );
    out += &designs(screen, &cost.designs);
    out += &measured(screen, cost);
    out
}

fn pages(n: usize) -> String {
    format!("{n} page{}", if n == 1 { "" } else { "s" })
}

/// What a line of [`designs`] takes beside the name.
const COLUMNS: usize = 61;

fn designs(screen: &Screen, designs: &[DesignCost]) -> String {
    let width = designs
        .iter()
        .map(|d| d.design.len())
        .chain([6])
        .max()
        .filter(|width| 4 + width + COLUMNS <= screen.width)
        .unwrap_or(0);
    let heading = format!(
        "  {:width$}  {:<12} {:>6} {:>7} {:>10} {:>10} {:>11}",
        if width == 0 { "" } else { "design" },
        "",
        "maps",
        "pages",
        "charged",
        "uncharged",
        "in all"
    );
    let mut out = screen.paint(Mark::Head, &heading) + "\n";
    let mut line = |name: &str, what: &str, maps: &str, m: &Memory| {
        // Where a long name leaves no room, it stands above its lines.
        let name = match width {
            0 if !name.is_empty() => {
                let _ = writeln!(out, "  {name}");
                ""
            }
            _ => name,
        };
        let _ = writeln!(
            out,
            "  {name:width$}  {what:<12} {maps:>6} {:>7} {:>10} {:>10} {:>11}",
            count(m.pages),
            count(m.charged),
            count(m.uncharged),
            count(m.total())
        );
    };
    for d in designs {
        line(&d.design, "per map", "", &d.per_map);
        line("", "per link", "", &d.per_link);
        for n in &d.links {
            let what = format!(
                "{} link{}",
                count(n.links),
                if n.links == 1 { "" } else { "s" }
            );
            line("", &what, &count(n.maps), &n.memory);
        }
    }
    out
}

fn measured(screen: &Screen, cost: &TypeCost) -> String {
    let mut out = String::new();
    for m in &cost.measured {
        let mut text = format!(
            "Measured on {}, {} maps with {} members: a map reports {} bytes, takes {} image page(s) and {} bytes of \
             slab memory, of which the memory cgroup is charged {}",
            m.kernel,
            m.maps,
            m.members,
            count(m.memlock),
            ratio(m.pages, m.maps),
            count(m.slab_per_map),
            count(m.memcg_per_map),
        );
        if let Some(slab) = m.slab_per_link {
            let _ = write!(text, "; a link takes {} bytes", count(slab));
        }
        let _ = write!(
            text,
            " (files behind fds included; sim/golden/{}).",
            m.source
        );
        if let Some(mainline) = cost.designs.iter().find(|d| d.design == "mainline") {
            let per_map = mainline.per_map;
            let slab = per_map.total() - per_map.pages * 4096;
            let _ = write!(
                text,
                " Computed for mainline: {} bytes reported, {} page(s), {} bytes of slab.",
                count(per_map.charged),
                per_map.pages,
                count(slab)
            );
        }
        out += "\n";
        out += &screen.paragraph(&text, 2);
    }
    out
}

fn ratio(a: u64, b: u64) -> String {
    if b != 0 && a.is_multiple_of(b) {
        (a / b).to_string()
    } else {
        format!("{:.2}", a as f64 / b as f64)
    }
}

/// What the columns mean.
const LEGEND: [(&str, &str); 5] = [
    (
        "bytes",
        "a trampoline with the 64 bytes of slack that the kernel keeps behind it",
    ),
    (
        "maps",
        "that so many links need, if each is to have what tells it apart",
    ),
    (
        "charged",
        "bytes that the map reports (memlock in its fdinfo); the kernel always counts one page per map",
    ),
    (
        "uncharged",
        "bytes of bpf_tramp_link, bpf_ksym and bpf_struct_ops_link, which nobody is charged for",
    ),
    (
        "in all",
        "bytes really in use: both, with the pages that there are instead of those that are reported",
    ),
];

/// What the columns mean, as text.
pub fn legend(screen: &Screen) -> String {
    LEGEND
        .iter()
        .map(|(column, meaning)| screen.entry(column, 9, meaning))
        .collect()
}

/// One trampoline.
pub fn listing(kernel: &str, ty: &str, member: &str, cookie: u64, code: &Code) -> String {
    format!(
        "{ty}.{member} in {kernel}, cookie {cookie:#x}: {} bytes of code, {} with the slack behind it\n\n{code}",
        code.bytes().len(),
        code.size()
    )
}
