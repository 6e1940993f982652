//! Names for what a state holds: the scenario's where there is one, the slot's number otherwise.

use struct_ops_model::Request;
use struct_ops_model::kernel::{Func, ImageKey, KdataKey, Kernel, KsymKey, LinkKey, MapKey};
use struct_ops_model::world::{OpKind, Operand, Operation, Plan, Position, StructOpsType, World};

use crate::scenario::position;

/// How the objects of a world are called.
#[derive(Debug)]
pub struct Names<'a> {
    world: &'a World,
    /// Each name of a link stands for one link only.
    links: bool,
    /// Each map declaration is created once only.
    maps: bool,
}

impl<'a> Names<'a> {
    /// Names for states of `world`.
    pub fn new(world: &'a World) -> Self {
        let mut links = vec![0; world.links.len()];
        let mut maps = vec![0; world.maps.len()];
        let mut free = Vec::new();
        let mut fixed: Vec<&Operation> = world.setup.iter().collect();
        for cpu in &world.cpus {
            match &cpu.plan {
                Plan::Fixed(operations) => fixed.extend(operations),
                Plan::Free { kinds, .. } => free.extend(kinds),
            }
        }
        for (operand, value) in fixed.iter().flat_map(|o| o.operands()) {
            let named = match operand {
                Operand::NewMap => &mut maps,
                Operand::NewLink => &mut links,
                _ => continue,
            };
            named[usize::from(value.unwrap_or_default())] += 1;
        }
        let once = |operand: Operand, named: &[i32]| {
            !free.iter().any(|kind: &OpKind| kind.has(operand)) && named.iter().all(|n| *n < 2)
        };
        Names {
            world,
            links: once(Operand::NewLink, &links),
            maps: once(Operand::NewMap, &maps),
        }
    }

    /// The world.
    pub fn world(&self) -> &'a World {
        self.world
    }

    /// A map declaration.
    pub fn decl(&self, decl: u8) -> String {
        self.world
            .maps
            .get(usize::from(decl))
            .map_or_else(|| format!("map{decl}"), |m| m.name.clone())
    }

    /// A map. One that is gone has lost its name.
    pub fn map(&self, k: &Kernel, key: MapKey) -> String {
        match k.maps.get(key) {
            Some(map) if self.maps => self.decl(map.decl),
            Some(map) => format!("{}#{}", self.decl(map.decl), key.slot()),
            None => format!("map#{}", key.slot()),
        }
    }

    /// A link.
    pub fn link(&self, k: &Kernel, key: LinkKey) -> String {
        let name = k
            .links
            .get(key)
            .filter(|_| self.links)
            .and_then(|l| self.world.links.get(usize::from(l.name)));
        name.cloned()
            .unwrap_or_else(|| format!("link{}", key.slot()))
    }

    /// A kdata: the map's own kvalue, or an attachment.
    pub fn kdata(&self, k: &Kernel, key: KdataKey) -> String {
        match k.kdatas.get(key) {
            Some(kdata) if kdata.attachment => format!("attachment{}", key.slot()),
            Some(kdata) => match kdata.map {
                Some(map) => format!("{}.kvalue", self.map(k, map)),
                None => format!("{}.kvalue", self.decl(kdata.decl)),
            },
            None => format!("kdata{}", key.slot()),
        }
    }

    /// An image page.
    pub fn image(&self, key: ImageKey) -> String {
        format!("page{}", key.slot())
    }

    /// A kallsyms entry.
    pub fn ksym(&self, key: KsymKey) -> String {
        format!("ksym{}", key.slot())
    }

    /// A function pointer.
    pub fn func(&self, func: Func) -> String {
        func.image.map_or("NULL".to_string(), |page| {
            format!("{}[{}]", self.image(page), func.index)
        })
    }

    /// A cookie's value.
    pub fn cookie(&self, index: u8) -> String {
        self.world
            .cookies
            .get(usize::from(index))
            .map_or_else(|| format!("cookie{index}"), |c| format!("{c:#x}"))
    }

    /// A program.
    pub fn prog(&self, index: usize) -> String {
        self.world
            .progs
            .get(index)
            .map_or_else(|| format!("prog{index}"), |p| p.name.clone())
    }

    /// A member of the type of a map declaration, by its place.
    pub fn member(&self, decl: u8, index: usize) -> String {
        let decl = self.world.maps.get(usize::from(decl));
        Self::member_of(decl.map(|d| &self.world.types[d.ty]), index)
    }

    /// A member of the type that an operation calls, by its place.
    pub fn called(&self, kind: OpKind, index: usize) -> String {
        Self::member_of(self.world.called_by(kind), index)
    }

    fn member_of(ty: Option<&StructOpsType>, index: usize) -> String {
        let member = ty.and_then(|t| t.members.get(index));
        member.map_or_else(|| format!("member {index}"), |m| m.name.clone())
    }

    /// A cgroup, by its number plus 1.
    pub fn cgroup(&self, number: u8) -> String {
        let place = usize::from(number).checked_sub(1);
        let decl = place.and_then(|i| self.world.cgroups.get(i));
        decl.map_or_else(|| "?".to_string(), |c| c.name.clone())
    }

    /// What a request asks for, as a scenario file would write it.
    pub fn request(&self, k: &Kernel, request: &Request) -> String {
        if request.kind == OpKind::None {
            return "an operation on something that is not open".to_string();
        }
        let arg = usize::from(request.arg);
        let map = |key: Option<MapKey>| key.map_or("?".to_string(), |m| self.map(k, m));
        let mut text = request.kind.name().to_string();
        for operand in request.kind.info().operands {
            let word = match operand {
                Operand::NewMap => self.decl(request.arg),
                Operand::Map(_) => map(request.map),
                Operand::Replace if request.old.is_none() => continue,
                Operand::Replace => format!("replace={}", map(request.old)),
                Operand::Link(_) => request.link.map_or("?".to_string(), |l| self.link(k, l)),
                Operand::NewLink => match self.world.links.get(arg).filter(|_| self.links) {
                    Some(link) => format!("as {link}"),
                    None => continue,
                },
                Operand::Cookie => format!("cookie={}", self.cookie(request.cookie)),
                Operand::Key | Operand::NewRing => {
                    self.world.keys.get(arg).map_or("?".into(), String::clone)
                }
                Operand::Socket | Operand::Ring | Operand::Entry => arg.to_string(),
                Operand::Member => self.called(request.kind, usize::from(request.member)),
                Operand::Program(_) => self.prog(arg),
                Operand::Function => self.world.script.functions[arg].name.clone(),
                Operand::Cgroup => self.cgroup(request.cgroup),
                Operand::Target if request.cgroup == 0 => continue,
                Operand::Target => format!("cgroup={}", self.cgroup(request.cgroup)),
                Operand::Position if request.list_position == 0 => continue,
                Operand::Position => {
                    position(self.world, Position::from_number(request.list_position))
                }
                Operand::Revision if request.revision == 0 => continue,
                Operand::Revision => format!("revision={}", request.revision),
            };
            text += &format!(" {word}");
        }
        text
    }
}
