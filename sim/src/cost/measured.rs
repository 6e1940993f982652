//! What kernels were measured to use: figures taken in the lab by `sim/golden/take.sh "memory ..."`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The files, as the dumper printed them.
const FILES: [(&str, &str); 3] = [
    (
        "memory/tcp-6.12.toml",
        include_str!("../../golden/memory/tcp-6.12.toml"),
    ),
    (
        "memory/tcp-7.3.toml",
        include_str!("../../golden/memory/tcp-7.3.toml"),
    ),
    (
        "memory/scx-7.3.toml",
        include_str!("../../golden/memory/scx-7.3.toml"),
    ),
];

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Measured {
    /// The release that ran.
    pub kernel: String,
    /// Where the figures are kept, below `sim/golden/`.
    pub source: &'static str,
    /// Members with a program.
    pub members: u64,
    /// Maps that were made.
    pub maps: u64,
    /// What one map's fdinfo says.
    pub memlock: u64,
    /// Image pages of all maps.
    pub pages: u64,
    /// Bytes of slab memory per map, charged or not.
    pub slab_per_map: u64,
    /// Bytes per map that the memory cgroup was charged.
    pub memcg_per_map: u64,
    /// Bytes of slab memory per link, its file included; `None` if no links were made.
    pub slab_per_link: Option<u64>,
}

#[derive(Deserialize)]
struct File {
    kernel: String,
    r#type: String,
    members: u64,
    maps: u64,
    links: u64,
    memlock: u64,
    with_maps: Sample,
    with_links: Sample,
}

#[derive(Deserialize)]
struct Sample {
    charged: i64,
    slab_kib: i64,
    pages: u64,
}

/// All measurements of a type on a kernel, by the beginning of its release.
pub(super) fn of(name: &str, kernel: &str) -> Vec<Measured> {
    let release = format!("{kernel}.");
    FILES
        .iter()
        .filter_map(|(source, text)| Some((*source, toml::from_str::<File>(text).ok()?)))
        .filter(|(_, file)| file.r#type == name && file.kernel.starts_with(&release))
        .map(|(source, file)| Measured {
            source,
            members: file.members,
            maps: file.maps,
            memlock: file.memlock,
            pages: file.with_maps.pages,
            slab_per_map: per(1024 * file.with_maps.slab_kib, file.maps).unwrap_or(0),
            memcg_per_map: per(file.with_maps.charged, file.maps).unwrap_or(0),
            slab_per_link: per(1024 * file.with_links.slab_kib, file.links),
            kernel: file.kernel,
        })
        .collect()
}

fn per(bytes: i64, count: u64) -> Option<u64> {
    u64::try_from(bytes).ok()?.checked_div(count)
}
