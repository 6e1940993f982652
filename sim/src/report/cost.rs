//! What attaching costs, as tables for people.

use std::fmt::Write;

use super::screen::{Mark, Screen};
use super::text::{count, wrap};
use crate::cost::generator::Generator;
use crate::cost::memory::Memory;
use crate::cost::{BytesWithCookie, DesignCost, MemberCost, TypeCost, Unsupported};
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
        let with = |size: fn(BytesWithCookie) -> usize| number(m.bytes_with_cookie.map(size));
        let _ = writeln!(
            out,
            "  {:width$}  {:>4}  {:>5}                  {:>3}  {:>3}  {:>3}",
            m.member,
            m.argument_registers,
            number(m.bytes),
            with(|b| b.u32),
            with(|b| b.s32),
            with(|b| b.u64)
        );
    }
    let mut sum = plural(cost.members.len(), "member");
    let with = |m: &MemberCost| Some(m.bytes_with_cookie?.u64);
    if let (Some(bytes), Some(with), Some(here), Some(there)) = (
        cost.members.iter().map(|m| m.bytes).sum::<Option<usize>>(),
        cost.members.iter().map(with).sum::<Option<usize>>(),
        cost.pages,
        cost.pages_with_cookie,
    ) {
        let _ = write!(
            sum,
            ": {} bytes, {}; with 64-bit cookies {} bytes, {}",
            count(bytes as u64),
            plural(here, "page"),
            count(with as u64),
            plural(there, "page")
        );
    }
    out += &format!("\n{}\n", screen.paragraph(&sum, 2));
    for Unsupported { member, reason } in &cost.unsupported {
        out += &screen.paragraph(&format!("No trampoline for {member}: {reason}."), 2);
        out += "\n";
    }
    out += &designs(screen, &cost.designs);
    out += &measured(screen, cost);
    out
}

fn pages_are_known(designs: &[DesignCost]) -> bool {
    designs
        .iter()
        .all(|d| d.per_map.total().is_some() && d.per_link.total().is_some())
}

/// What is not known is a dash.
fn number(n: Option<usize>) -> String {
    n.map_or("-".to_owned(), |n| n.to_string())
}

fn counted(n: Option<u64>) -> String {
    n.map_or("-".to_owned(), count)
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
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
    // where not all pages are known, what is known without them
    let known = pages_are_known(designs);
    let heading = format!(
        "  {:width$}  {:<12} {:>6} {:>7} {:>10} {:>10} {:>11}",
        if width == 0 { "" } else { "design" },
        "",
        "maps",
        "pages",
        "charged",
        "uncharged",
        if known { "in all" } else { "objects" }
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
        let last = if known { m.total() } else { Some(m.objects) };
        let _ = writeln!(
            out,
            "  {name:width$}  {what:<12} {maps:>6} {:>7} {:>10} {:>10} {:>11}",
            counted(m.pages),
            counted(m.charged),
            count(m.uncharged),
            counted(last)
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
            let _ = write!(
                text,
                " Computed for mainline: {} bytes reported, {} page(s), {} bytes of slab.",
                counted(per_map.charged),
                counted(per_map.pages),
                count(per_map.objects)
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

/// Which generator each kernel has, and from what that was concluded.
pub fn generators<'a>(
    screen: &Screen,
    kernels: impl IntoIterator<Item = (&'a str, &'a Generator)>,
) -> String {
    kernels
        .into_iter()
        .map(|(name, generator)| {
            let text = format!("Code generator of {name}: {}", generator.sentence());
            screen.paragraph(&text, 0) + "\n"
        })
        .collect()
}

/// What the columns of the tables mean.
pub fn legend(screen: &Screen, costs: &[TypeCost]) -> String {
    let mut legend = vec![
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
    ];
    if costs.iter().any(|cost| pages_are_known(&cost.designs)) {
        legend.push((
            "in all",
            "bytes really in use: both, with the pages that there are instead of those that are reported",
        ));
    }
    if costs.iter().any(|cost| !pages_are_known(&cost.designs)) {
        legend.push((
            "objects",
            "bytes in use without image pages: how many there are is not known",
        ));
    }
    legend
        .iter()
        .map(|(column, meaning)| screen.entry(column, 9, meaning))
        .collect()
}

/// One trampoline.
pub fn listing(
    screen: &Screen,
    kernel: (&str, &Generator),
    ty: &str,
    member: &str,
    cookie: u64,
    code: &Code,
) -> String {
    let title = format!(
        "{ty}.{member} in {}, cookie {cookie:#x}: {} bytes of code, {} with the slack behind it",
        kernel.0,
        code.bytes().len(),
        code.size(),
    );
    format!(
        "{}\n{}\n{}\n",
        screen.paragraph(&title, 0),
        instructions(screen, code),
        generators(screen, [kernel]).trim_end()
    )
}

/// Columns of a note beside its instruction, at least: where they are not left, it stands above.
const NOTE: usize = 18;

/// One line per instruction, with what it is for. Where there is little room, nothing is left between bytes.
pub fn instructions(screen: &Screen, code: &Code) -> String {
    let mut out = String::new();
    let lines = code.lines();
    let longest = lines.iter().map(|l| l.bytes.len()).max().unwrap_or(0);
    let text = lines.iter().map(|l| l.text.len()).max().unwrap_or(0);
    let beside = |bytes: usize| screen.width.checked_sub(6 + bytes + 2 + text + 4);
    let apart = (3 * longest).saturating_sub(1);
    let spaced = beside(apart).is_some_and(|room| room >= 28);
    let bytes = if spaced { apart } else { 2 * longest };
    let room = beside(bytes).filter(|room| *room >= NOTE);
    for line in lines {
        let each = line.bytes.iter().map(|b| format!("{b:02x}"));
        let hex = each.collect::<Vec<_>>().join(if spaced { " " } else { "" });
        let mut head = format!("{:4x}: {hex:<bytes$}  {:<text$}", line.offset, line.text);
        let note = wrap(&line.note, room.unwrap_or(screen.width - 8));
        let notes = note.iter().filter(|part| !part.is_empty());
        let notes = notes.map(|part| screen.paint(Mark::Detail, &format!("; {part}")));
        if room.is_none() || line.note.is_empty() {
            for note in notes {
                let _ = writeln!(out, "      {note}");
            }
            let _ = writeln!(out, "{}", head.trim_end());
            continue;
        }
        let margin = head.len();
        for note in notes {
            let _ = writeln!(out, "{head:margin$}  {note}");
            head.clear();
        }
    }
    out
}
