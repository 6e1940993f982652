//! Generating trampolines: members, ksyms, pages, protection.
//!
//! Stands for bpf_struct_ops_prepare_trampoline() of kernel/bpf/bpf_struct_ops.c, and for what the RFC
//! factors out as bpf_struct_ops_prepare_attach(), where every member is a step of its own because the
//! map's kvalue is visible while it runs.

use crate::backend::{Backend, KdataOf, MapOf, Pointers, Step, event};
use crate::design::{Free, KdataOwner, KsymOwner, Owner, Validate};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Code, Dirty};
use crate::pc::Pc;
use crate::proc::refs::decl_of;
use crate::subsys::tcp_cong;
use crate::world::{MapDecl, PAGE_SIZE};

/// Where the parts of what is generated are kept.
#[derive(Clone, Copy)]
pub(crate) struct Target<P: Pointers> {
    /// Owner of the image pages.
    pub images: P::Kdata,
    /// The kvalue whose function pointers are written, and that the subsystem gets.
    pub kdata: P::Kdata,
    /// Owner of the ksyms.
    pub ksyms: P::Kdata,
}

/// The parts for an attachment of `map`: all in the map, or in `attachment` as the design says.
pub(crate) fn target<'w, X: Backend<'w>>(
    x: &mut X,
    map: MapOf<X>,
    attachment: Option<KdataOf<X>>,
) -> Step<Target<X::P>> {
    let embedded = x.map_kdata(map)?;
    let link_map = decl_of(x, map)?.link;
    let pick = |own: bool| {
        let chosen = if own {
            attachment.or(embedded)
        } else {
            embedded
        };
        chosen.expect("a map or an attachment has it")
    };
    let design = x.design();
    if design.owner == Owner::Map {
        let all = pick(false);
        return Ok(Target {
            images: all,
            kdata: all,
            ksyms: all,
        });
    }
    Ok(Target {
        images: pick(true),
        kdata: pick(!link_map || design.kdata == KdataOwner::Link),
        ksyms: pick(!link_map || design.ksyms == KsymOwner::Link),
    })
}

/// One member: ksym, trampoline, pointer. The result is 0 or an errno.
pub(crate) fn member<'w, X: Backend<'w>>(
    x: &mut X,
    to: Target<X::P>,
    decl: &'w MapDecl,
    member: usize,
    cookie: u8,
) -> Step<i8> {
    let world = x.world();
    let prog = decl.progs[member].expect("a member with a program");
    if !x.alloc() {
        return Ok(errno::ENOMEM);
    }
    let place = decl.progs[..member].iter().flatten().count();
    x.new_ksym(to.ksyms, place)?;
    let size = world.types[decl.ty].members[member].size;
    let fits = match x.cpu().image {
        Some(page) => size <= PAGE_SIZE - x.page_fill(page)?,
        None => false,
    };
    if !fits {
        if !x.has_page_slot(to.images)? {
            event!(x, "all image pages of the map are taken");
            return Ok(errno::E2BIG);
        }
        if !x.alloc() {
            return Ok(errno::ENOMEM);
        }
        x.cpu().image = x.new_page(to.images)?;
    }
    let page = x.cpu().image.expect("a page was found or made");
    let code = Code {
        prog: prog + 1,
        cookie,
    };
    let func = x.write_trampoline(page, size, code)?;
    x.name_ksym(to.ksyms, place, func)?;
    x.set_func(to.kdata, member, func)?;
    event!(
        x,
        "{}: trampoline with cookie {:#x}",
        world.types[decl.ty].members[member].name,
        world.cookies[usize::from(cookie)]
    );
    Ok(0)
}

/// All members at once, for a kdata that nobody else can see.
pub(crate) fn members<'w, X: Backend<'w>>(
    x: &mut X,
    to: Target<X::P>,
    decl: &'w MapDecl,
    cookie: u8,
) -> Step<i8> {
    let mut err = 0;
    for (i, prog) in decl.progs.iter().enumerate() {
        if prog.is_some() && err == 0 {
            err = member(x, to, decl, i, cookie)?;
        }
    }
    x.cpu().image = None;
    Ok(err)
}

/// `st_ops->validate(kdata)`.
pub(crate) fn validate<'w, X: Backend<'w>>(x: &mut X, decl: u8, kdata: KdataOf<X>) -> Step<i8> {
    x.st_ops(decl)?;
    let ok = tcp_cong::validate(x, kdata)?;
    Ok(if ok { 0 } else { errno::EINVAL })
}

/// The steps of the RFC's bpf_struct_ops_prepare_attach(): the task's map, its cookie; on to `done` with
/// the result in `err`.
pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X, done: Pc) -> Step {
    let map = x.my_map();
    let decl_index = x.map_decl(map)?;
    x.st_ops(decl_index)?;
    let decl = &x.world().maps[usize::from(decl_index)];
    let to = target(x, map, None)?;
    match x.pc() {
        Pc::PrepMember => {
            let i = usize::from(x.cpu().member);
            let cookie = x.cpu().cookie;
            x.set_link_cookie(map, i, cookie)?;
            let err = member(x, to, decl, i, cookie)?;
            if err != 0 {
                return x.fail(err, done);
            }
            next_member(x, decl, i + 1)
        }
        Pc::PrepSeal => {
            x.cpu().image = None;
            if x.design().validate == Validate::LinkCreate {
                let err = validate(x, decl_index, to.kdata)?;
                if err != 0 {
                    event!(x, "validate() refuses");
                    return x.fail(err, done);
                }
            }
            x.protect(to.images)?;
            event!(x, "pages protected");
            x.goto(done)
        }
        _ => unreachable!("not a step of prepare_attach"),
    }
}

/// Goes to the next member that has a program, or to the end of the walk.
pub(crate) fn next_member<'w, X: Backend<'w>>(x: &mut X, decl: &MapDecl, from: usize) -> Step {
    match (from..decl.progs.len()).find(|i| decl.progs[*i].is_some()) {
        Some(i) => {
            x.cpu().member = i as u8;
            x.goto(Pc::PrepMember)
        }
        None => x.goto(Pc::PrepSeal),
    }
}

/// The RFC's undo: ksyms and pages of the map are freed at once, kvalue keeps its pointers.
pub(crate) fn free_at_once<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    let kdata = x.map_kdata(map)?;
    let kdata = kdata.expect("owner=map has an embedded kvalue");
    let images_too = x.design().free == Free::AtOnce;
    x.under_text_mutex(|x| {
        x.free_ksyms(kdata)?;
        if images_too {
            free_images(x, kdata)?;
        }
        Ok(())
    })
}

/// `bpf_struct_ops_map_add_ksyms()`.
pub(crate) fn add_ksyms<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    x.add_ksyms(kdata)?;
    x.touch(Dirty::KSYM);
    event!(x, "ksyms added to kallsyms");
    Ok(())
}

/// `bpf_struct_ops_map_del_ksyms()`.
pub(crate) fn del_ksyms<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    x.del_ksyms(kdata)?;
    x.undo(Dirty::KSYM);
    Ok(())
}

/// `bpf_struct_ops_map_free_image()`.
pub(crate) fn free_images<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    if x.free_images(kdata)? {
        x.witness(Invariant::NoUseAfterFree);
        event!(x, "image pages freed");
    }
    Ok(())
}
