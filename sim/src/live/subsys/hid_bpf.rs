//! HID-BPF: the report descriptor fixup of one device.
//!
//! Stands for drivers/hid/bpf/hid_bpf_struct_ops.c and `call_hid_bpf_rdesc_fixup()`; as in the model, the device's
//! struct has that member alone.

use struct_ops_model::world::OpKind;
use struct_ops_model::{Invariant, Pc, errno};

use crate::live::call;
use crate::live::event::Ask;
use crate::live::object::Link;
use crate::live::runtime::Reg;
use crate::live::subsys::registered;
use crate::live::syscall::finish;
use crate::live::task::{Call, Step, Task};

/// `hid_rdesc_fixup`, the only member.
const FIXUP: usize = 0;

pub(crate) fn hid_bpf_reg(t: &Task, kdata: usize, link: Option<&Link>) -> Step<i8> {
    let prog_list_lock = t.rt.prog_list_lock.lock();
    t.begin(Pc::HidReg)?;
    {
        let mut regs = t.rt.regs.lock();
        if !regs.is_empty() {
            return Ok(t.end_with(errno::EINVAL));
        }
        let data = t.kdata(kdata)?;
        if call::load(&data, FIXUP) != 0 {
            regs.push(Reg {
                kdata,
                expect: registered(t, &data, link),
                link: link.map(|l| l.id),
            });
        }
        t.end();
    }
    t.begin(Pc::HidRegData)?;
    if !t.alloc() {
        forget(t, kdata);
        return Ok(t.end_with(errno::ENOMEM));
    }
    t.end();
    drop(prog_list_lock);
    hid_bpf_reconnect(t)?;
    Ok(0)
}

pub(crate) fn hid_bpf_unreg(t: &Task, kdata: usize) -> Step {
    let prog_list_lock = t.rt.prog_list_lock.lock();
    t.begin(Pc::HidUnreg)?;
    forget(t, kdata);
    t.end();
    drop(prog_list_lock);
    hid_bpf_reconnect(t)
}

/// `hdev->bpf.rdesc_ops = NULL` if it is this one.
fn forget(t: &Task, kdata: usize) {
    t.rt.regs.lock().retain(|r| r.kdata != kdata);
}

fn hid_bpf_reconnect(t: &Task) -> Step {
    let _device_lock = t.rt.device_lock.lock();
    t.begin(Pc::HidReconnect)?;
    if let Some((address, call)) = rdesc_ops(t)? {
        t.end();
        call::through_pointer(t, address, call)?;
        t.begin(Pc::HidReconnectDone)?;
    }
    t.end();
    Ok(())
}

/// The device is probed again; the two arguments are the request's, and say nothing: there is one fixup.
pub(crate) fn hid_device_probe(t: &Task, entry: u8, member: u8) -> Step<i8> {
    let device_lock = t.rt.device_lock.lock();
    t.begin(Pc::HidProbe)?;
    t.ask(Ask {
        kind: OpKind::Call,
        arg: entry,
        member,
        ..Ask::default()
    });
    let Some((address, call)) = rdesc_ops(t)? else {
        t.end_with(errno::ENOENT);
        drop(device_lock);
        return finish(t);
    };
    t.end();
    call::through_pointer(t, address, call)?;
    t.begin(Pc::HidProbeDone)?;
    t.end();
    drop(device_lock);
    finish(t)
}

/// `rdesc_ops->hid_rdesc_fixup`, loaded now; the caller is a reader of Tasks RCU from here on.
fn rdesc_ops(t: &Task) -> Step<Option<(usize, Call)>> {
    let reg = t.rt.regs.lock().first().copied();
    let Some(reg) = reg else {
        return Ok(None);
    };
    let address = call::load(&*t.kdata(reg.kdata)?, FIXUP);
    if address == 0 {
        let text = "rdesc_ops->hid_rdesc_fixup is NULL, and called";
        return Err(t.fault(Invariant::NoTornPublish, text, Vec::new()));
    }
    t.reader.tasks_enter();
    let call = Call {
        expect: reg.expect,
        ..Call::default()
    };
    Ok(Some((address, call)))
}
