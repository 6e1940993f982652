//! HID-BPF: the report descriptor fixup of one device.
//!
//! Stands for drivers/hid/bpf/hid_bpf_struct_ops.c and `call_hid_bpf_rdesc_fixup()` of hid_bpf_dispatch.c. One
//! device, and of its struct's members `hid_rdesc_fixup` alone: the others are called under the device's SRCU, which
//! reg() and unreg() wait for. The two loads of `rdesc_ops` in a probe, and the load of the member, are taken as one.

use crate::exec::{Exec, Step, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{CpuId, Kernel, Reg, seen};
use crate::pc::Pc;
use crate::subsys::{back, leave, registered, unregistered};

/// `hid_rdesc_fixup`, the only member.
const FIXUP: usize = 0;

/// `hdev->bpf.prog_list_lock`: who is inside.
pub(crate) fn prog_list_lock(k: &Kernel) -> Option<CpuId> {
    (0..)
        .zip(&k.cpus)
        .find(|(_, c)| c.pc == Pc::HidRegData)
        .map(|(cpu, _)| cpu)
}

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::HidReg => {
            if x.k.subsys.regs[0].kdata.is_some() {
                x.saw(seen::TAKEN);
                return leave(x, errno::EINVAL);
            }
            let kdata = x.c().kdata.expect("reg() gets a kdata");
            if x.kdata(kdata)?.func[FIXUP].image.is_none() {
                return x.goto(Pc::HidRegData);
            }
            registered(x, kdata)?;
            x.k.subsys.regs[0] = Reg {
                kdata: Some(kdata),
                expect: x.kdata(kdata)?.expect,
                link: x.c().link,
            };
            event!(x, "rdesc_ops is set");
            x.goto(Pc::HidRegData)
        }
        Pc::HidRegData => {
            if x.alloc() {
                return x.goto(Pc::HidReconnect);
            }
            forget(x)?;
            leave(x, errno::ENOMEM)
        }
        Pc::HidUnreg => {
            forget(x)?;
            x.goto(Pc::HidReconnect)
        }
        Pc::HidReconnect => {
            if x.k.subsys.regs[0].kdata.is_none() {
                return back(x);
            }
            probe(x, Pc::HidReconnectDone)
        }
        Pc::HidReconnectDone => {
            x.k.subsys.call_lock = None;
            back(x)
        }
        Pc::HidProbe => {
            if x.k.subsys.regs[0].kdata.is_none() {
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            probe(x, Pc::HidProbeDone)
        }
        Pc::HidProbeDone => {
            x.k.subsys.call_lock = None;
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of hid_bpf"),
    }
}

/// `hdev->bpf.rdesc_ops = NULL` if it is the CPU's kdata.
fn forget(x: &mut Exec<'_>) -> Step {
    let kdata = x.c().kdata.expect("unreg() gets a kdata");
    if x.k.subsys.regs[0].kdata == Some(kdata) {
        x.k.subsys.regs[0] = Reg::default();
        unregistered(x, kdata)?;
        event!(x, "rdesc_ops is NULL again");
    }
    Ok(())
}

/// `device_lock()`, and the call of `rdesc_ops->hid_rdesc_fixup()`.
fn probe(x: &mut Exec<'_>, done: Pc) -> Step {
    let reg = x.k.subsys.regs[0];
    let kdata = *x.kdata(reg.kdata.expect("the caller has looked"))?;
    if kdata.func[FIXUP].image.is_none() {
        let what = format_args!("rdesc_ops->hid_rdesc_fixup is NULL, and called");
        return Err(x.broken(Invariant::NoTornPublish, what));
    }
    x.k.subsys.call_lock = Some(x.cpu);
    let cpu = x.c();
    cpu.func = kdata.func[FIXUP];
    cpu.expect = reg.expect;
    cpu.call_ret = done;
    cpu.readers.tasks = true;
    event!(x, "a probe has found rdesc_ops");
    x.goto(Pc::CallEnter)
}
