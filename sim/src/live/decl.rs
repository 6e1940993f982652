//! What a runtime is made of: types, programs and maps, of any number.
//!
//! A [`World`] of the model becomes one; benchmarks make larger ones, which no model has to follow.

use struct_ops_model::world::{self, Body, Member, Subsystem};
use struct_ops_model::{Linux, World};

/// A struct_ops type.
#[derive(Clone, Debug)]
pub struct Type {
    /// The subsystem.
    pub subsystem: Subsystem,
    /// Its function pointers.
    pub members: Vec<Member>,
    /// Lives in a module.
    pub module: bool,
}

/// A program.
#[derive(Clone, Debug)]
pub struct ProgDecl {
    /// Name.
    pub name: String,
    /// The member may sleep.
    pub sleepable: bool,
    /// What it does.
    pub body: Body,
    /// Processes that have it open, one bit each.
    pub fds: u8,
}

/// A map as user space would create it.
#[derive(Clone, Debug)]
pub struct MapDecl {
    /// Name.
    pub name: String,
    /// Index of its type.
    pub ty: usize,
    /// BPF_F_LINK.
    pub link: bool,
    /// Registration key.
    pub key: u8,
    /// Program of each member.
    pub progs: Vec<Option<usize>>,
    /// The struct's module-owner member is not zero.
    pub owner_set: bool,
}

/// Everything that does not change.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Types.
    pub types: Vec<Type>,
    /// Programs.
    pub progs: Vec<ProgDecl>,
    /// Maps.
    pub maps: Vec<MapDecl>,
    /// Values of cookies.
    pub cookies: Vec<u64>,
    /// Processes.
    pub procs: u8,
}

impl Declared {
    /// The kernel whose functions carry the steps out.
    pub fn linux(&self) -> Linux {
        world::linux(self.types.iter().map(|t| t.subsystem))
    }

    /// The type of a map.
    pub fn type_of(&self, map: usize) -> &Type {
        &self.types[self.maps[map].ty]
    }

    /// Programs of this map's struct satisfy validate().
    pub fn validates(&self, map: usize) -> bool {
        let progs = &self.maps[map].progs;
        self.type_of(map)
            .members
            .iter()
            .zip(progs)
            .all(|(m, p)| !m.required || p.is_some())
    }

    /// One of the map's programs may sleep.
    pub fn sleepable(&self, map: usize) -> bool {
        let progs = &self.maps[map].progs;
        self.type_of(map)
            .members
            .iter()
            .zip(progs)
            .any(|(m, p)| m.sleepable && p.is_some())
    }
}

impl From<&World> for Declared {
    fn from(world: &World) -> Self {
        let types = world.types.iter().map(|t| Type {
            subsystem: t.subsystem,
            members: t.members.clone(),
            module: t.module,
        });
        let progs = world.progs.iter().map(|p| ProgDecl {
            name: p.name.clone(),
            sleepable: world.types[p.ty].members[p.member].sleepable,
            body: p.body,
            fds: world.loaded_by(p),
        });
        let maps = world.maps.iter().map(|m| MapDecl {
            name: m.name.clone(),
            ty: m.ty,
            link: m.link,
            key: m.key,
            progs: m.progs[..world.types[m.ty].members.len()]
                .iter()
                .map(|p| p.map(usize::from))
                .collect(),
            owner_set: m.owner_set,
        });
        Declared {
            types: types.collect(),
            progs: progs.collect(),
            maps: maps.collect(),
            cookies: world.cookies.clone(),
            procs: world.procs,
        }
    }
}
