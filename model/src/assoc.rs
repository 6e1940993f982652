//! Association: what a program's pointer to its map may become.
//!
//! Stands for bpf_prog_assoc_struct_ops(), bpf_prog_disassoc_struct_ops() and bpf_prog_get_assoc_struct_ops() of
//! kernel/bpf/bpf_struct_ops.c, which Linux has since 7.0, and for the this-pointer that was proposed before them. Attach
//! path (`proc::assoc`) and lookups (`reach`) go by the same rules. Not here: when a map ties its programs, and who holds the
//! map meanwhile.

use crate::design::{AssocFree, AssocShare, Lookup};
use crate::errno;

/// `prog->aux->st_ops_assoc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Assoc<M> {
    /// NULL.
    #[default]
    None,
    /// The map that the program is tied to.
    Map(M),
    /// `BPF_PTR_POISON`: several maps have the program.
    Poison,
}

/// What tying a struct_ops program to one more map has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tied {
    /// The program is tied to the map, and was to no other one.
    Tied,
    /// It was tied to another map, or is POISON, and is POISON now.
    Poisoned,
    /// It stays with the other map.
    Kept,
    /// It was tied to another map and is to this one now.
    Moved,
    /// The map must not take it.
    Refused,
}

impl<M: Copy + PartialEq> Assoc<M> {
    /// The map to which the getter is led. It looks at no state and takes no reference.
    pub fn map(self) -> Option<M> {
        match self {
            Assoc::Map(map) => Some(map),
            Assoc::None | Assoc::Poison => None,
        }
    }

    /// Some other map has the program, or had it.
    pub fn is_of_another(self, map: M) -> bool {
        self != Assoc::None && self != Assoc::Map(map)
    }

    /// map_update ties a struct_ops program.
    pub fn tie(&mut self, map: M, lookup: &Lookup) -> Tied {
        if !self.is_of_another(map) {
            *self = Assoc::Map(map);
            return Tied::Tied;
        }
        match lookup.assoc_share {
            AssocShare::Poison => {
                *self = Assoc::Poison;
                Tied::Poisoned
            }
            AssocShare::KeepFirst => Tied::Kept,
            AssocShare::Overwrite => {
                *self = Assoc::Map(map);
                Tied::Moved
            }
            AssocShare::Refuse => Tied::Refused,
        }
    }

    /// BPF_PROG_ASSOC_STRUCT_OPS ties a program of another type: whether it was not tied to the map before.
    ///
    /// # Errors
    /// -EBUSY: it is tied to another map.
    pub fn command(&mut self, map: M) -> Result<bool, i8> {
        if self.is_of_another(map) {
            return Err(errno::EBUSY);
        }
        Ok(std::mem::replace(self, Assoc::Map(map)) == Assoc::None)
    }

    /// The map goes, or gives the program back.
    pub fn untie(&mut self, map: M, lookup: &Lookup) {
        let clear_poison = lookup.assoc_free == AssocFree::ClearPoison;
        if *self == Assoc::Map(map) || *self == Assoc::Poison && clear_poison {
            *self = Assoc::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design::Identity;

    fn lookup() -> Lookup {
        Lookup::of(Identity::Association)
    }

    fn tied(first: u8, second: u8, lookup: &Lookup) -> (Tied, Assoc<u8>) {
        let mut pointer = Assoc::default();
        assert_eq!(pointer.tie(first, lookup), Tied::Tied);
        (pointer.tie(second, lookup), pointer)
    }

    #[test]
    fn a_second_map_poisons_and_nothing_heals() {
        assert_eq!(tied(1, 1, &lookup()), (Tied::Tied, Assoc::Map(1)));
        let (how, mut pointer) = tied(1, 2, &lookup());
        assert_eq!((how, pointer), (Tied::Poisoned, Assoc::Poison));
        pointer.untie(1, &lookup());
        pointer.untie(2, &lookup());
        assert_eq!(pointer.tie(1, &lookup()), Tied::Poisoned);
        assert_eq!((pointer, pointer.map()), (Assoc::Poison, None));
    }

    #[test]
    fn what_a_second_map_does_is_the_choice() {
        let with = |assoc_share| Lookup {
            assoc_share,
            ..lookup()
        };
        for (share, expected) in [
            (AssocShare::KeepFirst, (Tied::Kept, Assoc::Map(1))),
            (AssocShare::Overwrite, (Tied::Moved, Assoc::Map(2))),
            (AssocShare::Refuse, (Tied::Refused, Assoc::Map(1))),
        ] {
            assert_eq!(tied(1, 2, &with(share)), expected, "{share:?}");
        }
        let clears = Lookup {
            assoc_free: AssocFree::ClearPoison,
            ..lookup()
        };
        let (_, mut pointer) = tied(1, 2, &clears);
        pointer.untie(2, &clears);
        assert_eq!(pointer, Assoc::None);
    }

    #[test]
    fn the_command_refuses_another_map() {
        let mut pointer = Assoc::default();
        assert_eq!(pointer.command(1), Ok(true));
        assert_eq!(pointer.command(1), Ok(false));
        assert_eq!(pointer.command(2), Err(errno::EBUSY));
        assert_eq!(pointer, Assoc::Map(1));
        pointer.untie(2, &lookup());
        assert_eq!(pointer, Assoc::Map(1));
        pointer.untie(1, &lookup());
        assert_eq!(pointer, Assoc::None);
    }
}
