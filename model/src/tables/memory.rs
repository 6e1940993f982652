//! Objects come and go in the explorer's tables; counts; which readers a deferred free waits for.

use super::Tables;
use crate::backend::{Backend, Counted, Freed, Memory, Step, event};
use crate::design::Twin;
use crate::invariant::Invariant;
use crate::kernel::{
    Deferred, Kdata, KdataKey, Link, LinkKey, Map, MapKey, Mask, Seen, Slots, Stage,
};

impl Tables<'_> {
    /// The count, if its object is there.
    fn refs(&mut self, what: Counted<Slots>) -> Step<&mut u8> {
        self.counted = true;
        self.progs_counted |= matches!(what, Counted::Prog(_));
        Ok(match what {
            Counted::Map(map) => &mut self.map(map)?.refs,
            Counted::Attachment(kdata) => &mut self.kdata(kdata)?.refs,
            Counted::Link(link) => &mut self.link(link)?.refs,
            Counted::Prog(prog) => &mut self.k.progs[usize::from(prog)].refs,
            Counted::Module => &mut self.k.module.refs,
        })
    }

    fn free(&mut self, what: Freed<Slots>) -> Step<&mut Deferred> {
        Ok(match what {
            Freed::Map(map) => &mut self.map(map)?.free,
            Freed::Attachment(kdata) => &mut self.kdata(kdata)?.free,
            Freed::Prog(prog) => &mut self.k.progs[usize::from(prog)].free,
        })
    }
}

impl Memory for Tables<'_> {
    // ---- memory ------------------------------------------------------------------------------------

    fn alloc(&mut self) -> bool {
        debug_assert!(
            crate::proc::allocates(self.pc),
            "{:?} is not listed as a step that allocates",
            self.pc
        );
        self.allocs += 1;
        if self.allocs == self.choice {
            self.k.alloc_failures -= 1;
            self.saw(Seen::NOMEM);
            event!(self, "allocation fails");
            return false;
        }
        true
    }

    fn new_map(&mut self, decl: u8) -> Step<MapKey> {
        self.counted = true;
        let map = Map {
            decl,
            refs: 1,
            ..Map::default()
        };
        self.k.maps.insert(map).map_err(|f| self.full(f))
    }

    fn new_kdata(&mut self, map: MapKey, decl: u8, attachment: bool) -> Step<KdataKey> {
        self.counted = true;
        self.progs_counted |= attachment;
        let kdata = Kdata {
            map: Some(map),
            decl,
            attachment,
            refs: u8::from(attachment),
            ..Kdata::default()
        };
        self.k.kdatas.insert(kdata).map_err(|f| self.full(f))
    }

    fn new_link(&mut self, name: u8, cookie: u8) -> Step<LinkKey> {
        self.counted = true;
        let link = Link {
            name,
            cookie,
            refs: 1,
            ..Link::default()
        };
        self.k.links.insert(link).map_err(|f| self.full(f))
    }

    fn free_map(&mut self, map: MapKey) -> Step {
        self.map(map)?;
        self.progs_counted = true;
        self.k.maps.remove(map);
        Ok(())
    }

    fn free_kdata(&mut self, kdata: KdataKey) -> Step {
        self.progs_counted |= self.kdata(kdata)?.attachment;
        self.k.kdatas.remove(kdata);
        Ok(())
    }

    fn free_link(&mut self, link: LinkKey) -> Step {
        self.counted = true;
        self.link(link)?;
        self.k.links.remove(link);
        Ok(())
    }

    // ---- references and deferred work --------------------------------------------------------------

    fn get(&mut self, what: Counted<Slots>) -> Step {
        *self.refs(what)? += 1;
        Ok(())
    }

    fn get_unless_zero(&mut self, what: Counted<Slots>) -> Step<bool> {
        let refs = self.refs(what)?;
        let there = *refs > 0;
        *refs += u8::from(there);
        Ok(there)
    }

    fn put(&mut self, what: Counted<Slots>) -> Step<bool> {
        let refs = self.refs(what)?;
        if *refs == 0 {
            return Err(self.broken(
                Invariant::RefcountsBalance,
                format_args!("{} refcount below 0", what.name()),
            ));
        }
        *refs -= 1;
        Ok(*refs == 0)
    }

    fn is_last(&mut self, what: Counted<Slots>) -> Step<bool> {
        let counted = self.counted;
        let last = *self.refs(what)? == 1;
        self.counted = counted;
        Ok(last)
    }

    fn defer(&mut self, what: Freed<Slots>, after: Stage) -> Step {
        let mut begun = self.grace_period(after);
        if self.design.twin == Twin::LostCallback
            && matches!(what, Freed::Map(_))
            && after == Stage::RcuAndTasks
        {
            begun.rcu = Mask::MAX;
        }
        *self.free(what)? = begun;
        if let Freed::Prog(prog) = what {
            self.k.progs[usize::from(prog)].free_if_elapsed();
        }
        Ok(())
    }

    fn queue_link(&mut self, link: LinkKey) -> Step<bool> {
        let worker = self.world.kworker().is_some();
        self.link(link)?.queued = worker;
        Ok(worker)
    }

    fn deferred(&mut self, what: Freed<Slots>) -> Step<Stage> {
        Ok(self.free(what)?.stage)
    }
}
