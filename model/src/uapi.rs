//! Where what user space writes lies in `union bpf_attr`: the attributes of BPF_LINK_CREATE that matter for struct_ops,
//! and which of them share bytes.
//!
//! Stands for include/uapi/linux/bpf.h. Not here: the attributes of other commands, and those of other links but for
//! their cookies.

use std::ops::Range;

use crate::place::Linux;

/// Who reads an attribute when a link of a struct_ops map is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBy {
    /// Linux from this version on.
    Linux(Linux),
    /// The patches of this series, on Linux 6.12.
    Series(&'static str),
    /// Nobody: it is an attribute of links of this kind.
    OtherLinks(&'static str),
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name in `attr->link_create`.
    pub name: &'static str,
    /// The first byte.
    pub offset: usize,
    /// How many bytes.
    pub size: usize,
    /// Who reads it.
    pub read_by: ReadBy,
    /// What it is.
    pub meaning: &'static str,
}

impl Attribute {
    /// Its bytes.
    pub fn bytes(&self) -> Range<usize> {
        self.offset..self.offset + self.size
    }

    /// Whether some byte is of both.
    pub fn overlaps(&self, other: &Attribute) -> bool {
        let (a, b) = (self.bytes(), other.bytes());
        a.start < b.end && b.start < a.end
    }
}

/// The bytes of the union in which each kind of link has its own attributes.
pub const LINK_CREATE_UNION: Range<usize> = 16..64;

/// The attributes of BPF_LINK_CREATE.
pub const LINK_CREATE: &[Attribute] = &[
    Attribute {
        name: "map_fd",
        offset: 0,
        size: 4,
        read_by: ReadBy::Linux(Linux::V6_12),
        meaning: "the map",
    },
    Attribute {
        name: "target_fd",
        offset: 4,
        size: 4,
        read_by: ReadBy::Linux(Linux::V7_4),
        meaning: "the cgroup, for types that attach to cgroups",
    },
    Attribute {
        name: "attach_type",
        offset: 8,
        size: 4,
        read_by: ReadBy::Linux(Linux::V6_12),
        meaning: "BPF_STRUCT_OPS",
    },
    Attribute {
        name: "flags",
        offset: 12,
        size: 4,
        read_by: ReadBy::Linux(Linux::V6_12),
        meaning: "0; BPF_F_BEFORE, _AFTER, _PREORDER, _LINK and _ID for types that attach to cgroups",
    },
    Attribute {
        name: "struct_ops.cookie",
        offset: 16,
        size: 8,
        read_by: ReadBy::Series("rfc"),
        meaning: "the cookie",
    },
    Attribute {
        name: "struct_ops.cookie",
        offset: 16,
        size: 8,
        read_by: ReadBy::Series("link-owned"),
        meaning: "the cookie",
    },
    Attribute {
        name: "cgroup.relative_fd",
        offset: 16,
        size: 4,
        read_by: ReadBy::Linux(Linux::V7_4),
        meaning: "or relative_id: the anchor in the cgroup's list; 0 for other types",
    },
    Attribute {
        name: "cgroup.expected_revision",
        offset: 24,
        size: 8,
        read_by: ReadBy::Linux(Linux::V7_4),
        meaning: "of the cgroup's list; 0 for other types",
    },
    Attribute {
        name: "perf_event.bpf_cookie",
        offset: 16,
        size: 8,
        read_by: ReadBy::OtherLinks("perf events"),
        meaning: "the cookie",
    },
    Attribute {
        name: "tracing.cookie",
        offset: 24,
        size: 8,
        read_by: ReadBy::OtherLinks("fentry and its siblings"),
        meaning: "the cookie",
    },
    Attribute {
        name: "kprobe_multi.cookies",
        offset: 40,
        size: 8,
        read_by: ReadBy::OtherLinks("kprobes"),
        meaning: "a pointer to the cookies",
    },
    Attribute {
        name: "uprobe_multi.cookies",
        offset: 40,
        size: 8,
        read_by: ReadBy::OtherLinks("uprobes"),
        meaning: "a pointer to the cookies",
    },
];

/// A series' attributes, each with one that Linux reads from some version on in the same bytes.
pub fn collisions() -> impl Iterator<Item = (&'static Attribute, &'static Attribute)> {
    let series = LINK_CREATE.iter();
    let series = series.filter(|a| matches!(a.read_by, ReadBy::Series(_)));
    series.flat_map(|ours| {
        let theirs = LINK_CREATE.iter();
        theirs
            .filter(|a| matches!(a.read_by, ReadBy::Linux(_)) && a.overlaps(ours))
            .map(move |theirs| (ours, theirs))
    })
}

/// From which byte of the union on Linux reads nothing for struct_ops, on any version that is known here.
pub fn free_from() -> usize {
    let read = LINK_CREATE.iter();
    let read = read.filter(|a| matches!(a.read_by, ReadBy::Linux(_)));
    let ends = read.map(|a| a.bytes().end);
    ends.fold(LINK_CREATE_UNION.start, usize::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_series_reads_collides_on_the_kernel_that_reads_it_too() {
        let found: Vec<_> = collisions().map(|(a, b)| (a.read_by, b.name)).collect();
        assert_eq!(
            found,
            [
                (ReadBy::Series("rfc"), "cgroup.relative_fd"),
                (ReadBy::Series("link-owned"), "cgroup.relative_fd"),
            ]
        );
        assert_eq!(free_from(), 32);
    }

    #[test]
    fn attributes_lie_before_the_union_or_in_it() {
        for attribute in LINK_CREATE {
            let bytes = attribute.bytes();
            assert!(bytes.end <= LINK_CREATE_UNION.end, "{}", attribute.name);
            assert!(
                bytes.end <= LINK_CREATE_UNION.start || bytes.start >= LINK_CREATE_UNION.start,
                "{}",
                attribute.name
            );
        }
    }
}
