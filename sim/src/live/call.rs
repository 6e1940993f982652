//! A member is called: function pointer, trampoline, program, and back.
//!
//! Stands for the callers of `ops->member()` and for the code between them and the program. The page is looked up
//! before the jump: a call into a freed page is reported with the page's history, and not made. What happens inside
//! the trampoline is in `enter`.

use struct_ops_model::{Invariant, Pc, errno};

use super::object::Kdata;
use super::page;
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Call, Step, Task};
use super::text::Found;

/// `kdata->member()`, loaded now. The caller has announced itself as a reader of Tasks RCU.
/// Gives the program's result, or `None` for a NULL pointer.
pub(crate) fn through_kdata(
    t: &Task,
    kdata: usize,
    member: usize,
    call: Call,
) -> Step<Option<u64>> {
    t.begin(Pc::CallRead)?;
    let kdata = t.kdata(kdata)?;
    let address = load(&kdata, member);
    if address == 0 {
        t.reader.tasks_quiescent();
        t.end_with(errno::ENOENT);
        return Ok(None);
    }
    t.end();
    through_pointer(t, address, call).map(Some)
}

/// The function pointer of a member.
pub(crate) fn load(kdata: &Kdata, member: usize) -> usize {
    kdata.func.get(member).map_or(0, |f| f.load(SeqCst))
}

/// Calls a function pointer.
pub(crate) fn through_pointer(t: &Task, address: usize, call: Call) -> Step<u64> {
    t.begin(Pc::CallEnter)?;
    t.call.set(Call { address, ..call });
    // From the look into the table to the program's own read-side section: enter takes over.
    t.reader.rcu_read_lock();
    let (prog, cookie) = look(t, address).inspect_err(|_| t.reader.rcu_read_unlock())?;
    let result = page::call(t.rt.machine, address, &t.rt.progs[prog], cookie);
    back(t, address)?;
    Ok(result)
}

/// The page that is about to be entered, as it is now.
fn look(t: &Task, address: usize) -> Step<(usize, u64)> {
    let mut text = t.rt.text.lock();
    match text.enter(address) {
        Found::Code { code, named } => {
            let gone = t.rt.progs[code.prog].freed.load(SeqCst);
            if gone {
                text.leave(address);
            }
            drop(text);
            if !named && !t.call.get().test_run {
                t.note(|e| e.unnamed = true);
                let text = "kallsyms does not know the trampoline".to_string();
                t.finding(Invariant::KsymsMatchImages, text, history(t));
            }
            if gone {
                return Err(prog_gone(t));
            }
            Ok((code.prog, code.cookie))
        }
        Found::NotExecutable => {
            drop(text);
            let text = "the page is not executable: the call faults";
            Err(t.fault(Invariant::NoTornPublish, text, history(t)))
        }
        Found::Gone { history } => {
            drop(text);
            Err(image_gone(t, history))
        }
    }
}

/// The last instructions of the trampoline, then the return to the caller.
fn back(t: &Task, address: usize) -> Step {
    let begun = if t.stopped.get() {
        Err(super::task::Stop)
    } else {
        t.begin(Pc::CallRet)
    };
    let there = begun.and_then(|()| code_is_there(t));
    t.rt.text.lock().leave(address);
    t.call.set(Call::default());
    there?;
    t.reader.tasks_quiescent();
    t.end();
    Ok(())
}

/// The instructions under the instruction pointer.
pub(crate) fn code_is_there(t: &Task) -> Step {
    let there = t.rt.text.lock().still_there(t.call.get().address);
    there.map_err(|history| image_gone(t, history))
}

/// The instructions of the program.
pub(crate) fn prog_is_there(t: &Task) -> Step {
    let prog = t.rt.text.lock().prog_at(t.call.get().address);
    match prog {
        Some(prog) if t.rt.progs[prog].freed.load(SeqCst) => Err(prog_gone(t)),
        _ => Ok(()),
    }
}

/// What happened to the page of the call in progress.
pub(crate) fn history(t: &Task) -> Vec<String> {
    t.rt.text.lock().history(t.call.get().address)
}

fn image_gone(t: &Task, history: Vec<String>) -> super::task::Stop {
    let text = "USE AFTER FREE: the image page is gone";
    t.fault(Invariant::NoUseAfterFree, text, history)
}

fn prog_gone(t: &Task) -> super::task::Stop {
    let text = "USE AFTER FREE: the program is gone";
    t.fault(Invariant::NoUseAfterFree, text, Vec::new())
}
