//! The runtime's backend: the vocabulary of steps carried out by a task on objects that others work on at once.
//!
//! Each primitive is one atomic access, one lock operation, or one look under a lock; between two of them another
//! thread may come in, also inside of what the model takes as one step. What is wrong is noticed and not suffered: freed
//! objects stay in quarantine, and a page is looked up before it is entered. Not here: the order of primitives, which is
//! the model's.

use std::fmt::Arguments;
use std::sync::Arc;

use struct_ops_model::assoc::Assoc;
use struct_ops_model::backend::{
    Backend, Counted, Freed, Gone, HasPointers, Locking, Memory, Objects, OpenFile, Processes,
    Step, Stop, Structures, Trampolines,
};
use struct_ops_model::kernel::{
    Cgroup, Code, Cpu, Item, ItemArray, MapState, Node, OwnState, Reg, Ring, Scx, Srcu, Stage,
};
use struct_ops_model::lock::Lock;
use struct_ops_model::world::OpKind;
use struct_ops_model::{Design, Invariant, Pc, World};

use super::enter;
use super::event::Object;
use super::object::{Kdata, Link, Place, Places, StMap};
use super::page::{self, Page};
use super::runtime::Work;
use super::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering::SeqCst};
use super::sync::relax;
use super::task::Task;
use super::text::{Found, PAGE_SIZE};

/// Why nobody asks for a cgroup.
const NO_CGROUPS: &str = "no world with cgroups is run";
const NO_RINGS: &str = "no world with rings is run";
const NO_SCRIPT: &str = "no world with such a subsystem is run";

/// A node of the tcp list as a number: `LIST_POISON`, the head, or the `list` member of a kdata.
fn number(node: Node<Places>) -> usize {
    match node {
        Node::Poison => 0,
        Node::Head => 1,
        Node::Of(kdata) => kdata.number() + 2,
    }
}

fn node(number: usize) -> Node<Places> {
    match number {
        0 => Node::Poison,
        1 => Node::Head,
        of => Node::Of(Place::new(of - 2)),
    }
}

/// One more fd of a process.
fn one_more(fds: &AtomicU8, more: &[AtomicU8], proc: u8) {
    if fds.fetch_or(1 << proc, SeqCst) & 1 << proc != 0 {
        more[usize::from(proc)].fetch_add(1, SeqCst);
    }
}

/// One fd of a process less; under `files`.
fn one_less(fds: &AtomicU8, more: &[AtomicU8], proc: u8) {
    let further = &more[usize::from(proc)];
    if further.load(SeqCst) > 0 {
        further.fetch_sub(1, SeqCst);
    } else {
        fds.fetch_and(!(1 << proc), SeqCst);
    }
}

impl HasPointers for Task<'_> {
    type P = Places;
}

impl Task<'_> {
    fn map(&mut self, place: Place<StMap>) -> Step<Arc<StMap>> {
        let map = self.rt.maps.get(place);
        if map.freed.load(SeqCst) {
            return Err(self.gone(Gone::Map));
        }
        Ok(map)
    }

    fn kdata(&mut self, place: Place<Kdata>) -> Step<Arc<Kdata>> {
        let kdata = self.rt.kdatas.get(place);
        if kdata.freed.load(SeqCst) {
            return Err(self.gone(Gone::Kdata));
        }
        Ok(kdata)
    }

    fn link(&mut self, place: Place<Link>) -> Step<Arc<Link>> {
        let link = self.rt.links.get(place);
        if link.freed.load(SeqCst) {
            return Err(self.gone(Gone::Link));
        }
        Ok(link)
    }

    /// Something with the count of an object.
    fn refs<T>(&mut self, what: Counted<Places>, act: impl FnOnce(&AtomicI64) -> T) -> Step<T> {
        Ok(match what {
            Counted::Map(map) => act(&self.map(map)?.refs),
            Counted::Attachment(kdata) => act(&self.kdata(kdata)?.refs),
            Counted::Link(link) => act(&self.link(link)?.refs),
            Counted::Prog(prog) => act(&self.rt.progs[usize::from(prog)].refs),
            Counted::Module => act(&self.rt.module.refs),
        })
    }

    /// Something with an end of a list node.
    fn list_end<T>(
        &mut self,
        of: Node<Places>,
        next: bool,
        act: impl FnOnce(&AtomicUsize) -> T,
    ) -> Step<T> {
        let head = &self.rt.tcp_cong_list;
        Ok(match of {
            Node::Poison => return Err(self.gone(Gone::ListNode)),
            Node::Head => act(if next { &head.next } else { &head.prev }),
            Node::Of(kdata) => {
                let kdata = self.kdata(kdata)?;
                act(if next { &kdata.next } else { &kdata.prev })
            }
        })
    }

    /// What happened to the page of the call in progress.
    fn history(&mut self) -> Vec<String> {
        let address = self.cpu.func;
        self.with_text(|text| text.history(address))
    }

    fn image_gone(&mut self, history: Vec<String>) -> Stop {
        self.fault(Invariant::NoUseAfterFree, Gone::Image.text(), history)
    }
}

impl<'w> Backend<'w> for Task<'w> {
    fn world(&self) -> &'w World {
        &self.rt.world
    }

    fn design(&self) -> &'w Design {
        &self.rt.design
    }

    fn pc(&self) -> Pc {
        self.pc
    }

    fn cpu(&mut self) -> &mut Cpu<Places> {
        &mut self.cpu
    }

    fn proc(&self) -> u8 {
        self.proc
    }

    // ---- what is told ------------------------------------------------------------------------------

    fn listening(&self) -> bool {
        false
    }

    fn say(&mut self, _: Arguments<'_>) {}

    fn witness(&mut self, _: Invariant) {}

    fn violate(&mut self, invariant: Invariant, text: Arguments<'_>) {
        if invariant.applies(&self.rt.design) {
            let history = self.history();
            self.finding(invariant, text.to_string(), history);
        }
    }

    fn broken(&mut self, invariant: Invariant, text: Arguments<'_>) -> Stop {
        let history = self.history();
        self.fault(invariant, &text.to_string(), history)
    }

    fn returns(&mut self) -> Step {
        self.keep_filling();
        self.result = self.cpu.err;
        let exiting = self.cpu.op == OpKind::Exit;
        self.cpu = Cpu {
            readers: self.cpu.readers,
            ..Cpu::default()
        };
        if exiting {
            self.cpu.op = OpKind::Exit;
            self.cpu.pc = Pc::ExitNext;
        }
        Ok(())
    }

    /// Judged by the model alone: here a look at several members is not one look.
    fn check_whole(&mut self, _: Place<Kdata>) -> Step {
        Ok(())
    }

    // ---- a scenario's own subsystems, which are refused before a world of theirs is run ------------

    fn task(&self) -> u8 {
        0
    }

    fn table_full(&mut self) -> Stop {
        unreachable!("{NO_SCRIPT}")
    }
}

impl Memory for Task<'_> {
    // ---- memory ------------------------------------------------------------------------------------

    /// Fails now and then, as long as the world allows.
    fn alloc(&mut self) -> bool {
        self.allocs += 1;
        let left = &self.rt.alloc_failures;
        let may_fail = self.rt.recording.load(SeqCst) && !self.first && left.load(SeqCst) > 0;
        if !may_fail || self.rng.u8(..) >= 48 {
            return true;
        }
        if left.fetch_sub(1, SeqCst) <= 0 {
            left.fetch_add(1, SeqCst);
            return true;
        }
        let failed = self.allocs;
        self.note(|e| e.choice = failed);
        false
    }

    fn new_map(&mut self, decl: u8) -> Step<Place<StMap>> {
        let members = self.rt.world.maps[usize::from(decl)].progs.len();
        let map = self.rt.maps.insert(StMap::new(decl, members));
        self.object(Object::Map(map.number()));
        Ok(map)
    }

    fn new_kdata(&mut self, map: Place<StMap>, decl: u8, attachment: bool) -> Step<Place<Kdata>> {
        let members = self.rt.world.maps[usize::from(decl)].progs.len();
        let kdata = Kdata::new(map, decl, members, attachment);
        let kdata = self.rt.kdatas.insert(kdata);
        if attachment {
            self.object(Object::Attachment(kdata.number()));
        }
        Ok(kdata)
    }

    fn new_link(&mut self, name: u8, cookie: u8) -> Step<Place<Link>> {
        let link = self.rt.links.insert(Link::new(name, cookie));
        self.object(Object::Link(link.number()));
        Ok(link)
    }

    fn free_map(&mut self, map: Place<StMap>) -> Step {
        let map = self.map(map)?;
        self.rt.maps.free(&map);
        Ok(())
    }

    fn free_kdata(&mut self, kdata: Place<Kdata>) -> Step {
        let kdata = self.kdata(kdata)?;
        self.rt.kdatas.free(&kdata);
        Ok(())
    }

    fn free_link(&mut self, link: Place<Link>) -> Step {
        let link = self.link(link)?;
        self.rt.links.free(&link);
        Ok(())
    }

    // ---- references and deferred work --------------------------------------------------------------

    fn get(&mut self, what: Counted<Places>) -> Step {
        self.refs(what, |refs| {
            refs.fetch_add(1, SeqCst);
        })
    }

    fn get_unless_zero(&mut self, what: Counted<Places>) -> Step<bool> {
        self.refs(what, |refs| {
            refs.fetch_update(SeqCst, SeqCst, |n| (n > 0).then_some(n + 1))
                .is_ok()
        })
    }

    fn put(&mut self, what: Counted<Places>) -> Step<bool> {
        match self.refs(what, |refs| refs.fetch_sub(1, SeqCst))? {
            1 => Ok(true),
            n if n > 1 => Ok(false),
            _ => Err(self.broken(
                Invariant::RefcountsBalance,
                format_args!("{} refcount below 0", what.name()),
            )),
        }
    }

    fn is_last(&mut self, what: Counted<Places>) -> Step<bool> {
        self.refs(what, |refs| refs.load(SeqCst) == 1)
    }

    fn defer(&mut self, what: Freed<Places>, after: Stage) -> Step {
        match (what, after) {
            (Freed::Prog(prog), after) => self.rt.queue(Work::FreeProg(prog, after)),
            (what, Stage::Queued) => self.rt.queue(Work::Free(what)),
            (_, after) => self.wait = after,
        }
        Ok(())
    }

    fn queue_link(&mut self, link: Place<Link>) -> Step<bool> {
        let worker = self.rt.world.kworker().is_some();
        if worker {
            self.rt.queue(Work::FreeLink(link));
        }
        Ok(worker)
    }

    fn deferred(&mut self, _: Freed<Places>) -> Step<Stage> {
        Ok(self.wait)
    }
}

impl Locking for Task<'_> {
    // ---- locks -------------------------------------------------------------------------------------

    fn lock(&mut self, lock: Lock<Places>) -> Step {
        match lock {
            Lock::Map(map) => self.map(map)?.lock.lock(),
            Lock::The(class) => self.rt.locks[class as usize].lock(),
            Lock::Prog(prog) => self.rt.progs[usize::from(prog)].st_ops_assoc_mutex.lock(),
            Lock::Sock(sock) => {
                let (me, mut tries) = (self.actor, 0);
                while !self.rt.take_sock(sock, me) {
                    relax(&mut tries);
                }
            }
            Lock::Ring(_) => unreachable!("{NO_RINGS}"),
            Lock::Own(_) => unreachable!("{NO_SCRIPT}"),
        }
        if !matches!(lock, Lock::Sock(_)) {
            self.held.push(lock);
        }
        // Whoever held it may have met a fault: then nothing is recorded any more.
        if self.rt.recording.load(SeqCst) && self.rt.dead.load(SeqCst) {
            return Err(Stop);
        }
        self.restamp();
        Ok(())
    }

    fn unlock(&mut self, lock: Lock<Places>) -> Step {
        self.settle();
        self.held.retain(|held| *held != lock);
        self.rt.release(lock);
        Ok(())
    }

    fn lock_shared(&mut self, _: u8) {}

    fn holds_lock(&mut self, lock: Lock<Places>) -> bool {
        match lock {
            Lock::Sock(sock) => self.rt.has_sock(sock, self.actor),
            _ => self.held.contains(&lock),
        }
    }

    // ---- RCU ---------------------------------------------------------------------------------------

    fn rcu_read_lock(&mut self) {
        self.cpu.readers.rcu += 1;
        self.reader.rcu_read_lock();
    }

    fn rcu_read_unlock(&mut self) {
        self.cpu.readers.rcu -= 1;
        self.reader.rcu_read_unlock();
    }

    fn rcu_read_lock_trace(&mut self) {
        self.cpu.readers.trace += 1;
        self.reader.rcu_read_lock_trace();
    }

    fn rcu_read_unlock_trace(&mut self) {
        self.cpu.readers.trace -= 1;
        self.reader.rcu_read_unlock_trace();
    }

    fn srcu_read_lock(&mut self, _: Srcu) {
        self.reader.srcu_read_lock();
    }

    fn srcu_read_unlock(&mut self, _: Srcu) {
        self.reader.srcu_read_unlock();
    }

    fn srcu_wait_begin(&mut self, _: Srcu) {
        self.wait = Stage::Srcu;
    }

    fn tasks_enter(&mut self) {
        self.cpu.readers.tasks = true;
        self.reader.tasks_enter();
    }

    fn tasks_quiescent(&mut self) {
        if std::mem::take(&mut self.cpu.readers.tasks) {
            self.reader.tasks_quiescent();
        }
    }

    fn wait_begin(&mut self, stage: Stage) {
        self.wait = stage;
    }

    fn waited(&mut self) -> Stage {
        self.wait
    }
}

impl Objects for Task<'_> {
    // ---- maps --------------------------------------------------------------------------------------

    fn map_decl(&mut self, map: Place<StMap>) -> Step<u8> {
        Ok(self.map(map)?.decl)
    }

    fn map_state(&mut self, map: Place<StMap>) -> Step<MapState> {
        Ok(self.map(map)?.state())
    }

    fn set_map_state(&mut self, map: Place<StMap>, to: MapState) -> Step {
        self.map(map)?.set_state(to);
        Ok(())
    }

    fn cmpxchg_map_state(
        &mut self,
        map: Place<StMap>,
        from: MapState,
        to: MapState,
    ) -> Step<MapState> {
        Ok(self.map(map)?.cmpxchg_state(from, to))
    }

    fn map_kdata(&mut self, map: Place<StMap>) -> Step<Option<Place<Kdata>>> {
        Ok(self.map(map)?.kdata.load())
    }

    fn set_map_kdata(&mut self, map: Place<StMap>, to: Option<Place<Kdata>>) -> Step {
        self.map(map)?.kdata.store(to);
        Ok(())
    }

    fn filled(&mut self, map: Place<StMap>, member: usize) -> Step<bool> {
        Ok(self.map(map)?.filled.load(SeqCst) & (1 << member) != 0)
    }

    fn set_filled(&mut self, map: Place<StMap>, member: usize, to: bool) -> Step {
        let map = self.map(map)?;
        if to {
            map.filled.fetch_or(1 << member, SeqCst);
        } else {
            map.filled.fetch_and(!(1 << member), SeqCst);
        }
        Ok(())
    }

    fn set_link_cookie(&mut self, map: Place<StMap>, member: usize, cookie: u8) -> Step {
        self.map(map)?.link_cookies[member].store(cookie, SeqCst);
        Ok(())
    }

    fn install_map_fd(&mut self, map: Place<StMap>) -> Step {
        let map = self.map(map)?;
        // An operation's first step has it already.
        let _files = (!self.first).then(|| self.rt.files.lock());
        one_more(&map.fds, &map.more, self.proc);
        self.settle();
        Ok(())
    }

    fn close_map_fd(&mut self, map: Place<StMap>) -> Step {
        let proc = self.proc;
        let map = self.map(map)?;
        one_less(&map.fds, &map.more, proc);
        Ok(())
    }

    fn set_map_pinned(&mut self, map: Place<StMap>, to: bool) -> Step {
        self.map(map)?.pinned.store(to, SeqCst);
        Ok(())
    }

    fn has_link(&mut self, _: Place<StMap>) -> bool {
        false
    }

    // ---- kdata -------------------------------------------------------------------------------------

    fn kdata_map(&mut self, kdata: Place<Kdata>) -> Step<Place<StMap>> {
        Ok(self.kdata(kdata)?.map)
    }

    fn kdata_decl(&mut self, kdata: Place<Kdata>) -> Step<u8> {
        Ok(self.kdata(kdata)?.decl)
    }

    fn is_attachment(&mut self, kdata: Place<Kdata>) -> Step<bool> {
        Ok(self.kdata(kdata)?.attachment)
    }

    fn only_attachment(&mut self, map: Place<StMap>) -> Step<Option<Place<Kdata>>> {
        self.map(map)?;
        let all = self.rt.kdatas.all();
        let mut attachments = all
            .iter()
            .filter(|(_, d)| d.attachment && d.map == map && d.refs.load(SeqCst) > 0);
        let first = attachments.next().map(|(place, _)| *place);
        Ok(first.filter(|_| attachments.next().is_none()))
    }

    fn generated_for(&mut self, func: usize) -> Option<Place<Kdata>> {
        let page = func & !(PAGE_SIZE - 1);
        self.rt
            .kdatas
            .find(|d| d.built.lock().pages.contains(&Some(page)))
    }

    fn func(&mut self, kdata: Place<Kdata>, member: usize) -> Step<usize> {
        let kdata = self.kdata(kdata)?;
        Ok(kdata.func.get(member).map_or(0, |f| f.load(SeqCst)))
    }

    fn set_func(&mut self, kdata: Place<Kdata>, member: usize, to: usize) -> Step {
        self.kdata(kdata)?.func[member].store(to, SeqCst);
        Ok(())
    }

    fn clear_funcs(&mut self, kdata: Place<Kdata>) -> Step {
        let kdata = self.kdata(kdata)?;
        kdata.func.iter().for_each(|f| f.store(0, SeqCst));
        kdata.hdev.store(false, SeqCst);
        Ok(())
    }

    /// Judged by the model alone.
    fn has_one_of_its_map(&mut self, _: Place<Kdata>, _: Option<u8>) -> bool {
        false
    }

    fn note_registered(&mut self, kdata: Place<Kdata>, cookie: u8) -> Step {
        self.kdata(kdata)?.expect.store(cookie, SeqCst);
        Ok(())
    }

    fn note_unregistered(&mut self, kdata: Place<Kdata>) -> Step {
        self.kdata(kdata).map(drop)
    }

    fn registered_cookie(&mut self, kdata: Place<Kdata>) -> Step<u8> {
        Ok(self.kdata(kdata)?.expect.load(SeqCst))
    }

    // ---- links -------------------------------------------------------------------------------------

    fn link_cookie(&mut self, link: Place<Link>) -> Step<u8> {
        Ok(self.link(link)?.cookie)
    }

    fn link_map(&mut self, link: Place<Link>) -> Step<Option<Place<StMap>>> {
        Ok(self.link(link)?.map.load())
    }

    fn link_attachment(&mut self, link: Place<Link>) -> Step<Option<Place<Kdata>>> {
        Ok(self.link(link)?.attachment.load())
    }

    fn set_link(
        &mut self,
        link: Place<Link>,
        map: Option<Place<StMap>>,
        attachment: Option<Place<Kdata>>,
    ) -> Step {
        let link = self.link(link)?;
        link.map.store(map);
        link.attachment.store(attachment);
        Ok(())
    }

    fn install_link_fd(&mut self, link: Place<Link>) -> Step {
        let link = self.link(link)?;
        // An operation's first step has it already.
        let _files = (!self.first).then(|| self.rt.files.lock());
        one_more(&link.fds, &link.more, self.proc);
        self.settle();
        Ok(())
    }

    fn close_link_fd(&mut self, link: Place<Link>) -> Step {
        let proc = self.proc;
        let link = self.link(link)?;
        one_less(&link.fds, &link.more, proc);
        Ok(())
    }

    fn set_link_id(&mut self, link: Place<Link>, to: bool) -> Step {
        self.link(link)?.id.store(to, SeqCst);
        Ok(())
    }

    fn link_has_id(&mut self, link: Place<Link>) -> Step<bool> {
        Ok(self.link(link)?.id.load(SeqCst))
    }

    fn set_pinned(&mut self, link: Place<Link>, to: bool) -> Step {
        self.link(link)?.pinned.store(to, SeqCst);
        Ok(())
    }

    fn link_cgroup(&mut self, _: Place<Link>) -> Step<Option<u8>> {
        Ok(None)
    }

    fn set_link_cgroup(&mut self, _: Place<Link>, _: Option<u8>) -> Step {
        Ok(())
    }

    fn anchor(&mut self, _: u8, _: bool) -> Option<Place<Link>> {
        None
    }
}

impl Trampolines for Task<'_> {
    // ---- trampolines -------------------------------------------------------------------------------

    fn under_text_mutex<T>(&mut self, act: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        self.text = Some(self.rt.text.lock());
        let done = act(self);
        self.text = None;
        done
    }

    fn new_ksym(&mut self, owner: Place<Kdata>, place: usize) -> Step {
        let owner = self.kdata(owner)?;
        let ksym = self.with_text(|text| text.ksym_alloc());
        owner.built.lock().ksyms[place] = Some(ksym);
        Ok(())
    }

    fn name_ksym(&mut self, owner: Place<Kdata>, place: usize, func: usize) -> Step {
        let ksym = self.kdata(owner)?.built.lock().ksyms[place];
        let ksym = ksym.expect("just allocated");
        self.with_text(|text| text.ksym_init(ksym, func));
        Ok(())
    }

    fn add_ksyms(&mut self, owner: Place<Kdata>) -> Step {
        let owner = self.kdata(owner)?;
        self.with_text(|text| text.add_ksyms(&owner.built.lock()));
        Ok(())
    }

    fn del_ksyms(&mut self, owner: Place<Kdata>) -> Step {
        let owner = self.kdata(owner)?;
        self.with_text(|text| text.del_ksyms(&owner.built.lock()));
        Ok(())
    }

    fn free_ksyms(&mut self, owner: Place<Kdata>) -> Step {
        let owner = self.kdata(owner)?;
        if self.with_text(|text| text.free_ksyms(&mut owner.built.lock())) {
            let text = format_args!("a ksym is freed that kallsyms still lists");
            self.violate(Invariant::KsymsMatchImages, text);
        }
        Ok(())
    }

    fn page_fill(&mut self, page: usize) -> Step<u16> {
        Ok(self.with_text(|text| text.fill(page)) as u16)
    }

    fn has_page_slot(&mut self, owner: Place<Kdata>) -> Step<bool> {
        let owner = self.kdata(owner)?;
        let built = owner.built.lock();
        Ok(built.pages.iter().any(Option::is_none))
    }

    fn new_page(&mut self, owner: Place<Kdata>) -> Step<Option<usize>> {
        let owner = self.kdata(owner)?;
        let slot = owner.built.lock().pages.iter().position(Option::is_none);
        let Some(slot) = slot else { return Ok(None) };
        let page = Page::alloc(self.rt.jit).map_err(|e| self.unavailable(e))?;
        let (base, by) = (page.addr(), self.by());
        self.with_text(|text| text.insert(base, by));
        owner.built.lock().pages[slot] = Some(base);
        self.filling.push(page);
        Ok(Some(base))
    }

    fn write_trampoline(&mut self, page: usize, size: u16, code: Code) -> Step<usize> {
        let (protected, offset) = self.with_text(|text| (text.protected(page), text.fill(page)));
        let filling = self.filling.iter_mut().find(|p| p.addr() == page);
        let Some(filling) = filling.filter(|_| !protected) else {
            let text = format_args!("an executable page is written");
            return Err(self.broken(Invariant::TextImmutable, text));
        };
        let size = usize::from(size);
        let link = page::Link::new(self.rt, code);
        let written = filling.write(offset, size, &link);
        written.map_err(|e| self.unavailable(e))?;
        let at = page + offset;
        self.with_text(|text| text.push(page, at, code, size));
        Ok(at)
    }

    fn protect(&mut self, owner: Place<Kdata>) -> Step {
        let owner = self.kdata(owner)?;
        for page in &mut self.filling {
            if let Err(why) = page.protect() {
                return Err(self.unavailable(why));
            }
        }
        self.keep_filling();
        let pages = owner.built.lock().pages;
        self.with_text(|text| {
            for base in pages.into_iter().flatten() {
                text.protect(base);
            }
        });
        Ok(())
    }

    fn free_images(&mut self, owner: Place<Kdata>) -> Step<bool> {
        self.keep_filling();
        let (owner, by) = (self.kdata(owner)?, self.by());
        let (any, named) = self.with_text(|text| {
            let mut built = owner.built.lock();
            let any = built.pages.iter().any(Option::is_some);
            (any, text.free_images(&mut built, &by))
        });
        if named {
            let text = format_args!("kallsyms still names a trampoline in the page");
            self.violate(Invariant::KsymsMatchImages, text);
        }
        Ok(any)
    }

    fn new_test_page(&mut self, code: Code) -> Step<(usize, usize)> {
        let link = page::Link::new(self.rt, code);
        let page = Page::alloc(self.rt.jit).and_then(|mut page| {
            page.write(0, PAGE_SIZE, &link)?;
            page.protect()?;
            Ok(page)
        });
        let page = page.map_err(|e| self.unavailable(e))?;
        let (at, by) = (page.addr(), self.by());
        self.with_text(|text| {
            text.insert(at, by);
            text.push(at, at, code, PAGE_SIZE);
            text.protect(at);
            text.keep(at, page);
        });
        Ok((at, at))
    }

    fn free_test_page(&mut self, page: usize) -> Step {
        let by = self.by();
        self.with_text(|text| text.free_image(page, &by));
        Ok(())
    }

    // ---- the call of a member ----------------------------------------------------------------------

    fn enter_trampoline(&mut self, func: usize) -> Step<Code> {
        match self.with_text(|text| text.enter(func)) {
            Found::Code { code, named } => {
                self.named = named;
                Ok(code)
            }
            Found::NotExecutable => {
                let text = format_args!("the page is not executable: the call faults");
                Err(self.broken(Invariant::NoTornPublish, text))
            }
            Found::Gone { history } => Err(self.image_gone(history)),
        }
    }

    fn code_at(&mut self, func: usize) -> Step<Code> {
        let there = self.with_text(|text| text.still_there(func));
        there.map_err(|history| self.image_gone(history))
    }

    fn leave_trampoline(&mut self, func: usize) {
        self.with_text(|text| text.leave(func));
    }

    /// As it was when the trampoline was entered: one look.
    fn named(&mut self, _: usize) -> bool {
        let unnamed = !self.named;
        self.note(|e| e.unnamed = unnamed);
        self.named
    }

    fn set_run_ctx(&mut self, code: Code) {
        self.run_ctx = self.rt.world.cookies[usize::from(code.cookie)];
    }

    fn run_ctx_cookie(&mut self) -> u64 {
        let cookie = enter::run_ctx_cookie().unwrap_or(self.run_ctx);
        self.note(|e| e.cookie = Some(cookie));
        cookie
    }
}

impl Processes for Task<'_> {
    fn has_prog_fd(&mut self, prog: u8) -> bool {
        self.rt.progs[usize::from(prog)].fds.load(SeqCst) & self.bit() != 0
    }

    fn close_prog_fd(&mut self, prog: u8) {
        let bit = self.bit();
        self.rt.progs[usize::from(prog)].fds.fetch_and(!bit, SeqCst);
    }

    fn assoc(&mut self, prog: u8) -> Assoc<Place<StMap>> {
        *self.rt.progs[usize::from(prog)].assoc.lock()
    }

    fn change_assoc<T>(
        &mut self,
        prog: u8,
        change: impl FnOnce(&mut Assoc<Place<StMap>>) -> T,
    ) -> T {
        change(&mut self.rt.progs[usize::from(prog)].assoc.lock())
    }

    /// The worker does it, under `text_mutex`.
    /// `round` refuses programs that have callbacks.
    fn set_armed(&mut self, _: u8, to: bool) -> bool {
        !to
    }

    fn free_prog(&mut self, _: u8) {}

    fn prog_freed(&mut self, prog: u8) -> bool {
        self.rt.progs[usize::from(prog)].freed.load(SeqCst)
    }

    /// Plans are the business of `round`.
    fn count_operation(&mut self) {}

    /// So is what the other threads of the process may still begin.
    fn begin_exit(&mut self) {}

    fn open_file(&mut self) -> Option<OpenFile<Places>> {
        let file = self.rt.open_file(self.bit());
        let object = match file {
            Some(OpenFile::Link(link)) => Some(Object::Link(link.number())),
            Some(OpenFile::Sock(sock)) => Some(Object::Sock(usize::from(sock))),
            Some(OpenFile::Ring(_)) => unreachable!("{NO_RINGS}"),
            Some(OpenFile::Map(map)) => Some(Object::Map(map.number())),
            Some(OpenFile::Prog(prog)) => Some(Object::Prog(usize::from(prog))),
            None => None,
        };
        self.note(|e| e.object = object);
        file
    }

    fn process_is_gone(&mut self) {}

    /// `round` refuses plans that fork.
    fn dup_fd(&mut self) -> Step<bool> {
        unreachable!("the runtime forks no process")
    }

    fn try_module_get(&mut self) -> bool {
        let _unload = self.rt.module.lock.lock();
        if self.module_unloaded() {
            return false;
        }
        self.rt.module.refs.fetch_add(1, SeqCst);
        true
    }

    fn module_unloaded(&mut self) -> bool {
        self.rt.module.unloaded.load(SeqCst)
    }

    fn unload_module(&mut self) -> bool {
        let _unload = self.rt.module.lock.lock();
        let free = self.rt.module.refs.load(SeqCst) == 0;
        if free {
            self.rt.module.unloaded.store(true, SeqCst);
        }
        free
    }
}

impl Structures for Task<'_> {
    // ---- what subsystems keep ----------------------------------------------------------------------

    fn list_next(&mut self, of: Node<Places>) -> Step<Node<Places>> {
        self.list_end(of, true, |end| node(end.load(SeqCst)))
    }

    fn set_list_next(&mut self, of: Node<Places>, to: Node<Places>) -> Step {
        self.list_end(of, true, |end| end.store(number(to), SeqCst))
    }

    fn list_prev(&mut self, of: Node<Places>) -> Step<Node<Places>> {
        self.list_end(of, false, |end| node(end.load(SeqCst)))
    }

    fn set_list_prev(&mut self, of: Node<Places>, to: Node<Places>) -> Step {
        self.list_end(of, false, |end| end.store(number(to), SeqCst))
    }

    fn list_bound(&self) -> usize {
        self.rt.kdatas.live() + 1
    }

    fn new_sock(&mut self, kdata: Place<Kdata>, cookie: u8) -> Step<u8> {
        let sock = self.rt.new_sock(kdata, cookie, self.bit());
        self.object(Object::Sock(usize::from(sock)));
        Ok(sock)
    }

    fn sock(&mut self, sock: u8) -> Option<(Place<Kdata>, u8)> {
        let sock = *self.rt.socks.lock().get(usize::from(sock))?;
        Some((sock.kdata?, sock.expect))
    }

    fn close_sock_fd(&mut self, sock: u8) -> bool {
        let bit = self.bit();
        let fds = &mut self.rt.socks.lock()[usize::from(sock)].fds;
        *fds &= !bit;
        *fds != 0
    }

    fn close_sock(&mut self, sock: u8) {
        self.rt.socks.lock()[usize::from(sock)] = Default::default();
    }

    fn registration(&mut self, place: usize) -> Option<Reg<Places>> {
        self.rt.regs.lock().get(place).copied()
    }

    fn push_registration(&mut self, reg: Reg<Places>) -> Step<usize> {
        let mut regs = self.rt.regs.lock();
        regs.push(reg);
        Ok(regs.len() - 1)
    }

    fn set_registration(&mut self, place: usize, reg: Reg<Places>) {
        self.rt.regs.lock()[place] = reg;
    }

    fn remove_registration(&mut self, place: usize) {
        self.rt.regs.lock().remove(place);
    }

    fn scx(&mut self) -> Scx<Places> {
        *self.rt.scx.lock()
    }

    fn set_scx(&mut self, scx: Scx<Places>) {
        *self.rt.scx.lock() = scx;
    }

    fn hdev(&mut self, kdata: Place<Kdata>) -> Step<bool> {
        Ok(self.kdata(kdata)?.hdev.load(SeqCst))
    }

    fn set_hdev(&mut self, kdata: Place<Kdata>, to: bool) -> Step {
        self.kdata(kdata)?.hdev.store(to, SeqCst);
        Ok(())
    }

    fn rdesc_ops(&mut self) -> Option<Reg<Places>> {
        *self.rt.rdesc_ops.lock()
    }

    fn set_rdesc_ops(&mut self, to: Option<Reg<Places>>) {
        *self.rt.rdesc_ops.lock() = to;
    }

    fn device_data(&mut self) -> bool {
        self.rt.device_data.load(SeqCst)
    }

    fn set_device_data(&mut self) {
        self.rt.device_data.store(true, SeqCst);
    }

    fn ring(&mut self, _: u8) -> Ring<Places> {
        unreachable!("{NO_RINGS}")
    }

    fn set_ring(&mut self, _: u8, _: Ring<Places>) {}

    // ---- cgroups: a world that has some is refused before it is run --------------------------------

    fn cgroup(&mut self, _: u8) -> Cgroup<Places> {
        unreachable!("{NO_CGROUPS}")
    }

    fn set_cgroup(&mut self, _: u8, _: Cgroup<Places>) {}

    fn activate(&mut self, _: u8, _: ItemArray<Places>) {}

    fn walk_begin(&mut self, _: u8) {}

    fn walk_next(&mut self) -> Option<Item<Places>> {
        unreachable!("{NO_CGROUPS}")
    }

    // ---- a scenario's own subsystems, which are refused before a world of theirs is run ------------

    fn own(&mut self) -> OwnState<Places> {
        OwnState::default()
    }

    fn set_own(&mut self, _: OwnState<Places>) {}
}
