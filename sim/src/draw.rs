//! Operations at random, for worlds that are made at random and for plans that are left open.
//!
//! Where the randomness comes from is the caller's. Not here: which operations are worth drawing together.

use struct_ops_model::World;
use struct_ops_model::world::{MAX_RINGS, MAX_SOCKS, OpKind, Operand, Operation, Position};

/// A number below the given one, which is not 0.
pub type Below<'a> = &'a mut dyn FnMut(usize) -> usize;

/// A kind of operation that has a meaning in the world.
pub fn kind(world: &World, below: Below<'_>) -> OpKind {
    let weights = || OpKind::drawn(world).map(|kind| (kind, usize::from(kind.info().weight)));
    let mut place = below(weights().map(|w| w.1).sum());
    let found = weights().find(|(_, weight)| {
        let here = place < *weight;
        place = place.saturating_sub(*weight);
        here
    });
    found.expect("the place is below the sum").0
}

/// An operation of this kind on targets that the world names; nothing if it has none. A link that it creates gets a new
/// name, which is added.
pub fn operation(world: &mut World, kind: OpKind, below: Below<'_>) -> Option<Operation> {
    if kind == OpKind::None {
        return None;
    }
    let draw = |operand| operand_of(world, kind, operand, below);
    Operation::build(kind, draw).ok()
}

/// What an operand names.
///
/// # Errors
/// The world has no such thing.
fn operand_of(
    world: &mut World,
    kind: OpKind,
    operand: Operand,
    below: Below<'_>,
) -> Result<Option<u8>, ()> {
    let number = match operand {
        Operand::NewMap | Operand::Map(_) => world.maps.len(),
        Operand::Replace if below(2) == 0 => return Ok(None),
        Operand::Replace => world.maps.len(),
        Operand::Link(_) => world.links.len(),
        Operand::NewLink => {
            let number = world.links.len();
            world.links.push(format!("l{}", number + 1));
            return Ok(Some(number as u8));
        }
        Operand::Cookie => world.cookies.len(),
        Operand::Key | Operand::NewRing => world.keys.len(),
        Operand::Socket => MAX_SOCKS,
        Operand::Ring => MAX_RINGS,
        // A third registration would need a third map.
        Operand::Entry => {
            let ty = world.called_by(kind).ok_or(())?;
            ty.subsystem.facts().entries.min(2)
        }
        Operand::Member => world.called_by(kind).ok_or(())?.members.len(),
        Operand::Cgroup => world.cgroups.len(),
        Operand::Target if world.cgroups.is_empty() => return Ok(None),
        Operand::Target => world.cgroups.len(),
        Operand::Position if world.cgroups.is_empty() => return Ok(None),
        // It would nearly always be stale.
        Operand::Revision => return Ok(None),
        // An anchor would be a link that may not be there.
        Operand::Position => {
            let position = Position {
                before: below(3) == 0,
                preorder: below(3) == 0,
                ..Position::default()
            };
            return Ok((position != Position::default()).then(|| position.number()));
        }
        Operand::Program(runs) => {
            let fitting = (0u8..).zip(&world.progs).filter(|(_, p)| runs.is(p.of));
            let fitting: Vec<u8> = fitting.map(|(i, _)| i).collect();
            let place = (!fitting.is_empty()).then(|| below(fitting.len()));
            return place.map(|p| Some(fitting[p])).ok_or(());
        }
        Operand::Function => {
            let functions: Vec<u8> = world.script.runnable().collect();
            let place = (!functions.is_empty()).then(|| below(functions.len()));
            return place.map(|p| Some(functions[p])).ok_or(());
        }
    };
    if number == 0 {
        return Err(());
    }
    Ok(Some(below(number) as u8))
}
