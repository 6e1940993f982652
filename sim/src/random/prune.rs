//! Worlds with less in them: the candidates of shrinking, and what must go when something else has gone.
//!
//! A candidate says which operation it leaves out, so that the schedule can leave its steps out as well.

use std::convert::Infallible;

use struct_ops_model::World;
use struct_ops_model::world::{Body, Operand, Operation, Plan};

/// A smaller world.
pub(super) struct Smaller {
    pub world: World,
    /// `(CPU, position)` of the operations that are left out; the whole CPU if there is no position.
    pub without: Option<(usize, Option<usize>)>,
}

/// Worlds with one thing less, those that leave out most first. All can be written as scenario files.
pub(super) fn smaller(world: &World) -> Vec<Smaller> {
    let mut out = Vec::new();
    let mut push = |world: World, without| {
        let world = normalised(world);
        out.push(Smaller { world, without });
    };
    for cpu in (0..world.cpus.len()).rev().filter(|_| world.cpus.len() > 1) {
        let mut less = world.clone();
        less.cpus.remove(cpu);
        push(less, Some((cpu, None)));
    }
    for (cpu, decl) in world.cpus.iter().enumerate() {
        let Plan::Fixed(operations) = &decl.plan else {
            continue;
        };
        for position in (0..operations.len()).rev() {
            let mut less = world.clone();
            if let Plan::Fixed(operations) = &mut less.cpus[cpu].plan {
                operations.remove(position);
            }
            push(less, Some((cpu, Some(position))));
        }
    }
    let mut changed = |change: &dyn Fn(&mut World)| {
        let mut less = world.clone();
        change(&mut less);
        let less = normalised(less);
        if less != *world {
            push(less, None);
        }
    };
    for map in (0..world.maps.len()).rev().filter(|_| world.maps.len() > 1) {
        changed(&|w| forget_map(w, map as u8));
    }
    for i in (0..world.setup.len()).rev() {
        changed(&|w| {
            w.setup.remove(i);
        });
    }
    changed(&|w| w.alloc_failures = 0);
    changed(&|w| w.procs = 1);
    changed(&|w| w.types.iter_mut().for_each(|t| t.module = false));
    for map in 0..world.maps.len() {
        for member in 0..world.maps[map].progs.len() {
            changed(&|w| w.maps[map].progs[member] = None);
        }
        changed(&|w| w.maps[map].owner_set = false);
        changed(&|w| w.maps[map].link = true);
    }
    for ty in 0..world.types.len() {
        let last = world.types[ty].members.len() - 1;
        if last > 0 && !names_member(world, last) {
            changed(&|w| {
                w.types[ty].members.pop();
                let maps = w.maps.iter_mut().filter(|m| m.ty == ty);
                maps.for_each(|m| m.progs.truncate(last));
            });
        }
        for member in 0..world.types[ty].members.len() {
            changed(&|w| w.types[ty].members[member].required = false);
            changed(&|w| w.types[ty].members[member].size = 171);
            changed(&|w| {
                w.types[ty].members[member].sleepable = false;
                for prog in w.progs.iter_mut().filter(|p| p.of.member() == Some(member)) {
                    if prog.body == Body::Sleep {
                        prog.body = Body::ReadCookie;
                    }
                }
            });
        }
    }
    for prog in 0..world.progs.len() {
        if world.progs[prog].of.member().is_none() {
            continue;
        }
        changed(&|w| w.progs[prog].body = Body::ReadCookie);
    }
    out
}

/// Whether a program or a call needs this member.
fn names_member(world: &World, member: usize) -> bool {
    world.progs.iter().any(|p| p.of.member() == Some(member))
        || all(world).any(|o| names(*o, |operand| operand == Operand::Member, member as u8))
}

/// Whether the operation has such an operand with this value.
fn names(operation: Operation, what: fn(Operand) -> bool, value: u8) -> bool {
    let mut operands = operation.operands();
    operands.any(|(operand, found)| what(operand) && found == Some(value))
}

/// Gives every operand another value.
fn renumber(operation: &mut Operation, number: impl Fn(Operand, u8) -> u8) {
    let mut old = operation.operands();
    let new = Operation::build(operation.kind(), |operand| {
        let value = old.next().and_then(|o| o.1);
        Ok::<_, Infallible>(value.map(|value| number(operand, value)))
    });
    let Ok(new) = new;
    *operation = new;
}

fn all(world: &World) -> impl Iterator<Item = &Operation> {
    let plans = world.cpus.iter().filter_map(|c| match &c.plan {
        Plan::Fixed(operations) => Some(operations),
        Plan::Free { .. } => None,
    });
    world.setup.iter().chain(plans.flatten())
}

/// Every list of operations, the set-up first.
fn lists(world: &mut World) -> impl Iterator<Item = &mut Vec<Operation>> {
    let plans = world.cpus.iter_mut().filter_map(|c| match &mut c.plan {
        Plan::Fixed(operations) => Some(operations),
        Plan::Free { .. } => None,
    });
    std::iter::once(&mut world.setup).chain(plans)
}

fn is_map(operand: Operand) -> bool {
    matches!(
        operand,
        Operand::NewMap | Operand::Map(_) | Operand::Replace
    )
}

/// The link that an operation needs.
fn needs(operation: Operation) -> Option<u8> {
    let mut operands = operation.operands();
    operands.find_map(|(operand, link)| matches!(operand, Operand::Link(_)).then_some(link?))
}

/// The link that an operation creates.
fn creates(operation: Operation) -> Option<u8> {
    let mut operands = operation.operands();
    operands.find_map(|(operand, link)| (operand == Operand::NewLink).then_some(link?))
}

/// The map goes, and what is done to it is done to the first one that is left.
fn forget_map(world: &mut World, gone: u8) {
    world.maps.remove(usize::from(gone));
    // Its set-up only repeats that of the map that stays.
    world.setup.retain(|o| !names(*o, is_map, gone));
    for operation in lists(world).flatten() {
        renumber(operation, |operand, map| match is_map(operand) {
            true if map == gone => 0,
            true => map - u8::from(map > gone),
            false => map,
        });
    }
}

/// The same world without what nothing refers to, in the order in which a scenario file names it.
pub(super) fn normalised(mut world: World) -> World {
    drop_unknown_links(&mut world);
    world
        .cpus
        .iter_mut()
        .for_each(|c| c.proc = c.proc.min(world.procs - 1));
    if (0..world.procs).any(|p| !world.cpus.iter().any(|c| c.proc == p)) {
        world.procs = 1;
        world.cpus.iter_mut().for_each(|c| c.proc = 0);
    }
    if world.procs == 1 {
        world.progs.iter_mut().for_each(|p| p.process = None);
    }
    let mut links = Vec::new();
    for link in all(&world).filter_map(|o| creates(*o)) {
        if !links.contains(&link) {
            links.push(link);
        }
    }
    let place = |link: u8| {
        let place = links.iter().position(|l| *l == link);
        place.expect("unknown links are gone") as u8
    };
    for operation in lists(&mut world).flatten() {
        renumber(operation, |operand, value| match operand {
            Operand::Link(_) | Operand::NewLink => place(value),
            _ => value,
        });
    }
    world.links = (1..=links.len()).map(|i| format!("l{i}")).collect();
    drop_unused_programs(&mut world);
    keys(&mut world);
    world
}

/// Operations on links that nobody has created before them, or creates elsewhere.
fn drop_unknown_links(world: &mut World) {
    let created: Vec<Vec<u8>> = lists(world)
        .map(|l| l.iter().filter_map(|o| creates(*o)).collect())
        .collect();
    for (i, list) in lists(world).enumerate() {
        let mut known: Vec<u8> = match i {
            0 => Vec::new(),
            _ => created
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .flat_map(|(_, l)| l.clone())
                .collect(),
        };
        list.retain(|operation| {
            known.extend(creates(*operation));
            needs(*operation).is_none_or(|link| known.contains(&link))
        });
    }
}

fn drop_unused_programs(world: &mut World) {
    for prog in (0..world.progs.len() as u8).rev() {
        let mapped = world.maps.iter().any(|m| m.progs.contains(&Some(prog)));
        if mapped || all(world).any(|o| names(*o, |what| matches!(what, Operand::Program(_)), prog))
        {
            continue;
        }
        world.progs.remove(usize::from(prog));
        for other in world
            .maps
            .iter_mut()
            .flat_map(|m| m.progs.iter_mut())
            .flatten()
        {
            *other -= u8::from(*other > prog);
        }
        for operation in lists(world).flatten() {
            renumber(operation, |operand, other| match operand {
                Operand::Program(_) => other - u8::from(other > prog),
                _ => other,
            });
        }
    }
}

/// Keys in the order of the maps; a socket that asks for one that has gone asks for the first.
fn keys(world: &mut World) {
    let mut order: Vec<u8> = Vec::new();
    for map in &world.maps {
        if !order.contains(&map.key) {
            order.push(map.key);
        }
    }
    let place = |key: u8| order.iter().position(|k| *k == key).unwrap_or(0) as u8;
    world.maps.iter_mut().for_each(|m| m.key = place(m.key));
    for operation in lists(world).flatten() {
        renumber(operation, |operand, value| match operand {
            Operand::Key | Operand::NewRing => place(value),
            _ => value,
        });
    }
    world.keys = order
        .iter()
        .map(|k| world.keys[usize::from(*k)].clone())
        .collect();
}
