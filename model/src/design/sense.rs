//! Which mixes of choices contradict themselves, and why.

use super::choice::*;
use super::{Design, DesignError};

impl Design {
    /// Refuses mixes that contradict themselves.
    ///
    /// # Errors
    /// [`DesignError::Nonsense`] with the reason.
    pub fn check(&self) -> Result<(), DesignError> {
        let nonsense = |why| {
            Err(DesignError::Nonsense {
                mix: self.name.clone(),
                why,
            })
        };
        let early = self.build == Build::MapUpdate;
        if early && self.identity == Identity::Cookie {
            return nonsense(
                "the cookie is an immediate of the trampoline, and build=map_update generates it before any link \
                 has brought a cookie",
            );
        }
        if early && self.owner == Owner::Link {
            return nonsense(
                "owner=link needs a link to own the images, and build=map_update runs before there is one",
            );
        }
        if early && self.validate == Validate::LinkCreate {
            return nonsense(
                "validate=link_create follows the generation of trampolines, and build=map_update does that in map_update",
            );
        }
        if self.owner == Owner::Map {
            if self.kdata == KdataOwner::Link || self.ksyms == KsymOwner::Link {
                return nonsense(
                    "kdata=link and ksyms=link live in the attachment object, which owner=map does not have",
                );
            }
            if self.count == Count::Attachment {
                return nonsense(
                    "count=attachment needs the attachment object, which owner=map does not have",
                );
            }
            if self.progs == ProgOwner::Attachment {
                return nonsense(
                    "progs=attachment needs the attachment object, which owner=map does not have",
                );
            }
            if self.free == Free::Deferred {
                return nonsense(
                    "free=deferred waits for the last user of an attachment, and owner=map cannot tell which pages a user calls",
                );
            }
            if self.wait == Wait::UpdateMutex {
                return nonsense(
                    "wait=update-mutex says where an attachment's grace periods are waited for, and owner=map has no attachment",
                );
            }
        } else {
            if self.free == Free::WithMap {
                return nonsense(
                    "free=with-map keeps pages until the map goes, which is what owner=map means",
                );
            }
            if self.kdata == KdataOwner::Map && self.count == Count::Attachment {
                return nonsense(
                    "count=attachment finds the attachment by container_of(kdata), and kdata=map hands out the map's kvalue",
                );
            }
        }
        if early && self.free == Free::AtOnce {
            return nonsense(
                "free=at-once frees what an attach has generated, and build=map_update generates nothing there",
            );
        }
        self.check_lookup().map_or(Ok(()), nonsense)
    }

    /// Why the choices of [`Lookup`] contradict the identity, if they do.
    fn check_lookup(&self) -> Option<&'static str> {
        let (identity, lookup) = (self.identity, self.lookup);
        let slot = match identity {
            Identity::Cookie | Identity::MapExtra => true,
            Identity::MapId => lookup.map_id_in == MapIdIn::Slot,
            _ => false,
        };
        let pointer = matches!(identity, Identity::ThisPointer | Identity::Association);
        if lookup.map_id_in == MapIdIn::Slot && identity != Identity::MapId {
            return Some(
                "map-id-in=slot puts a map's id where cookies are, and only identity=map-id has the id",
            );
        }
        if lookup.cookie_read == CookieRead::Current && !slot {
            return Some(
                "cookie-read=current reads a cookie slot, and under this identity nothing of use is in it",
            );
        }
        if lookup.same_key != SameKey::Refuse && !identity.is_given() {
            return Some(
                "same-key asks what two equal cookies do, and under this identity users give none",
            );
        }
        if !pointer
            && (lookup.assoc_share != AssocShare::Poison
                || lookup.assoc_free != AssocFree::KeepPoison
                || lookup.assoc_tie != AssocTie::AsTaken
                || lookup.assoc_undo != AssocUndo::Once
                || lookup.assoc_clear != AssocClear::BeforeGp)
        {
            return Some(
                "assoc-... is about the pointer from a program to its map, which only identity=association and identity=this-pointer have",
            );
        }
        if identity != Identity::Association
            && (lookup.assoc_ref != AssocRef::Command
                || lookup.assoc_get != AssocGet::Plain
                || lookup.assoc_again != AssocAgain::Same)
        {
            return Some(
                "assoc-ref, assoc-get and assoc-again are about BPF_PROG_ASSOC_STRUCT_OPS, which only identity=association has",
            );
        }
        if lookup.assoc_free == AssocFree::ClearPoison && lookup.assoc_share != AssocShare::Poison {
            return Some(
                "assoc-free=clear-poison needs POISON, which only assoc-share=poison makes",
            );
        }
        if lookup.this_clear == ThisClear::Detach && identity != Identity::ThisPointer {
            return Some(
                "this-clear is about the this-pointer, which only identity=this-pointer has",
            );
        }
        if lookup.fallback == Fallback::Root
            && matches!(
                identity,
                Identity::None | Identity::Task | Identity::Argument
            )
        {
            return Some(
                "fallback=root is for programs that name no scheduler, and under this identity nobody names one",
            );
        }
        None
    }
}
