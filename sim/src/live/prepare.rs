//! Generating trampolines: members, ksyms, pages, protection.
//!
//! Stands for bpf_struct_ops_prepare_trampoline() of kernel/bpf/bpf_struct_ops.c, and for what the RFC factors out
//! as bpf_struct_ops_prepare_attach(), where every member is a step of its own because the map's kvalue is visible
//! while it runs.

use std::sync::Arc;

use struct_ops_model::design::{Free, KdataOwner, KsymOwner, Owner, Validate};
use struct_ops_model::world::Subsystem;
use struct_ops_model::{Invariant, Pc, errno};

use super::object::{Kdata, StMap};
use super::page::{Link, Page};
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Step, Task};
use super::text::{Code, PAGE_SIZE, Text};

/// Where the parts of what is generated are kept.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Owner of the image pages.
    pub images: Arc<Kdata>,
    /// The kvalue whose function pointers are written, and that the subsystem gets.
    pub kdata: Arc<Kdata>,
    /// Owner of the ksyms.
    pub ksyms: Arc<Kdata>,
}

/// The parts for an attachment of `map`: all in the map, or in `attachment` as the design says.
pub(crate) fn target(t: &Task, map: &StMap, attachment: Option<&Arc<Kdata>>) -> Step<Target> {
    let pick = |own: bool| match attachment.filter(|_| own) {
        Some(attachment) => Ok(attachment.clone()),
        None => t.kdata(map.kdata.load().expect("a map or an attachment has it")),
    };
    let design = &t.rt.design;
    if design.owner == Owner::Map {
        let all = pick(false)?;
        return Ok(Target {
            images: all.clone(),
            kdata: all.clone(),
            ksyms: all,
        });
    }
    Ok(Target {
        images: pick(true)?,
        kdata: pick(!map.link || design.kdata == KdataOwner::Link)?,
        ksyms: pick(!map.link || design.ksyms == KsymOwner::Link)?,
    })
}

/// The pages being filled: not executable yet.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    pages: Vec<Page>,
}

impl Filling {
    /// The pages stay as they are: what was begun is given up.
    pub(crate) fn give_up(self, t: &Task) {
        let mut text = t.rt.text.lock();
        for page in self.pages {
            text.keep(page.addr(), page);
        }
    }
}

/// One member: ksym, trampoline, pointer. The result is 0 or an errno.
pub(crate) fn member(
    t: &Task,
    to: &Target,
    filling: &mut Filling,
    decl: usize,
    member: usize,
    cookie: u64,
) -> Step<i8> {
    let progs = &t.rt.decl.maps[decl].progs;
    let prog = progs[member].expect("a member with a program");
    if !t.alloc() {
        return Ok(errno::ENOMEM);
    }
    let place = progs[..member].iter().flatten().count();
    let ksym = t.rt.text.lock().ksym_alloc();
    to.ksyms.built.lock().ksyms[place] = Some(ksym);
    let size = usize::from(t.rt.decl.type_of(decl).members[member].size);
    let full = filling
        .pages
        .last()
        .map_or(PAGE_SIZE, |page| t.rt.text.lock().fill(page.addr()));
    if size > PAGE_SIZE - full {
        let Some(slot) = to
            .images
            .built
            .lock()
            .pages
            .iter()
            .position(Option::is_none)
        else {
            return Ok(errno::E2BIG);
        };
        if !t.alloc() {
            return Ok(errno::ENOMEM);
        }
        let page = Page::alloc(t.rt.machine).map_err(|e| t.unavailable(e))?;
        let by = format!("{}, cookie {cookie:#x}", t.by());
        t.rt.text.lock().insert(page.addr(), by);
        to.images.built.lock().pages[slot] = Some(page.addr());
        filling.pages.push(page);
    }
    let page = filling.pages.last_mut().expect("a page was found or made");
    let base = page.addr();
    let (protected, offset) = {
        let text = t.rt.text.lock();
        (text.protected(base), text.fill(base))
    };
    if protected {
        let text = "an executable page is written";
        return Err(t.fault(Invariant::TextImmutable, text, Vec::new()));
    }
    let link = Link {
        prog: &t.rt.progs[prog],
        cookie,
    };
    page.write(offset, size, &link)
        .map_err(|e| t.unavailable(e))?;
    let at = base + offset;
    {
        let mut text = t.rt.text.lock();
        text.push(base, Code { at, prog, cookie }, size);
        text.ksym_init(ksym, at);
    }
    to.kdata.func[member].store(at, SeqCst);
    Ok(0)
}

/// All members at once, for a kdata that nobody else can see.
pub(crate) fn members(
    t: &Task,
    to: &Target,
    filling: &mut Filling,
    decl: usize,
    cookie: u64,
) -> Step<i8> {
    for (i, _) in with_program(t, decl) {
        let err = member(t, to, filling, decl, i, cookie)?;
        if err != 0 {
            return Ok(err);
        }
    }
    Ok(0)
}

/// Members that have a program, and which.
pub(crate) fn with_program(t: &Task, decl: usize) -> impl Iterator<Item = (usize, usize)> {
    let progs = t.rt.decl.maps[decl].progs.iter().enumerate();
    progs.filter_map(|(i, p)| p.map(|p| (i, p)))
}

/// `arch_protect_bpf_trampoline()` for every page: a caller finds all of them executable, or none.
pub(crate) fn protect(t: &Task, to: &Target, mut filling: Filling) -> Step {
    for page in &mut filling.pages {
        page.protect().map_err(|e| t.unavailable(e))?;
    }
    let mut text = t.rt.text.lock();
    for page in filling.pages {
        text.keep(page.addr(), page);
    }
    for base in to.images.built.lock().pages.into_iter().flatten() {
        text.protect(base);
    }
    Ok(())
}

/// `st_ops->validate(kdata)`.
pub(crate) fn validate(t: &Task, decl: usize, kdata: &Kdata) -> i8 {
    let ty = t.rt.decl.type_of(decl);
    let whole = ty.subsystem == Subsystem::Dummy
        || ty
            .members
            .iter()
            .zip(&kdata.func)
            .all(|(m, f)| !m.required || f.load(SeqCst) != 0);
    if whole { 0 } else { errno::EINVAL }
}

/// The RFC's bpf_struct_ops_prepare_attach(), under update_mutex: 0 or an errno.
pub(crate) fn bpf_struct_ops_prepare_attach(t: &Task, map: &StMap, cookie: u64) -> Step<i8> {
    let to = target(t, map, None)?;
    let mut filling = Filling::default();
    let err = prepare_attach(t, map, &to, &mut filling, cookie);
    match err {
        Ok(0) => Ok(0),
        other => {
            filling.give_up(t);
            other
        }
    }
}

fn prepare_attach(
    t: &Task,
    map: &StMap,
    to: &Target,
    filling: &mut Filling,
    cookie: u64,
) -> Step<i8> {
    for (i, _) in with_program(t, map.decl) {
        t.begin(Pc::PrepMember)?;
        super::subsys::st_ops(t, map.decl)?;
        map.link_cookies[i].store(cookie, SeqCst);
        let err = member(t, to, filling, map.decl, i, cookie)?;
        t.end_with(err);
        if err != 0 {
            return Ok(err);
        }
    }
    t.begin(Pc::PrepSeal)?;
    super::subsys::st_ops(t, map.decl)?;
    if t.rt.design.validate == Validate::LinkCreate {
        let err = validate(t, map.decl, &to.kdata);
        if err != 0 {
            return Ok(t.end_with(err));
        }
    }
    protect(t, to, std::mem::take(filling))?;
    t.end();
    Ok(0)
}

/// The RFC's undo: ksyms and pages of the map are freed at once, kvalue keeps its pointers.
pub(crate) fn free_at_once(t: &Task, map: &StMap) -> Step {
    let kdata = t.kdata(map.kdata.load().expect("owner=map has an embedded kvalue"))?;
    let (listed, named) = {
        let mut text = t.rt.text.lock();
        take_back(t, &mut text, &kdata)
    };
    ksyms_outlived(t, listed, named);
    Ok(())
}

/// Under the text lock, so that a caller finds all of it gone or nothing: whether kallsyms named it.
pub(crate) fn take_back(t: &Task, text: &mut Text, kdata: &Kdata) -> (bool, bool) {
    let mut built = kdata.built.lock();
    let listed = text.free_ksyms(&mut built);
    let named = t.rt.design.free == Free::AtOnce && text.free_images(&mut built, &t.by());
    (listed, named)
}

/// kallsyms named something that was freed.
pub(crate) fn ksyms_outlived(t: &Task, listed: bool, named: bool) {
    if listed {
        let text = "a ksym is freed that kallsyms still lists".to_string();
        t.finding(Invariant::KsymsMatchImages, text, Vec::new());
    }
    if named {
        let text = "kallsyms names a trampoline in a page that is freed".to_string();
        t.finding(Invariant::KsymsMatchImages, text, Vec::new());
    }
}
