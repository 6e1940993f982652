//! struct_ops that attach to cgroups: link_create with a target, update, detach, the cgroup that goes, the query and
//! the walk.
//!
//! Stands for cgroup_bpf_struct_ops_attach() and its siblings of kernel/bpf/cgroup.c of bpf-next for 7.4, for
//! update_effective_progs(), replace_effective_prog() and purge_effective_progs() there, and for
//! bpf_cgroup_struct_ops_foreach(). Where a design has work of its own to do around an attach (it generates trampolines
//! under update_mutex, it allows one link per map) it does so as it would around reg() and update(). Not here:
//! the limit of 64 links, and the memory of the cgroup itself.

use crate::backend::{Backend, Counted, KdataOf, LinkOf, MapOf, Step, event};
use crate::design::{Build, Identity, Links, Owner};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Cgroup, CgroupState, Holds, InList, Item, ItemArray, Stage};
use crate::lock::{Lock, LockClass};
use crate::operation::Position;
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::prepare::add_ksyms;
use crate::proc::refs::{attachment_put, decl_of, map_inc, map_put};
use crate::proc::{attachment, call, link, link_detach};
use crate::subsys::{back, leave, registered, unregistered};
use crate::world::{MAX_LINKS, OpKind, World};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let cgroup_mutex = Lock::The(LockClass::Cgroup);
    match x.pc() {
        Pc::CgTarget => {
            let err = get_from_fd(x);
            if err != 0 {
                return x.fail(err, Pc::LcCleanup);
            }
            enter(x)
        }
        Pc::CgAttach => {
            x.lock(cgroup_mutex)?;
            let err = attach(x)?;
            x.unlock(cgroup_mutex)?;
            leave(x, err)
        }
        Pc::CgUpdate => {
            x.lock(cgroup_mutex)?;
            let err = update(x)?;
            x.unlock(cgroup_mutex)?;
            leave(x, err)
        }
        Pc::CgDetach => {
            x.lock(cgroup_mutex)?;
            detach(x)?;
            x.unlock(cgroup_mutex)?;
            back(x)
        }
        Pc::CgOffline => {
            let cgroup = target(x);
            if x.cgroup(cgroup).state != CgroupState::Online {
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            let below: Vec<u8> = x.world().descendants(cgroup).skip(1).collect();
            for child in below {
                if x.cgroup(child).state == CgroupState::Online {
                    return x.fail(errno::EBUSY, Pc::Finish);
                }
            }
            x.lock(cgroup_mutex)?;
            let mut bpf = x.cgroup(cgroup);
            bpf.state = CgroupState::Offline;
            x.set_cgroup(cgroup, bpf);
            x.unlock(cgroup_mutex)?;
            // Its sockets are inside their walks: percpu_ref_kill() waits as long as those do.
            x.wait_begin(Stage::Rcu);
            event!(x, "{} is offline", name(x, cgroup));
            x.goto(Pc::CgRelease)
        }
        Pc::CgRelease => {
            x.wait_begin(Stage::None);
            let cgroup = target(x);
            x.lock(cgroup_mutex)?;
            release(x, cgroup)?;
            x.unlock(cgroup_mutex)?;
            event!(x, "{} is released", name(x, cgroup));
            x.goto(Pc::Finish)
        }
        Pc::CgQuery => {
            let err = get_from_fd(x);
            if err != 0 {
                return x.fail(err, Pc::Finish);
            }
            x.goto(Pc::CgQueryRead)
        }
        Pc::CgQueryRead => {
            x.lock(cgroup_mutex)?;
            query(x)?;
            x.unlock(cgroup_mutex)?;
            x.goto(Pc::Finish)
        }
        Pc::CgWalk => {
            let cgroup = target(x);
            if x.cgroup(cgroup).state != CgroupState::Online {
                event!(x, "it has no socket any more");
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            x.rcu_read_lock();
            x.walk_begin(cgroup);
            event!(
                x,
                "a socket of {} loads the effective array",
                name(x, cgroup)
            );
            x.goto(Pc::CgNext)
        }
        Pc::CgNext => {
            // A member that is not there is no error of the caller's.
            x.cpu().err = 0;
            match x.walk_next() {
                None => {
                    x.cpu().kdata = None;
                    x.rcu_read_unlock();
                    event!(x, "the array ends");
                    x.goto(Pc::Finish)
                }
                Some(Item { kdata: None, .. }) => {
                    event!(x, "a stub is called");
                    x.goto(Pc::CgNext)
                }
                Some(Item {
                    kdata: Some(kdata),
                    expect,
                    bpf_cookie,
                }) => {
                    x.cpu().kdata = Some(kdata);
                    event!(x, "the next item");
                    if x.design().identity == Identity::RunCtx {
                        x.cpu().walk.bpf_cookie = bpf_cookie;
                        let cookie = x.world().cookies[usize::from(bpf_cookie)];
                        event!(x, "the caller's run_ctx.bpf_cookie = {cookie:#x}");
                    }
                    call::through_kdata(x, expect, Pc::CgNext)
                }
            }
        }
        _ => unreachable!("not a step of the cgroup layer"),
    }
}

/// Whether a map is attached by the cgroup layer.
pub(crate) fn attaches<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step<bool> {
    let decl = decl_of(x, map)?;
    Ok(x.world().attaches_to_cgroups(decl))
}

/// Whether link_create refuses a target, an anchor or a revision that its type has no use for. Older kernels do not look.
pub(crate) fn refuses_target<'w, X: Backend<'w>>(x: &mut X) -> bool {
    let anchor = Position::from_number(x.cpu().list_position).anchor;
    let asked = x.cpu().cgroup != 0 || anchor.is_some() || x.cpu().revision != 0;
    x.world().linux >= Linux::V7_4 && asked
}

/// The design has something to do under update_mutex before the attach.
fn serialised<'w, X: Backend<'w>>(x: &X) -> bool {
    let design = x.design();
    design.links == Links::One || (design.build == Build::LinkCreate && design.owner == Owner::Map)
}

/// On to the attach, on the way that the design takes there.
fn enter<'w, X: Backend<'w>>(x: &mut X) -> Step {
    if serialised(x) {
        return x.goto(Pc::LcLock);
    }
    let early = x.ksyms_early() && x.design().build == Build::LinkCreate;
    x.goto(if early { Pc::LcKsymsEarly } else { Pc::LcReg })
}

/// The first step of an update, on the way that the design takes: as [`enter`].
pub(crate) fn enter_update<'w, X: Backend<'w>>(x: &mut X) -> Step {
    if serialised(x) {
        return x.goto(Pc::LuLock);
    }
    let (map, built) = (x.my_map(), x.cpu().attachment);
    x.cpu().kdata = Some(attachment::published(x, map, built)?);
    x.cpu().ret = Pc::LuPutRefs;
    let early = x.ksyms_early() && x.design().build == Build::LinkCreate;
    x.goto(if early {
        Pc::LuKsymsEarly
    } else {
        Pc::CgUpdate
    })
}

/// `cgroup_get_from_fd()`: 0, and the cgroup is held, or an errno.
fn get_from_fd<'w, X: Backend<'w>>(x: &mut X) -> i8 {
    // No target_fd is fd 0, which is no directory of a cgroup.
    let Some(cgroup) = x.cpu().cgroup.checked_sub(1) else {
        return errno::EBADF;
    };
    if x.cgroup(cgroup).state != CgroupState::Online {
        return errno::ENOENT;
    }
    event!(x, "{} is held", name(x, cgroup));
    0
}

fn target<'w, X: Backend<'w>>(x: &mut X) -> u8 {
    let cgroup = x.cpu().cgroup.checked_sub(1);
    cgroup.expect("the operation names a cgroup")
}

fn name<'w, X: Backend<'w>>(x: &X, cgroup: u8) -> &'w str {
    &x.world().cgroups[usize::from(cgroup)].name
}

/// Takes the place with this index out of a list that has no gaps.
fn take_out<T: Copy>(list: &mut [Option<T>], place: usize) {
    list[place] = None;
    list[place..].rotate_left(1);
}

/// Puts something in at this index; there is room.
fn put_in<T: Copy>(list: &mut [Option<T>], place: usize, what: T) {
    list[place..].rotate_right(1);
    list[place] = Some(what);
}

/// The cgroup and those below it whose arrays are there: `percpu_ref_is_zero()` leaves the others out.
fn live<'w, X: Backend<'w>>(x: &mut X, cgroup: u8) -> Vec<u8> {
    let all: Vec<u8> = x.world().descendants(cgroup).collect();
    let live = |c: &u8| x.cgroup(*c).state != CgroupState::Released;
    all.into_iter().filter(live).collect()
}

/// `compute_effective_progs()`: PREORDER links from the uppermost cgroup down, then the others from the cgroup itself
/// up; within one cgroup as its list has them.
fn order<'w, X: Backend<'w>>(x: &mut X, cgroup: u8) -> Vec<LinkOf<X>> {
    let world: &World = x.world();
    let up: Vec<u8> = world.ancestry(cgroup).collect();
    let mut links = |cgroups: &mut dyn Iterator<Item = &u8>, preorder: bool| {
        let lists = cgroups.flat_map(|c| x.cgroup(*c).list).flatten();
        let chosen = lists.filter(|in_list| in_list.preorder == preorder);
        chosen.map(|in_list| in_list.link).collect::<Vec<_>>()
    };
    let mut order = links(&mut up.iter().rev(), true);
    order.extend(links(&mut up.iter(), false));
    order
}

/// `prog_list_init_item()`.
fn item<'w, X: Backend<'w>>(x: &mut X, link: LinkOf<X>) -> Step<Item<X::P>> {
    let map = x.link_map(link)?.expect("a link in a list has its map");
    let built = x.link_attachment(link)?;
    let cookie = x.link_cookie(link)?;
    let in_item = x.design().identity == Identity::RunCtx;
    Ok(Item {
        kdata: Some(attachment::published(x, map, built)?),
        expect: cookie,
        bpf_cookie: if in_item { cookie } else { 0 },
    })
}

/// `update_effective_progs()`: new arrays for the cgroup and all below it, or -ENOMEM and none.
fn update_effective<'w, X: Backend<'w>>(x: &mut X, cgroup: u8) -> Step<i8> {
    let live = live(x, cgroup);
    for _ in &live {
        if !x.alloc() {
            return Ok(errno::ENOMEM);
        }
    }
    for cgroup in live {
        let mut array: ItemArray<X::P> = [None; MAX_LINKS];
        for (place, link) in array.iter_mut().zip(order(x, cgroup)) {
            *place = Some(item(x, link)?);
        }
        x.activate(cgroup, array);
    }
    Ok(0)
}

/// `insert_pl_to_hlist()`: where in the list, or a negative errno.
fn place_in_list<'w, X: Backend<'w>>(x: &mut X, bpf: &Cgroup<X::P>) -> Step<Result<usize, i8>> {
    let position = Position::from_number(x.cpu().list_position);
    let count = bpf.list.iter().flatten().count();
    let Some(anchor) = position.anchor else {
        if position.before && position.after && count > 0 {
            return Ok(Err(errno::EINVAL));
        }
        return Ok(Ok(if position.before { 0 } else { count }));
    };
    if position.before == position.after {
        return Ok(Err(errno::EINVAL));
    }
    let anchor = match anchor_link(x, anchor, position.by_id)? {
        Ok(anchor) => anchor,
        Err(err) => return Ok(Err(err)),
    };
    let mut list = bpf.list.iter().flatten();
    let Some(place) = list.position(|in_list| in_list.link == anchor) else {
        return Ok(Err(errno::ENOENT));
    };
    if bpf.list[place].is_some_and(|in_list| in_list.preorder != position.preorder) {
        return Ok(Err(errno::EINVAL));
    }
    Ok(Ok(if position.before { place } else { place + 1 }))
}

/// Its anchor. The reference that keeps it is dropped before anybody else can see it.
fn anchor_link<'w, X: Backend<'w>>(
    x: &mut X,
    name: u8,
    by_id: bool,
) -> Step<Result<LinkOf<X>, i8>> {
    let link = x.anchor(name, by_id);
    if !by_id {
        return Ok(link.ok_or(errno::EBADF));
    }
    match link::by_id(x, link)? {
        0 => {
            let link = link.expect("found");
            x.put(Counted::Link(link))?;
            Ok(Ok(link))
        }
        err => Ok(Err(err)),
    }
}

/// The list of the cgroup is another one: `revisions[atype] += 1`.
fn changed<'w, X: Backend<'w>>(x: &mut X, cgroup: u8) {
    if x.world().asks_revision() {
        let mut bpf = x.cgroup(cgroup);
        bpf.changes = bpf.changes.saturating_add(1);
        x.set_cgroup(cgroup, bpf);
    }
}

/// `cgroup_bpf_struct_ops_attach()`, under cgroup_mutex. The result is 0 or an errno.
fn attach<'w, X: Backend<'w>>(x: &mut X) -> Step<i8> {
    let (cgroup, map, link) = (target(x), x.my_map(), x.my_link());
    let built = x.cpu().attachment;
    let before = x.cgroup(cgroup);
    let expected = x.cpu().revision;
    if expected != 0 && u16::from(expected) != u16::from(before.changes) + 1 {
        return Ok(errno::ESTALE);
    }
    if !x.alloc() {
        return Ok(errno::ENOMEM);
    }
    let place = match place_in_list(x, &before)? {
        Ok(place) => place,
        Err(err) => return Ok(err),
    };
    let preorder = Position::from_number(x.cpu().list_position).preorder;
    let mut bpf = before;
    put_in(&mut bpf.list, place, InList { link, preorder });
    x.set_link(link, Some(map), built)?;
    x.set_cgroup(cgroup, bpf);
    let err = update_effective(x, cgroup)?;
    if err != 0 {
        x.set_cgroup(cgroup, before);
        x.set_link(link, None, None)?;
        return Ok(err);
    }
    changed(x, cgroup);
    x.set_link_cgroup(link, Some(cgroup))?;
    x.hand_over(if built.is_some() {
        Holds::ATTACHMENT
    } else {
        Holds::MAP
    });
    let kdata = x.cpu().kdata.expect("what is attached");
    registered(x, kdata)?;
    event!(x, "in the list of {}", name(x, cgroup));
    if before.state == CgroupState::Released {
        let text =
            format_args!("the cgroup is gone: the link is in no array, and nobody will detach it");
        x.violate(Invariant::ErrnoContract, text);
    }
    Ok(0)
}

/// `cgroup_struct_ops_link_update()`, under cgroup_mutex. The result is 0 or an errno.
fn update<'w, X: Backend<'w>>(x: &mut X) -> Step<i8> {
    let (link, map) = (x.my_link(), x.my_map());
    let err = update_check(x, link, map)?;
    if err != 0 {
        if !serialised(x) && x.ksyms_early() && x.design().build == Build::LinkCreate {
            let built = x.cpu().attachment;
            attachment::refused(x, map, built)?;
        }
        return Ok(err);
    }
    let cgroup = x.link_cgroup(link)?.expect("checked");
    let old = x.link_map(link)?.expect("checked");
    let (built, replaced) = (x.cpu().attachment, x.link_attachment(link)?);
    let old_kdata = attachment::published(x, old, replaced)?;
    x.set_link(link, Some(map), built)?;
    let new = item(x, link)?;
    let new_kdata = new.kdata.expect("of a link that is there");
    registered(x, new_kdata)?;
    changed(x, cgroup);
    replace_effective(x, cgroup, link, new)?;
    unregistered(x, old_kdata)?;
    event!(x, "link->map swapped, and the kdata in the arrays");
    if x.design().owner == Owner::Link {
        x.hand_over(Holds::ATTACHMENT);
        x.cpu().old_attachment = replaced;
        x.cpu().holds |= Holds::OLD_ATTACHMENT;
        if !serialised(x) && !x.ksyms_early() {
            let ksyms = attachment::ksyms(x, map, built)?;
            add_ksyms(x, ksyms)?;
        }
        return Ok(0);
    }
    map_inc(x, map)?;
    if serialised(x) && !x.cpu().holds.contains(Holds::OLD) {
        // What the design has generated for the old map goes first.
        x.cpu().old = Some(old);
        x.cpu().holds |= Holds::OLD;
    } else {
        map_put(x, old)?;
    }
    Ok(0)
}

/// `bpf_struct_ops_link_update_check()`: ENOLINK, EPERM, EINVAL in this order.
fn update_check<'w, X: Backend<'w>>(x: &mut X, link: LinkOf<X>, map: MapOf<X>) -> Step<i8> {
    let Some(old) = x.link_map(link)? else {
        return Ok(errno::ENOLINK);
    };
    if x.link_cgroup(link)?.is_none() {
        return Ok(errno::ENOLINK);
    }
    if x.cpu().old.is_some_and(|expected| expected != old) {
        return Ok(errno::EPERM);
    }
    if decl_of(x, old)?.ty != decl_of(x, map)?.ty {
        return Ok(errno::EINVAL);
    }
    Ok(0)
}

/// `replace_effective_prog()`: the item at the position that the link has in the lists, stubs or no stubs before it.
/// Only `item->kdata` is written: the link, and with it the cookie, is the same.
fn replace_effective<'w, X: Backend<'w>>(
    x: &mut X,
    cgroup: u8,
    link: LinkOf<X>,
    new: Item<X::P>,
) -> Step {
    for cgroup in live(x, cgroup) {
        let place = order(x, cgroup).iter().position(|l| *l == link);
        let Some(place) = place else { continue };
        let mut bpf = x.cgroup(cgroup);
        let old = bpf.effective[place].unwrap_or(new);
        bpf.effective[place] = Some(Item {
            bpf_cookie: old.bpf_cookie,
            ..new
        });
        x.set_cgroup(cgroup, bpf);
    }
    Ok(())
}

/// `purge_effective_progs()`: the stubs of the type take the place of a link for which no new array can be had.
fn purge<'w, X: Backend<'w>>(x: &mut X, cgroup: u8, link: LinkOf<X>) {
    for cgroup in live(x, cgroup) {
        let Some(place) = order(x, cgroup).iter().position(|l| *l == link) else {
            continue;
        };
        let mut bpf = x.cgroup(cgroup);
        // bpf_cgroup_array_delete_safe_at() counts the items that are no stubs.
        let mut items = bpf.effective.iter_mut().flatten();
        if let Some(item) = items.by_ref().filter(|i| i.kdata.is_some()).nth(place) {
            item.kdata = None;
            item.expect = 0;
        }
        x.set_cgroup(cgroup, bpf);
    }
}

/// `cgroup_struct_ops_link_detach()` and the first half of its dealloc, under cgroup_mutex.
fn detach<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let link = x.my_link();
    let Some(cgroup) = x.link_cgroup(link)? else {
        event!(x, "detached already");
        return Ok(());
    };
    let before = x.cgroup(cgroup);
    let mut list = before.list.iter().flatten();
    let place = list.position(|in_list| in_list.link == link);
    let place = place.expect("a link with a cgroup is in its list");
    let mut bpf = before;
    take_out(&mut bpf.list, place);
    x.set_cgroup(cgroup, bpf);
    if update_effective(x, cgroup)? != 0 {
        x.set_cgroup(cgroup, before);
        purge(x, cgroup, link);
        event!(x, "stubs in its place");
        let mut bpf = x.cgroup(cgroup);
        take_out(&mut bpf.list, place);
        x.set_cgroup(cgroup, bpf);
    }
    changed(x, cgroup);
    let map = x.link_map(link)?.expect("attached");
    let built = x.link_attachment(link)?;
    let kdata = attachment::published(x, map, built)?;
    x.cpu().kdata = Some(kdata);
    unregistered(x, kdata)?;
    x.set_link_cgroup(link, None)?;
    link_detach::let_go(x)?;
    event!(x, "out of the list of {}", name(x, cgroup));
    Ok(())
}

/// `__cgroup_bpf_query()` with BPF_F_QUERY_EFFECTIVE, under cgroup_mutex.
fn query<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let all = 0..x.world().cgroups.len() as u8;
    let enabled = |x: &mut X, c: u8| x.cgroup(c).list.iter().flatten().next().is_some();
    // cgroup_bpf_enabled_key counts the links on all cgroups.
    if !all.into_iter().any(|c| enabled(x, c)) {
        event!(x, "nothing is attached to any cgroup");
        return Ok(());
    }
    let cgroup = target(x);
    let bpf = x.cgroup(cgroup);
    if bpf.dangling {
        let text =
            format_args!("USE AFTER FREE: cgroup_bpf_release() has freed the effective array");
        return Err(x.broken(Invariant::NoUseAfterFree, text));
    }
    for kdata in bpf.effective.iter().flatten().filter_map(|item| item.kdata) {
        // bpf_struct_ops_id()
        let map = x.kdata_map(kdata)?;
        decl_of(x, map)?;
    }
    event!(x, "what is effective in {} is counted", name(x, cgroup));
    Ok(())
}

/// `cgroup_bpf_release()`, under cgroup_mutex.
fn release<'w, X: Backend<'w>>(x: &mut X, cgroup: u8) -> Step {
    let bpf = x.cgroup(cgroup);
    for InList { link, .. } in bpf.list.into_iter().flatten() {
        auto_detach(x, link)?;
    }
    let asked = x.world().plays(OpKind::CgroupQuery);
    x.set_cgroup(
        cgroup,
        Cgroup {
            state: CgroupState::Released,
            changes: bpf.changes,
            dangling: asked && bpf.effective.iter().flatten().next().is_some(),
            ..Cgroup::default()
        },
    );
    Ok(())
}

/// `bpf_cgroup_link_auto_detach()`: the link lives on, attached to nothing.
fn auto_detach<'w, X: Backend<'w>>(x: &mut X, link: LinkOf<X>) -> Step {
    let map = x.link_map(link)?.expect("attached");
    let built: Option<KdataOf<X>> = x.link_attachment(link)?;
    let kdata = attachment::published(x, map, built)?;
    unregistered(x, kdata)?;
    x.set_link(link, None, None)?;
    x.set_link_cgroup(link, None)?;
    crate::proc::link_update::set_ready(x, map)?;
    event!(x, "a link is detached");
    match built {
        Some(built) => attachment_put(x, built),
        None => map_put(x, map),
    }
}
