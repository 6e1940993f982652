//! HID-BPF: the report descriptor fixup of one device.
//!
//! Stands for drivers/hid/bpf/hid_bpf_struct_ops.c and `call_hid_bpf_rdesc_fixup()` of hid_bpf_dispatch.c. One
//! device, and of its struct's members `hid_rdesc_fixup` alone: the others are called under the device's SRCU, which
//! reg() and unreg() wait for. The two loads of `rdesc_ops` in a probe, and the load of the member, are taken as one.

use crate::backend::{Backend, FuncOf, Step, event};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Reg, Seen};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::subsys::{Called, Facts, back, leave, registered, unregistered};

/// `hid_rdesc_fixup`, the only member.
const FIXUP: usize = 0;

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "hid_bpf_ops",
    about: "one report descriptor fixup per device; reg() publishes, then allocates",
    members: &["hid_rdesc_fixup"],
    only_these: true,
    init_member: 0,
    reg: Pc::HidReg,
    unreg: Pc::HidUnreg,
    update: None,
    called: Called::From(Pc::HidProbe),
    entries: 1,
    refusals: &[(errno::EINVAL, Seen::TAKEN)],
    tasks_rcu: false,
    since: Linux::V6_12,
    known_bugs: &[],
};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let prog_list_lock = Lock::The(LockClass::ProgList);
    let device_lock = Lock::The(LockClass::Device);
    match x.pc() {
        Pc::HidReg => {
            x.lock(prog_list_lock)?;
            if x.registration(0).is_some() {
                x.unlock(prog_list_lock)?;
                return leave(x, errno::EINVAL);
            }
            let kdata = x.cpu().kdata.expect("reg() gets a kdata");
            if x.func(kdata, FIXUP)? != FuncOf::<X>::default() {
                registered(x, kdata)?;
                let reg = Reg {
                    kdata,
                    expect: x.registered_cookie(kdata)?,
                    link: x.cpu().link,
                    slot: 0,
                };
                x.push_registration(reg)?;
                event!(x, "rdesc_ops is set");
            }
            x.goto(Pc::HidRegData)
        }
        Pc::HidRegData => {
            let allocated = x.alloc();
            if !allocated {
                forget(x)?;
            }
            x.unlock(prog_list_lock)?;
            if allocated {
                x.goto(Pc::HidReconnect)
            } else {
                leave(x, errno::ENOMEM)
            }
        }
        Pc::HidUnreg => {
            x.lock(prog_list_lock)?;
            forget(x)?;
            x.unlock(prog_list_lock)?;
            x.goto(Pc::HidReconnect)
        }
        Pc::HidReconnect => {
            x.lock(device_lock)?;
            if x.registration(0).is_none() {
                x.unlock(device_lock)?;
                return back(x);
            }
            probe(x, Pc::HidReconnectDone)
        }
        Pc::HidReconnectDone => {
            x.unlock(device_lock)?;
            back(x)
        }
        Pc::HidProbe => {
            x.lock(device_lock)?;
            if x.registration(0).is_none() {
                x.unlock(device_lock)?;
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            probe(x, Pc::HidProbeDone)
        }
        Pc::HidProbeDone => {
            x.unlock(device_lock)?;
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of hid_bpf"),
    }
}

/// `hdev->bpf.rdesc_ops = NULL` if it is the task's kdata.
fn forget<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let kdata = x.cpu().kdata.expect("unreg() gets a kdata");
    if x.registration(0).is_some_and(|reg| reg.kdata == kdata) {
        x.remove_registration(0);
        unregistered(x, kdata)?;
        event!(x, "rdesc_ops is NULL again");
    }
    Ok(())
}

/// Under `device_lock()`: the call of `rdesc_ops->hid_rdesc_fixup()`.
fn probe<'w, X: Backend<'w>>(x: &mut X, done: Pc) -> Step {
    let reg = x.registration(0).expect("the caller has looked");
    let func = x.func(reg.kdata, FIXUP)?;
    if func == FuncOf::<X>::default() {
        return Err(x.broken(
            Invariant::NoTornPublish,
            format_args!("rdesc_ops->hid_rdesc_fixup is NULL, and called"),
        ));
    }
    event!(x, "a probe has found rdesc_ops");
    call::through_pointer(x, func, reg.expect, done)
}
