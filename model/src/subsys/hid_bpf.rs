//! HID-BPF: the programs of one device.
//!
//! Stands for drivers/hid/bpf/hid_bpf_struct_ops.c, and for `call_hid_bpf_rdesc_fixup()` and
//! `dispatch_hid_bpf_raw_requests()` of hid_bpf_dispatch.c. A struct has a `hid_device_event` besides its members here,
//! for which reg() allocates where the device has no buffer yet; nobody calls it. A request calls the entry of the list
//! that it asks for, where the kernel walks all of them. Not here: the 64 structs that a device takes at most, the
//! device's end (`destroyed`), the failing allocation of a probe, which then calls nothing, and a reprobe that finds
//! another one in progress.

use crate::backend::{Backend, FuncOf, Gone, KdataOf, Step, event};
use crate::design::Twin;
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Dirty, Reg, Seen, Srcu};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::report::Violation;
use crate::subsys::{Called, Facts, back, leave, registered, unregistered};
use crate::world::{MAX_REGS, OpKind, World};

const FIXUP: &str = "hid_rdesc_fixup";

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "hid_bpf_ops",
    about: "the programs of a device, one report descriptor fixup among them; reg() publishes, then allocates",
    members: &[FIXUP, "hid_hw_request"],
    only_these: true,
    init_member: 0,
    reg: Pc::HidReg,
    unreg: Pc::HidUnreg,
    update: None,
    called: Called::From(&[Pc::HidProbe, Pc::HidRequest]),
    entries: MAX_REGS,
    refusals: &[(errno::EINVAL, Seen::TAKEN)],
    tasks_rcu: false,
    since: Linux::V6_12,
    known_bugs: &[
        (
            Linux::V7_4,
            Violation {
                invariant: Invariant::NoUseAfterFree,
                step: Pc::HidFixup,
            },
            "a probe reads rdesc_ops twice, and unreg() clears it under no lock of a probe",
        ),
        (
            Linux::V7_4,
            Violation {
                invariant: Invariant::RefusalsKept,
                step: Pc::HidRegData,
            },
            "it knows a struct by a field of the struct, which each attachment has for itself",
        ),
    ],
};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let prog_list_lock = Lock::The(LockClass::ProgList);
    let device_lock = Lock::The(LockClass::Device);
    match x.pc() {
        Pc::HidReg => {
            let kdata = mine(x);
            if x.hdev(kdata)? && x.design().twin != Twin::ForgottenStruct {
                return leave(x, errno::EINVAL);
            }
            x.set_hdev(kdata, true)?;
            // An attachment that is refused goes, and what it remembers with it.
            if !x.is_attachment(kdata)? {
                x.touch(Dirty::HDEV);
            }
            event!(x, "ops->hdev is set");
            x.goto(Pc::HidRegLock)
        }
        Pc::HidRegLock => {
            x.lock(prog_list_lock)?;
            let kdata = mine(x);
            if has_fixup(x, kdata)? {
                if x.rdesc_ops().is_some() {
                    x.unlock(prog_list_lock)?;
                    x.cpu().err = errno::EINVAL;
                    return x.goto(Pc::HidRegUndo);
                }
                registered(x, kdata)?;
                let reg = entry(x, kdata)?;
                x.set_rdesc_ops(Some(reg));
                event!(x, "rdesc_ops is set");
            }
            x.goto(Pc::HidRegData)
        }
        Pc::HidRegData => {
            if !x.device_data() {
                if !x.alloc() {
                    x.unlock(prog_list_lock)?;
                    x.cpu().err = errno::ENOMEM;
                    return x.goto(Pc::HidRegUndo);
                }
                x.set_device_data();
            }
            let kdata = mine(x);
            if !is_rdesc_ops(x, kdata) {
                registered(x, kdata)?;
            }
            let reg = entry(x, kdata)?;
            let place = x.push_registration(reg)?;
            event!(x, "entry {place} of prog_list");
            x.srcu_wait_begin(Srcu::HidDevice);
            x.goto(Pc::HidRegSynced)
        }
        Pc::HidRegSynced => {
            x.unlock(prog_list_lock)?;
            let kdata = mine(x);
            if has_fixup(x, kdata)? {
                x.goto(Pc::HidReconnect)
            } else {
                leave(x, 0)
            }
        }
        Pc::HidRegUndo => {
            let kdata = mine(x);
            if is_rdesc_ops(x, kdata) {
                x.set_rdesc_ops(None);
                unregistered(x, kdata)?;
                event!(x, "rdesc_ops is NULL again");
            }
            let err = x.cpu().err;
            leave(x, err)
        }
        Pc::HidUnreg => {
            let kdata = mine(x);
            if !x.hdev(kdata)? {
                event!(x, "ops->hdev is NULL: nothing to do");
                return back(x);
            }
            x.goto(Pc::HidUnregLock)
        }
        Pc::HidUnregLock => {
            x.lock(prog_list_lock)?;
            let kdata = mine(x);
            if !x.hdev(kdata)? {
                x.unlock(prog_list_lock)?;
                return back(x);
            }
            let Some(place) = x.find_registration(|reg| reg.kdata == kdata) else {
                return Err(x.gone(Gone::ListNode));
            };
            let reg = x.registration(place).expect("just found");
            if reg.link != x.cpu().link {
                let what = format_args!("ANOTHER registration is being removed");
                x.violate(Invariant::NoForeignUnreg, what);
            }
            x.remove_registration(place);
            event!(x, "entry {place} of prog_list removed");
            x.srcu_wait_begin(Srcu::HidDevice);
            x.goto(Pc::HidUnregSynced)
        }
        Pc::HidUnregSynced => {
            let kdata = mine(x);
            x.set_hdev(kdata, false)?;
            let reconnect = is_rdesc_ops(x, kdata);
            if reconnect {
                x.set_rdesc_ops(None);
                event!(x, "rdesc_ops is NULL again");
            }
            unregistered(x, kdata)?;
            x.unlock(prog_list_lock)?;
            if reconnect {
                x.goto(Pc::HidReconnect)
            } else {
                back(x)
            }
        }
        Pc::HidReconnect | Pc::HidProbe => {
            x.lock(device_lock)?;
            if x.rdesc_ops().is_none() {
                return probed(x, errno::ENOENT);
            }
            event!(x, "the device has rdesc_ops");
            x.goto(Pc::HidFixup)
        }
        Pc::HidFixup => {
            let Some(reg) = x.rdesc_ops() else {
                let what = format_args!("rdesc_ops has become NULL, and is followed");
                return Err(x.broken(Invariant::NoUseAfterFree, what));
            };
            let fixup = member(x, reg.kdata, FIXUP)?;
            let func = match fixup {
                Some(fixup) => x.func(reg.kdata, fixup)?,
                None => FuncOf::<X>::default(),
            };
            if func == FuncOf::<X>::default() {
                let what = format_args!("rdesc_ops->hid_rdesc_fixup is NULL, and called");
                return Err(x.broken(Invariant::NoTornPublish, what));
            }
            event!(x, "rdesc_ops->hid_rdesc_fixup is loaded");
            call::through_pointer(x, func, reg.expect, Pc::HidProbed)
        }
        Pc::HidProbed => probed(x, 0),
        Pc::HidRequest => {
            x.srcu_read_lock(Srcu::HidDevice);
            let place = usize::from(x.cpu().arg);
            let Some(reg) = x.registration(place) else {
                x.srcu_read_unlock(Srcu::HidDevice);
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            x.cpu().kdata = Some(reg.kdata);
            event!(x, "a request has come to entry {place} of prog_list");
            call::through_kdata(x, reg.expect, Pc::HidRequestDone)
        }
        Pc::HidRequestDone => {
            x.srcu_read_unlock(Srcu::HidDevice);
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of hid_bpf"),
    }
}

/// What reg() and unreg() were given.
fn mine<'w, X: Backend<'w>>(x: &mut X) -> KdataOf<X> {
    x.cpu().kdata.expect("reg() and unreg() get a kdata")
}

/// Where the struct's type has this member, if it has it.
fn member<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>, name: &str) -> Step<Option<usize>> {
    let decl = x.kdata_decl(kdata)?;
    let world = x.world();
    let ty = &world.types[world.maps[usize::from(decl)].ty];
    Ok(ty.members.iter().position(|m| m.name == name))
}

/// Whether maps of this declaration have a program for `hid_rdesc_fixup`.
pub(crate) fn has_program(world: &World, decl: u8) -> bool {
    let decl = &world.maps[usize::from(decl)];
    let members = world.types[decl.ty].members.iter();
    members
        .zip(&decl.progs)
        .any(|(member, prog)| member.name == FIXUP && prog.is_some())
}

/// `ops->hid_rdesc_fixup` is there.
fn has_fixup<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<bool> {
    Ok(match member(x, kdata, FIXUP)? {
        Some(fixup) => x.func(kdata, fixup)? != FuncOf::<X>::default(),
        None => false,
    })
}

/// `hdev->bpf.rdesc_ops == ops`.
fn is_rdesc_ops<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> bool {
    x.rdesc_ops().is_some_and(|reg| reg.kdata == kdata)
}

/// What the device knows of a struct.
fn entry<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<Reg<X::P>> {
    Ok(Reg {
        kdata,
        expect: x.registered_cookie(kdata)?,
        link: x.cpu().link,
        slot: 0,
    })
}

/// The probe is over: of user space's, or of a reg() or unreg().
fn probed<'w, X: Backend<'w>>(x: &mut X, err: i8) -> Step {
    x.unlock(Lock::The(LockClass::Device))?;
    match x.cpu().op {
        OpKind::Call if err != 0 => x.fail(err, Pc::Finish),
        OpKind::Call => x.goto(Pc::Finish),
        _ => back(x),
    }
}
