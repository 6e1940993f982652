//! Worlds for the tests of this crate, written out in Rust: the crate reads no scenario file.

use struct_ops_model::world::{
    Body, CpuDecl, MAX_MEMBERS, MapDecl, Member, Plan, ProgDecl, StructOpsType, Subsystem, World,
};

/// A world of one subsystem whose type has one required member; each map is `(BPF_F_LINK, name, has the member)` and
/// has a program of its own.
pub fn world(subsystem: Subsystem, maps: &[(bool, u8, bool)], cpus: Vec<Plan>) -> World {
    let member = Member {
        name: "ssthresh".into(),
        sleepable: false,
        required: true,
        size: 171,
    };
    World {
        types: vec![StructOpsType {
            name: "st".into(),
            subsystem,
            members: vec![member],
            module: false,
        }],
        progs: (0..maps.len())
            .map(|i| ProgDecl {
                name: format!("p{i}"),
                ty: 0,
                member: 0,
                body: Body::ReadCookie,
                process: None,
            })
            .collect(),
        maps: maps
            .iter()
            .enumerate()
            .map(|(i, (link, key, filled))| {
                let mut progs = [None; MAX_MEMBERS];
                progs[0] = filled.then_some(i as u8);
                MapDecl {
                    name: format!("m{i}"),
                    ty: 0,
                    link: *link,
                    key: *key,
                    progs: progs.to_vec(),
                    owner_set: false,
                }
            })
            .collect(),
        links: (0..4).map(|i| format!("l{i}")).collect(),
        cookies: vec![0, 0x11, 0x22],
        keys: vec!["a".into(), "b".into()],
        procs: 1,
        cpus: cpus
            .into_iter()
            .map(|plan| CpuDecl { proc: 0, plan })
            .collect(),
        max_links: 3,
        ..World::default()
    }
}
