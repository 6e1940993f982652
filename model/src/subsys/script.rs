//! The functions of a subsystem that the scenario brings: one line, one step.
//!
//! What the lines are is in [`crate::script`]; they stand for the source that the scenario names.

use crate::backend::{Backend, Gone, KdataOf, LinkOf, Step, event};
use crate::design::Twin;
use crate::invariant::Invariant;
use crate::kernel::{Dirty, Reg, Seen, Srcu, Stage};
use crate::lock::Lock;
use crate::operation::Entry;
use crate::pc::Pc;
use crate::proc::refs::{bpf_struct_ops_get, bpf_struct_ops_put};
use crate::proc::{assoc, call};
use crate::script::{MAX_COUNT, MAX_NESTING, Mode, Own, ReadSide, SlotKey, Statement, Test};
use crate::subsys::{Called, Facts, back, given_again, leave, registered, takes, unregistered};
use crate::world::{MAX_REGS, OpKind};

/// What is known of any of them; the rest is in the world's [`crate::script::Script`].
pub(crate) const FACTS: Facts = Facts {
    name: "[[subsystem]]",
    about: "a subsystem that the scenario brings",
    members: &[],
    only_these: false,
    init_member: 0,
    reg: Pc::Script,
    unreg: Pc::Script,
    update: None,
    called: Called::ByFunctions,
    entries: MAX_REGS,
    refusals: &[],
    tasks_rcu: false,
    since: crate::place::Linux::V6_12,
    known_bugs: &[],
};

/// Enters the function.
pub(crate) fn enter<'w, X: Backend<'w>>(x: &mut X, function: u8) -> Step {
    let script = &x.world().script;
    let teardown = |own: &Own| own.teardown == Some(function);
    if let Some(place) = script.subsystems.iter().position(teardown) {
        let mut own = x.own();
        own.torn_down |= 1 << place;
        x.set_own(own);
    }
    x.cpu().line = script.functions[usize::from(function)].first;
    x.goto(Pc::Script)
}

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    if x.pc() == Pc::ScriptWaited {
        x.wait_begin(Stage::None);
        x.cpu().line += 1;
        return x.goto(Pc::Script);
    }
    let at = x.cpu().line;
    let script = &x.world().script;
    let line = &script.lines[usize::from(at)];
    event!(x, "{}: {}", script.function(at).name, line.text);
    for statement in &line.statements {
        match *statement {
            Statement::Return(err) => return ret(x, err),
            Statement::Goto(target) => return on(x, target),
            Statement::Call(member) => return call(x, member),
            Statement::Fentry(prog) => return fentry(x, prog),
            Statement::Synchronize(stage) => {
                x.wait_begin(stage);
                return x.goto(Pc::ScriptWaited);
            }
            Statement::SynchronizeSrcu(domain) => {
                x.srcu_wait_begin(Srcu::Own(domain));
                return x.goto(Pc::ScriptWaited);
            }
            other => {
                if let Some(target) = act(x, other)? {
                    return on(x, target);
                }
            }
        }
    }
    on(x, at + 1)
}

fn on<'w, X: Backend<'w>>(x: &mut X, line: u8) -> Step {
    x.cpu().line = line;
    x.goto(Pc::Script)
}

/// A statement that ends within the step: where to go on, if not behind it.
fn act<'w, X: Backend<'w>>(x: &mut X, statement: Statement) -> Step<Option<u8>> {
    match statement {
        Statement::Lock(lock, Mode::Exclusive) => x.lock(Lock::Own(lock))?,
        Statement::Lock(lock, Mode::Shared) => x.lock_shared(lock),
        Statement::Unlock(lock, mode) => {
            let cpu = x.task();
            let mut own = x.own();
            let place = usize::from(lock);
            let held = match mode {
                Mode::Exclusive => own.locks[place] == Some(cpu),
                Mode::Shared => own.shared[place] & (1 << cpu) != 0,
            };
            if !held {
                let name = &x.world().script.locks[place];
                return Err(x.broken(
                    Invariant::NoDeadlock,
                    format_args!("{name} is released, and this CPU does not hold it"),
                ));
            }
            match mode {
                Mode::Exclusive => own.locks[place] = None,
                Mode::Shared => own.shared[place] &= !(1 << cpu),
            }
            x.set_own(own);
        }
        Statement::Enter(ReadSide::Rcu) => {
            if x.cpu().readers.rcu == MAX_NESTING {
                return Err(x.table_full());
            }
            x.rcu_read_lock();
        }
        Statement::Leave(ReadSide::Rcu) => {
            let none = x.cpu().readers.rcu == 0;
            outside(x, none)?;
            x.rcu_read_unlock();
        }
        Statement::Enter(ReadSide::Trace) => {
            if x.cpu().readers.trace == MAX_NESTING {
                return Err(x.table_full());
            }
            x.rcu_read_lock_trace();
        }
        Statement::Leave(ReadSide::Trace) => {
            let none = x.cpu().readers.trace <= entered_before(x);
            outside(x, none)?;
            x.rcu_read_unlock_trace();
        }
        Statement::Enter(ReadSide::Srcu(domain)) => {
            x.srcu_read_lock(Srcu::Own(domain));
        }
        Statement::Leave(ReadSide::Srcu(domain)) => {
            let cpu = x.task();
            let none = x.own().readers[usize::from(domain)] & (1 << cpu) == 0;
            outside(x, none)?;
            x.srcu_read_unlock(Srcu::Own(domain));
        }
        Statement::Publish(slot) => publish(x, slot)?,
        Statement::Withdraw(slot) => withdraw(x, slot)?,
        Statement::Replace(slot, target) => {
            let new = x.cpu().kdata.expect("update() gets a kdata");
            let old = x.cpu().old_kdata.expect("update() gets the old kdata");
            let link = x.cpu().link;
            let mine = x.find_registration(|r| r.slot == slot && r.kdata == old && r.link == link);
            let other = entry(x, slot)?;
            // The key of the new one must not be that of another entry.
            let Some(place) = mine.filter(|mine| other.is_none_or(|other| other == *mine)) else {
                x.saw(Seen::MISMATCH);
                return Ok(Some(target));
            };
            let reg = x.registration(place).expect("just found");
            if !has_entry(x, new, reg.link) {
                registered(x, new)?;
            }
            x.set_registration(place, Reg { kdata: new, ..reg });
            if !has_entry(x, old, reg.link) {
                unregistered(x, old)?;
            }
        }
        Statement::Find(slot, target) => return find(x, slot, 0, target),
        Statement::Next(slot, target) => {
            let after = usize::from(x.cpu().arg);
            return find(x, slot, after, target);
        }
        Statement::Get(target) => {
            let kdata = kdata(x)?;
            if !bpf_struct_ops_get(x, kdata)? {
                return Ok(Some(target));
            }
            let mut own = x.own();
            let Some(place) = own.refs.iter().position(Option::is_none) else {
                return Err(x.table_full());
            };
            own.refs[place] = Some(kdata);
            x.set_own(own);
        }
        Statement::Put => {
            let kdata = kdata(x)?;
            let mut own = x.own();
            let Some(place) = own.refs.iter().position(|r| *r == Some(kdata)) else {
                return Err(x.broken(
                    Invariant::RefcountsBalance,
                    format_args!("a reference is put that the subsystem does not hold"),
                ));
            };
            own.refs[place] = None;
            own.refs[place..].rotate_left(1);
            x.set_own(own);
            bpf_struct_ops_put(x, kdata)?;
        }
        Statement::Alloc(object, target) => {
            if !x.alloc() {
                return Ok(Some(target));
            }
            let mut own = x.own();
            let count = &mut own.objects[usize::from(object)];
            if *count == MAX_COUNT {
                return Err(x.table_full());
            }
            *count += 1;
            x.set_own(own);
        }
        Statement::Free(object) => {
            there(x, object)?;
            let mut own = x.own();
            own.objects[usize::from(object)] -= 1;
            x.set_own(own);
        }
        Statement::Use(object) => there(x, object)?,
        Statement::UseKdata => {
            let kdata = kdata(x)?;
            x.kdata_decl(kdata)?;
        }
        Statement::UseLink => {
            if let Some(link) = x.cpu().link {
                x.link_cookie(link)?;
            }
        }
        Statement::Set(flag) => {
            let mut own = x.own();
            own.flags |= 1 << flag;
            x.set_own(own);
        }
        Statement::Clear(flag) => {
            let mut own = x.own();
            own.flags &= !(1 << flag);
            x.set_own(own);
        }
        // The line has waited.
        Statement::Wait(_) => {}
        Statement::If(test, wanted, target) => {
            if holds(x, test)? == wanted {
                return Ok(Some(target));
            }
        }
        Statement::Return(_)
        | Statement::Goto(_)
        | Statement::Call(_)
        | Statement::Fentry(_)
        | Statement::Synchronize(_)
        | Statement::SynchronizeSrcu(_) => unreachable!("ends the step"),
    }
    Ok(None)
}

/// The read sides of Tasks Trace RCU in which the attach path itself is: that of a syscall program.
fn entered_before<'w, X: Backend<'w>>(x: &mut X) -> u8 {
    u8::from(x.cpu().op.info().entry == Entry::Program)
}

/// A read side that is left was not entered.
fn outside<'w, X: Backend<'w>>(x: &mut X, outside: bool) -> Step {
    if outside {
        return Err(x.broken(
            Invariant::NoDeadlock,
            format_args!("a read side is left that was not entered"),
        ));
    }
    Ok(())
}

/// The kdata that the function is about.
fn kdata<'w, X: Backend<'w>>(x: &mut X) -> Step<KdataOf<X>> {
    match x.cpu().kdata {
        Some(kdata) => Ok(kdata),
        None => {
            let what = format_args!("nothing was found that this could be about");
            Err(x.broken(Invariant::NoUseAfterFree, what))
        }
    }
}

fn there<'w, X: Backend<'w>>(x: &mut X, object: u8) -> Step {
    if x.own().objects[usize::from(object)] > 0 {
        x.witness(Invariant::NoUseAfterFree);
        return Ok(());
    }
    let name = &x.world().script.objects[usize::from(object)];
    event!(x, "{name} is gone");
    Err(x.gone(Gone::Object))
}

/// For what the function is there that runs.
enum Role {
    Reg,
    Unreg,
    Update,
    /// User space runs it, or the end of the world.
    Run,
}

fn role<'w, X: Backend<'w>>(x: &mut X) -> Role {
    if runs(x) {
        return Role::Run;
    }
    let line = x.cpu().line;
    let script = &x.world().script;
    let is = |function: u8| {
        let function = &script.functions[usize::from(function)];
        (function.first..function.end).contains(&line)
    };
    let mut own = script.subsystems.iter();
    own.find_map(|own| match own.update {
        _ if is(own.reg) => Some(Role::Reg),
        _ if is(own.unreg) => Some(Role::Unreg),
        Some(update) if is(update) => Some(Role::Update),
        _ => None,
    })
    .expect("the attach path calls these three")
}

/// An operation of user space's, not a function that the attach path calls.
fn runs<'w, X: Backend<'w>>(x: &mut X) -> bool {
    x.cpu().op == OpKind::Run
}

/// Place of the entry whose key is that of the task's kdata, map or link.
fn entry<'w, X: Backend<'w>>(x: &mut X, slot: u8) -> Step<Option<usize>> {
    let key = x.world().script.slots[usize::from(slot)].key;
    let (kdata, link) = (x.cpu().kdata, x.cpu().link);
    for place in 0.. {
        let Some(reg) = x.registration(place) else {
            break;
        };
        if reg.slot != slot {
            continue;
        }
        let same = match (key, kdata) {
            (SlotKey::One, _) => true,
            (SlotKey::Link, _) => reg.link == link,
            (SlotKey::Kdata, kdata) => Some(reg.kdata) == kdata,
            (_, None) => false,
            (SlotKey::Map, Some(kdata)) => x.kdata_map(reg.kdata)? == x.kdata_map(kdata)?,
            (SlotKey::Name, Some(kdata)) => name(x, reg.kdata)? == name(x, kdata)?,
        };
        if same {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn name<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<u8> {
    let decl = x.kdata_decl(kdata)?;
    Ok(x.world().maps[usize::from(decl)].key)
}

fn publish<'w, X: Backend<'w>>(x: &mut X, slot: u8) -> Step {
    let kdata = kdata(x)?;
    let link = x.cpu().link;
    let known_by_address = &x.world().script.slots[usize::from(slot)];
    if known_by_address.key == SlotKey::Kdata && known_by_address.asked {
        takes(x, kdata, Some(slot));
    }
    if let Some(place) = entry(x, slot)? {
        let old = x.registration(place).expect("just found");
        x.remove_registration(place);
        lost(x, old)?;
        event!(x, "another entry is overwritten");
    }
    if registers(x, slot) && !has_entry(x, kdata, link) {
        registered(x, kdata)?;
    }
    let expect = match runs(x) {
        true => x.cpu().expect,
        false => x.registered_cookie(kdata)?,
    };
    x.push_registration(Reg {
        kdata,
        expect,
        link,
        slot,
    })?;
    Ok(())
}

/// The slot is one of registrations.
fn registers<'w, X: Backend<'w>>(x: &X, slot: u8) -> bool {
    x.world().script.slots[usize::from(slot)].registers
}

/// One registration may have entries in several slots, as a struct has that is on a list and in a pointer, too.
fn has_entry<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>, link: Option<LinkOf<X>>) -> bool {
    for place in 0.. {
        match x.registration(place) {
            Some(reg) if reg.kdata == kdata && reg.link == link && registers(x, reg.slot) => {
                return true;
            }
            Some(_) => {}
            None => break,
        }
    }
    false
}

/// An entry goes: it should be that of whoever unregisters.
fn lost<'w, X: Backend<'w>>(x: &mut X, reg: Reg<X::P>) -> Step {
    if !registers(x, reg.slot) {
        return Ok(());
    }
    let mine = x.cpu().kdata == Some(reg.kdata) && x.cpu().link == reg.link;
    if !runs(x) {
        x.witness(Invariant::NoForeignUnreg);
        if !mine {
            let what = format_args!("ANOTHER registration is being removed");
            x.violate(Invariant::NoForeignUnreg, what);
        }
    }
    if !has_entry(x, reg.kdata, reg.link) {
        x.note_unregistered(reg.kdata)?;
        x.undo(Dirty::REG);
    }
    Ok(())
}

fn withdraw<'w, X: Backend<'w>>(x: &mut X, slot: u8) -> Step {
    if let Some(place) = entry(x, slot)? {
        let reg = x.registration(place).expect("just found");
        x.remove_registration(place);
        lost(x, reg)?;
    } else {
        event!(x, "no such entry");
    }
    Ok(())
}

/// The first entry of the slot at `from` or behind it. The CPU then stands behind that entry, also when it is withdrawn.
fn find<'w, X: Backend<'w>>(x: &mut X, slot: u8, from: usize, target: u8) -> Step<Option<u8>> {
    for place in from.. {
        let Some(reg) = x.registration(place) else {
            break;
        };
        if reg.slot == slot {
            x.cpu().kdata = Some(reg.kdata);
            x.cpu().link = reg.link;
            x.cpu().expect = reg.expect;
            x.cpu().arg = place as u8 + 1;
            return Ok(None);
        }
    }
    Ok(Some(target))
}

fn holds<'w, X: Backend<'w>>(x: &mut X, test: Test) -> Step<bool> {
    Ok(match test {
        Test::Taken(slot) => {
            let by_address = x.world().script.slots[usize::from(slot)].key == SlotKey::Kdata;
            let forgets = by_address && x.design().twin == Twin::ForgottenStruct;
            let taken = entry(x, slot)?.is_some() && !forgets;
            if let Some(kdata) = x.cpu().kdata.filter(|_| taken) {
                given_again(x, kdata, Some(slot));
            }
            if taken {
                x.saw(Seen::TAKEN);
            }
            taken
        }
        Test::Mine(slot) => {
            let link = x.cpu().link;
            // update() is called for the entry of the old one.
            let kdata = match role(x) {
                Role::Update => x.cpu().old_kdata,
                _ => x.cpu().kdata,
            };
            let mine = |r: &Reg<X::P>| r.slot == slot && Some(r.kdata) == kdata && r.link == link;
            x.find_registration(mine).is_some()
        }
        Test::Flag(flag) => x.own().flags & (1 << flag) != 0,
        Test::Object(object) => x.own().objects[usize::from(object)] > 0,
        Test::Failed => x.cpu().seen.contains(Seen::PROG_ERROR),
    })
}

/// The member is called; the function goes on at its next line.
fn call<'w, X: Backend<'w>>(x: &mut X, member: u8) -> Step {
    let kdata = kdata(x)?;
    let world = x.world();
    let decl = x.kdata_decl(kdata)?;
    let ty = &world.types[world.maps[usize::from(decl)].ty];
    let name = &world.script.members[usize::from(member)];
    x.cpu().line += 1;
    let Some(place) = ty.members.iter().position(|m| m.name == *name) else {
        event!(x, "{} has no such member", ty.name);
        return x.goto(Pc::Script);
    };
    x.cpu().member = place as u8;
    let expect = match x.cpu().op {
        OpKind::Run => x.cpu().expect,
        _ => x.registered_cookie(kdata)?,
    };
    call::through_kdata(x, expect, Pc::Script)
}

/// The function is the hook of a tracing program, which runs; the function goes on at its next line.
fn fentry<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    x.cpu().line += 1;
    x.cpu().call_ret = Pc::Script;
    assoc::run(x, prog)
}

/// The function returns.
fn ret<'w, X: Backend<'w>>(x: &mut X, err: i8) -> Step {
    let (cpu, own) = (x.task(), x.own());
    let before = entered_before(x);
    let nested = x.cpu().readers.rcu > 0 || x.cpu().readers.trace > before;
    let held = own.locks.contains(&Some(cpu)) || own.shared.iter().any(|s| s & (1 << cpu) != 0);
    let reads = own.readers.iter().any(|r| r & (1 << cpu) != 0);
    let what = format_args!("it returns with a lock held, or inside a read side");
    if nested {
        // An idle CPU has no nesting that could be left: what came after would have no meaning.
        return Err(x.broken(Invariant::NoDeadlock, what));
    }
    if held || reads {
        x.violate(Invariant::NoDeadlock, what);
    }
    let role = role(x);
    let cpu = x.cpu();
    cpu.line = 0;
    cpu.call_ret = Pc::Idle;
    match role {
        Role::Run => {
            cpu.kdata = None;
            cpu.link = None;
            cpu.expect = 0;
            cpu.arg = 0;
            if err != 0 {
                return x.fail(err, Pc::Finish);
            }
            cpu.err = 0;
            x.goto(Pc::Finish)
        }
        // It returns nothing: what the operation is to return stays.
        Role::Unreg => back(x),
        Role::Reg | Role::Update => leave(x, err),
    }
}
