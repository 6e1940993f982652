//! Generating trampolines: members, ksyms, pages, protection.
//!
//! Stands for bpf_struct_ops_prepare_trampoline() of kernel/bpf/bpf_struct_ops.c, and for what the RFC
//! factors out as bpf_struct_ops_prepare_attach(), where every member is a step of its own because the
//! map's kvalue is visible while it runs.

use crate::design::{KdataOwner, KsymOwner, Owner, Twin, Validate};
use crate::exec::{Exec, Step, Stop, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Code, Func, Image, KdataKey, Kernel, Ksym, MapKey};
use crate::pc::Pc;
use crate::subsys::tcp_cong;
use crate::table::Full;
use crate::world::{MAX_MEMBERS, MapDecl, PAGE_SIZE, Subsystem, World};

/// Where the parts of what is generated are kept.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Owner of the image pages.
    pub images: KdataKey,
    /// The kvalue whose function pointers are written, and that the subsystem gets.
    pub kdata: KdataKey,
    /// Owner of the ksyms.
    pub ksyms: KdataKey,
}

/// The parts for an attachment of `map`: all in the map, or in `attachment` as the design says.
pub(crate) fn target(
    x: &mut Exec<'_>,
    map: MapKey,
    attachment: Option<KdataKey>,
) -> Result<Target, Stop> {
    let (embedded, link_map) = {
        let map = *x.map(map)?;
        (map.kdata, x.decl(&map).link)
    };
    let pick = |own: bool| {
        if own {
            attachment.or(embedded)
        } else {
            embedded
        }
        .expect("a map or an attachment has it")
    };
    if x.design.owner == Owner::Map {
        let all = pick(false);
        return Ok(Target {
            images: all,
            kdata: all,
            ksyms: all,
        });
    }
    Ok(Target {
        images: pick(true),
        kdata: pick(!link_map || x.design.kdata == KdataOwner::Link),
        ksyms: pick(!link_map || x.design.ksyms == KsymOwner::Link),
    })
}

/// Whether generating `member` now needs a new page.
fn needs_page(
    k: &Kernel,
    world: &World,
    decl: &MapDecl,
    image: Option<crate::kernel::ImageKey>,
    member: usize,
) -> bool {
    let size = world.types[decl.ty].members[member].size;
    image
        .and_then(|i| k.images.get(i))
        .is_none_or(|i| size > PAGE_SIZE - i.fill)
}

/// Allocations that one PrepMember step makes: the ksym and perhaps a page.
pub(crate) fn member_allocs(
    k: &Kernel,
    world: &World,
    cpu: &crate::kernel::Cpu,
    decl: &MapDecl,
) -> u8 {
    match decl.progs.get(usize::from(cpu.member)).copied().flatten() {
        Some(_) => {
            1 + u8::from(needs_page(
                k,
                world,
                decl,
                cpu.image,
                usize::from(cpu.member),
            ))
        }
        None => 0,
    }
}

/// Allocations made for all members of a struct: a ksym each and the pages.
pub(crate) fn struct_allocs(world: &World, decl: &MapDecl) -> u8 {
    let (mut allocs, mut fill) = (0, None);
    for (member, _) in decl.progs.iter().enumerate().filter(|(_, p)| p.is_some()) {
        let size = world.types[decl.ty].members[member].size;
        allocs += 1;
        match fill {
            Some(f) if size <= PAGE_SIZE - f => fill = Some(f + size),
            _ => {
                allocs += 1;
                fill = Some(size);
            }
        }
    }
    allocs
}

/// One member: ksym, trampoline, pointer. The result is 0 or an errno.
pub(crate) fn member(
    x: &mut Exec<'_>,
    to: Target,
    decl: &MapDecl,
    member: usize,
    cookie: u8,
) -> Result<i8, Stop> {
    let prog = decl.progs[member].expect("a member with a program");
    if !x.alloc() {
        return Ok(errno::ENOMEM);
    }
    let ksym =
        x.k.ksyms
            .insert(Ksym::default())
            .map_err(|f: Full| x.full(f))?;
    let place = decl.progs[..member].iter().flatten().count();
    // The entry that was there is overwritten, not freed: kallsyms may still list it.
    x.kdata(to.ksyms)?.ksyms[place] = Some(ksym);
    let current = x.c().image;
    if needs_page(x.k, x.world, decl, current, member) {
        let Some(page) = x.kdata(to.images)?.pages.iter().position(Option::is_none) else {
            event!(x, "all image pages of the map are taken");
            return Ok(errno::E2BIG);
        };
        if !x.alloc() {
            return Ok(errno::ENOMEM);
        }
        let image = x.k.images.insert(Image::default()).map_err(|f| x.full(f))?;
        x.kdata(to.images)?.pages[page] = Some(image);
        x.c().image = Some(image);
    }
    let page = x.c().image.expect("a page was found or made");
    let size = x.world.types[decl.ty].members[member].size;
    let image = x.image(page)?;
    if image.protected {
        return Err(x.broken(
            Invariant::TextImmutable,
            format_args!("an executable page is written"),
        ));
    }
    let Some(index) = image.code.iter().position(|c| c.prog == 0) else {
        return Err(x.full(Full));
    };
    image.fill += size;
    image.code[index] = Code {
        prog: prog + 1,
        cookie,
    };
    let func = Func {
        image: Some(page),
        index: index as u8,
    };
    if x.design.twin == Twin::WriteProtected {
        x.image(page)?.protected = true;
    }
    x.ksym(ksym)?.func = func;
    x.set_func(to.kdata, member, func)?;
    event!(
        x,
        "{}: trampoline with cookie {:#x}",
        x.world.types[decl.ty].members[member].name,
        x.world.cookies[usize::from(cookie)]
    );
    Ok(0)
}

/// All members at once, for a kdata that nobody else can see.
pub(crate) fn members(
    x: &mut Exec<'_>,
    to: Target,
    decl: &MapDecl,
    cookie: u8,
) -> Result<i8, Stop> {
    for i in 0..MAX_MEMBERS {
        if decl.progs[i].is_some() {
            let err = member(x, to, decl, i, cookie)?;
            if err != 0 {
                x.c().image = None;
                return Ok(err);
            }
        }
    }
    x.c().image = None;
    Ok(0)
}

/// `st_ops->validate(kdata)`.
pub(crate) fn validate(x: &mut Exec<'_>, decl: u8, kdata: KdataKey) -> Result<i8, Stop> {
    let ok = match x.st_ops(decl)? {
        Subsystem::Dummy => true,
        _ => tcp_cong::validate(x, kdata)?,
    };
    Ok(if ok { 0 } else { errno::EINVAL })
}

/// The steps of the RFC's bpf_struct_ops_prepare_attach(): the CPU's map, its cookie; on to `done` with
/// the result in `err`.
pub(crate) fn step(x: &mut Exec<'_>, done: Pc) -> Step {
    let (key, map) = x.my_map()?;
    x.st_ops(map.decl)?;
    let world = x.world;
    let decl = &world.maps[usize::from(map.decl)];
    let to = target(x, key, None)?;
    match x.pc {
        Pc::PrepMember => {
            let i = usize::from(x.c().member);
            let cookie = x.c().cookie;
            x.map(key)?.link_cookies[i] = cookie;
            let err = member(x, to, decl, i, cookie)?;
            if err != 0 {
                return x.fail(err, done);
            }
            next_member(x, decl, i + 1)
        }
        Pc::PrepSeal => {
            x.c().image = None;
            if x.design.validate == Validate::LinkCreate {
                let err = validate(x, map.decl, to.kdata)?;
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
pub(crate) fn next_member(x: &mut Exec<'_>, decl: &MapDecl, from: usize) -> Step {
    match (from..MAX_MEMBERS).find(|i| decl.progs[*i].is_some()) {
        Some(i) => {
            x.c().member = i as u8;
            x.goto(Pc::PrepMember)
        }
        None => x.goto(Pc::PrepSeal),
    }
}

/// The RFC's undo: ksyms and pages of the map are freed at once, kvalue keeps its pointers.
pub(crate) fn free_at_once(x: &mut Exec<'_>, map: MapKey) -> Step {
    let kdata = x.map(map)?.kdata.expect("owner=map has an embedded kvalue");
    x.free_ksyms(kdata)?;
    if x.design.free == crate::design::Free::AtOnce {
        x.free_images(kdata)?;
    }
    Ok(())
}
