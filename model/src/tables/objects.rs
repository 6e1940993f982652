//! Fields of maps, kdata and links in the explorer's tables.

use super::Tables;
use crate::backend::{Backend, Objects, Step};
use crate::kernel::{Dirty, Func, KdataKey, LinkKey, MapKey, MapState, Mask, MoreFds};
use crate::request::{Descriptors, Files};
use crate::table::Full;

/// One more fd of a process.
fn one_more(fds: &mut Mask, more: &mut MoreFds, proc: u8) -> Result<(), Full> {
    let further = &mut more.0[usize::from(proc)];
    if *fds & 1 << proc == 0 {
        *fds |= 1 << proc;
    } else if *further < MoreFds::MOST {
        *further += 1;
    } else {
        return Err(Full);
    }
    Ok(())
}

/// One fd of a process less.
fn one_less(fds: &mut Mask, more: &mut MoreFds, proc: u8) {
    match &mut more.0[usize::from(proc)] {
        0 => *fds &= !(1 << proc),
        further => *further -= 1,
    }
}

impl Tables<'_> {
    /// Somebody may load function pointers from this kdata: a registration or a user has it.
    pub(super) fn in_use(&self, key: KdataKey) -> bool {
        self.k.kdatas.get(key).is_some_and(|d| d.registered > 0)
            || self.k.socks.iter().any(|s| s.kdata == Some(key))
    }
}

impl Objects for Tables<'_> {
    // ---- maps --------------------------------------------------------------------------------------

    fn map_decl(&mut self, map: MapKey) -> Step<u8> {
        Ok(self.map(map)?.decl)
    }

    fn map_state(&mut self, map: MapKey) -> Step<MapState> {
        Ok(self.map(map)?.state)
    }

    fn set_map_state(&mut self, map: MapKey, to: MapState) -> Step {
        self.counted |= to != MapState::Ready;
        self.map(map)?.state = to;
        Ok(())
    }

    fn cmpxchg_map_state(&mut self, map: MapKey, from: MapState, to: MapState) -> Step<MapState> {
        self.counted |= to == MapState::ToBeFree;
        let state = &mut self.map(map)?.state;
        let was = *state;
        if was == from {
            *state = to;
        }
        Ok(was)
    }

    fn map_kdata(&mut self, map: MapKey) -> Step<Option<KdataKey>> {
        Ok(self.map(map)?.kdata)
    }

    fn set_map_kdata(&mut self, map: MapKey, to: Option<KdataKey>) -> Step {
        self.counted = true;
        self.map(map)?.kdata = to;
        Ok(())
    }

    fn filled(&mut self, map: MapKey, member: usize) -> Step<bool> {
        Ok(self.map(map)?.filled & (1 << member) != 0)
    }

    fn set_filled(&mut self, map: MapKey, member: usize, to: bool) -> Step {
        self.counted = true;
        self.progs_counted = true;
        let filled = &mut self.map(map)?.filled;
        *filled = *filled & !(1 << member) | u8::from(to) << member;
        Ok(())
    }

    fn set_link_cookie(&mut self, map: MapKey, member: usize, cookie: u8) -> Step {
        self.map(map)?.link_cookies[member] = cookie;
        Ok(())
    }

    fn install_map_fd(&mut self, map: MapKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let map = self.map(map)?;
        let room = one_more(&mut map.fds, &mut map.more, proc);
        room.map_err(|f| self.full(f))
    }

    fn close_map_fd(&mut self, map: MapKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let map = self.map(map)?;
        one_less(&mut map.fds, &mut map.more, proc);
        Ok(())
    }

    fn set_map_pinned(&mut self, map: MapKey, to: bool) -> Step {
        self.counted = true;
        self.map(map)?.pinned = to;
        Ok(())
    }

    fn has_link(&mut self, map: MapKey) -> bool {
        self.k.links.iter().any(|(_, l)| l.map == Some(map))
    }

    // ---- kdata -------------------------------------------------------------------------------------

    fn kdata_map(&mut self, kdata: KdataKey) -> Step<MapKey> {
        Ok(self.kdata(kdata)?.map.expect("kdata has a map"))
    }

    fn kdata_decl(&mut self, kdata: KdataKey) -> Step<u8> {
        Ok(self.kdata(kdata)?.decl)
    }

    fn is_attachment(&mut self, kdata: KdataKey) -> Step<bool> {
        Ok(self.kdata(kdata)?.attachment)
    }

    fn func(&mut self, kdata: KdataKey, member: usize) -> Step<Func> {
        Ok(self.kdata(kdata)?.func[member])
    }

    fn set_func(&mut self, kdata: KdataKey, member: usize, to: Func) -> Step {
        if self.in_use(kdata) && self.kdata(kdata)?.func[member] != to {
            self.touch(Dirty::FUNC);
        }
        self.kdata(kdata)?.func[member] = to;
        Ok(())
    }

    fn clear_funcs(&mut self, kdata: KdataKey) -> Step {
        let kdata = self.kdata(kdata)?;
        kdata.func = Default::default();
        kdata.hdev = false;
        Ok(())
    }

    fn has_one_of_its_map(&mut self, kdata: KdataKey, slot: Option<u8>) -> bool {
        let map = |kdata: KdataKey| self.k.kdatas.get(kdata).and_then(|d| d.map);
        let regs = self.k.subsys.regs.iter().flatten();
        let mut regs = regs.filter(|r| slot.is_none_or(|slot| r.slot == slot));
        map(kdata).is_some_and(|of| regs.any(|r| map(r.kdata) == Some(of)))
    }

    fn only_attachment(&mut self, map: MapKey) -> Step<Option<KdataKey>> {
        self.map(map)?;
        let kdatas = self.k.kdatas.iter();
        let mut attachments =
            kdatas.filter(|(_, d)| d.attachment && d.map == Some(map) && d.refs > 0);
        let first = attachments.next().map(|(key, _)| key);
        Ok(first.filter(|_| attachments.next().is_none()))
    }

    fn generated_for(&mut self, func: Func) -> Option<KdataKey> {
        let page = func.image?;
        let mut kdatas = self.k.kdatas.iter();
        kdatas
            .find(|(_, d)| d.pages.contains(&Some(page)))
            .map(|(key, _)| key)
    }

    fn note_registered(&mut self, key: KdataKey, cookie: u8) -> Step {
        let kdata = self.kdata(key)?;
        kdata.registered += 1;
        kdata.expect = cookie;
        if kdata.registered == 2 {
            self.doubled = Some(key);
        }
        Ok(())
    }

    fn note_unregistered(&mut self, kdata: KdataKey) -> Step {
        let kdata = self.kdata(kdata)?;
        kdata.registered = kdata.registered.saturating_sub(1);
        Ok(())
    }

    fn registered_cookie(&mut self, kdata: KdataKey) -> Step<u8> {
        Ok(self.kdata(kdata)?.expect)
    }

    // ---- links -------------------------------------------------------------------------------------

    fn link_cookie(&mut self, link: LinkKey) -> Step<u8> {
        Ok(self.link(link)?.cookie)
    }

    fn link_map(&mut self, link: LinkKey) -> Step<Option<MapKey>> {
        Ok(self.link(link)?.map)
    }

    fn link_attachment(&mut self, link: LinkKey) -> Step<Option<KdataKey>> {
        Ok(self.link(link)?.attachment)
    }

    fn set_link(
        &mut self,
        link: LinkKey,
        map: Option<MapKey>,
        attachment: Option<KdataKey>,
    ) -> Step {
        self.counted = true;
        let link = self.link(link)?;
        link.map = map;
        link.attachment = attachment;
        Ok(())
    }

    fn install_link_fd(&mut self, link: LinkKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let link = self.link(link)?;
        let room = one_more(&mut link.fds, &mut link.more, proc);
        room.map_err(|f| self.full(f))
    }

    fn close_link_fd(&mut self, link: LinkKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let link = self.link(link)?;
        one_less(&mut link.fds, &mut link.more, proc);
        Ok(())
    }

    fn set_link_id(&mut self, link: LinkKey, to: bool) -> Step {
        // What nobody asks for would only make states larger.
        if self.world.finds_links_by_id() {
            self.link(link)?.id = to;
        }
        Ok(())
    }

    fn link_has_id(&mut self, link: LinkKey) -> Step<bool> {
        Ok(self.link(link)?.id)
    }

    fn set_pinned(&mut self, link: LinkKey, to: bool) -> Step {
        self.counted = true;
        self.link(link)?.pinned = to;
        Ok(())
    }

    fn link_cgroup(&mut self, link: LinkKey) -> Step<Option<u8>> {
        Ok(self.link(link)?.cgroup.checked_sub(1))
    }

    fn set_link_cgroup(&mut self, link: LinkKey, to: Option<u8>) -> Step {
        self.link(link)?.cgroup = to.map_or(0, |c| c + 1);
        Ok(())
    }

    fn anchor(&mut self, name: u8, by_id: bool) -> Option<LinkKey> {
        let bit = self.proc_bit();
        let files = Descriptors { k: self.k, bit };
        if by_id {
            files.link_id(name)
        } else {
            files.link_fd(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kdata, Kernel, Link, Map};
    use crate::tables::alone::on;
    use crate::world::{CpuDecl, Plan, World};

    /// Counts are looked at only after primitives that say that one, or who holds it, has changed.
    #[test]
    fn what_changes_who_holds_something_says_so() {
        let world = World {
            cpus: vec![CpuDecl {
                proc: 0,
                plan: Plan::Fixed(Vec::new()),
            }],
            ..World::default()
        };
        let mut k = Kernel::default();
        let map = k.maps.insert(Map::default()).unwrap();
        let link = k.links.insert(Link::default()).unwrap();
        let kdata = k.kdatas.insert(Kdata::default()).unwrap();
        type Primitive<'a> = &'a dyn Fn(&mut Tables<'_>) -> Step;
        let cases: [(Primitive<'_>, bool); 17] = [
            (&|x| x.set_map_state(map, MapState::Ready), false),
            (&|x| x.set_map_state(map, MapState::InUse), true),
            (
                &|x| {
                    x.cmpxchg_map_state(map, MapState::Init, MapState::InUse)
                        .map(drop)
                },
                false,
            ),
            (
                &|x| {
                    x.cmpxchg_map_state(map, MapState::InUse, MapState::ToBeFree)
                        .map(drop)
                },
                true,
            ),
            (&|x| x.set_map_kdata(map, Some(kdata)), true),
            (&|x| x.set_filled(map, 0, true), true),
            (&|x| x.set_link_cookie(map, 0, 1), false),
            (&|x| x.install_map_fd(map), true),
            (&|x| x.close_map_fd(map), true),
            (&|x| x.set_map_pinned(map, true), true),
            (&|x| x.set_func(kdata, 0, Func::default()), false),
            (&|x| x.clear_funcs(kdata), false),
            (&|x| x.set_link(link, Some(map), None), true),
            (&|x| x.install_link_fd(link), true),
            (&|x| x.close_link_fd(link), true),
            (&|x| x.set_pinned(link, true), true),
            (&|x| x.set_link_cgroup(link, Some(0)), false),
        ];
        for (i, (primitive, counts)) in cases.into_iter().enumerate() {
            for before in [false, true] {
                let said = on(&world, &mut k, 0, |x| {
                    x.counted = before;
                    assert!(primitive(x).is_ok(), "{i}");
                    x.counted
                });
                assert_eq!(said, before || counts, "{i}");
            }
        }
        assert!(k.maps[map].pinned && k.links[link].pinned && k.maps[map].filled == 1);
    }

    #[test]
    fn each_process_counts_its_own_fds() {
        let (mut fds, mut more) = (0, MoreFds::default());
        for proc in [0, 1] {
            for _ in 0..=MoreFds::MOST {
                one_more(&mut fds, &mut more, proc).unwrap();
            }
            one_more(&mut fds, &mut more, proc).unwrap_err();
            assert_eq!(more.0[usize::from(proc)], MoreFds::MOST);
        }
        assert_eq!(fds, 0b11);
        for left in (0..MoreFds::MOST).rev() {
            one_less(&mut fds, &mut more, 1);
            assert_eq!((fds, more.0[1]), (0b11, left));
        }
        one_less(&mut fds, &mut more, 1);
        assert_eq!((fds, more.0[0]), (0b01, MoreFds::MOST));
    }
}
