//! io_uring_bpf_ops: a ring whose task waits in a loop that a program steps.
//!
//! Stands for io_uring/bpf-ops.c and io_uring/loop.c of Linux 7.3, and for as much of a ring's life as they need. The
//! struct has the number of a ring, which reg() looks up among the descriptors of whoever attaches: here the `key` of a
//! map. `ctx->bpf_ops` and `ops->priv` are set and cleared together, under both locks, and are one registration, in the
//! slot of the ring. A ring goes in a work item, io_ring_exit_work(), once nobody uses its file any more: here the close
//! that was the last one ends with it. A call is one step of the loop, for which `uring_lock` is held; between two of
//! them a loop that waits lets go of it, and looks at `ctx->loop_step` anew. Not here: the flags that a ring must have
//! been set up with (-EOPNOTSUPP), descriptors that are none of a ring, and that only the task may wait that has set the
//! ring up.

use crate::backend::{Backend, FuncOf, Step, event};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Reg, Ring, Seen};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::report::Violation;
use crate::subsys::{Called, Facts, back, leave, registered, unregistered};
use crate::world::MAX_RINGS;

/// `loop_step`, the only member.
const LOOP_STEP: usize = 0;

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "io_uring_bpf_ops",
    about: "the loop of a ring: reg() looks the ring up, the ring's exit or unreg() ejects",
    members: &["loop_step"],
    only_these: true,
    init_member: 0,
    reg: Pc::IoReg,
    unreg: Pc::IoUnreg,
    update: None,
    called: Called::From(&[Pc::RingEnter]),
    entries: MAX_RINGS,
    refusals: &[
        (errno::EBADF, Seen::NO_RING),
        (errno::EBUSY, Seen::TAKEN),
        (errno::EINVAL, Seen::NO_MEMBER),
    ],
    tasks_rcu: false,
    since: Linux::V7_3,
    known_bugs: &[(
        Linux::V7_4,
        Violation {
            invariant: Invariant::NoForeignUnreg,
            step: Pc::IoEject,
        },
        "bpf_io_unreg() takes away what another link of the map has put there",
    )],
};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let ctrl_mutex = Lock::The(LockClass::IoBpfCtrl);
    match x.pc() {
        Pc::IoReg => {
            let kdata = x.cpu().kdata.expect("reg() gets a kdata");
            let decl = x.kdata_decl(kdata)?;
            let ring_fd = x.world().maps[usize::from(decl)].key;
            let Some(ring) = find(x, ring_fd) else {
                return leave(x, errno::EBADF);
            };
            x.cpu().ring = ring + 1;
            event!(x, "the file of ring {ring} is held");
            x.goto(Pc::IoRegLock)
        }
        Pc::IoRegLock => {
            x.lock(ctrl_mutex)?;
            x.goto(Pc::IoInstall)
        }
        Pc::IoInstall => {
            let ring = mine(x);
            x.lock(Lock::Ring(ring))?;
            let err = install(x, ring)?;
            x.unlock(Lock::Ring(ring))?;
            x.unlock(ctrl_mutex)?;
            x.cpu().ring = 0;
            leave(x, err)
        }
        Pc::IoUnreg => {
            x.lock(ctrl_mutex)?;
            let kdata = x.cpu().kdata.expect("unreg() gets a kdata");
            x.kdata_decl(kdata)?;
            let Some(place) = x.find_registration(|r| r.kdata == kdata) else {
                event!(x, "ops->priv is NULL: nothing to do");
                x.unlock(ctrl_mutex)?;
                return back(x);
            };
            let ring = x.registration(place).expect("just found").slot;
            x.cpu().ring = ring + 1;
            event!(x, "ops->priv is ring {ring}");
            x.goto(Pc::IoEject)
        }
        Pc::IoEject => {
            let ring = mine(x);
            x.lock(Lock::Ring(ring))?;
            let link = x.cpu().link;
            if bpf_ops(x, ring).is_some_and(|reg| reg.link != link) {
                let what = format_args!("ANOTHER registration is being removed");
                x.violate(Invariant::NoForeignUnreg, what);
            }
            eject(x, ring)?;
            x.unlock(Lock::Ring(ring))?;
            x.unlock(ctrl_mutex)?;
            x.cpu().ring = 0;
            back(x)
        }
        Pc::RingSetup => {
            let key = x.cpu().arg;
            if find(x, key).is_some() {
                event!(x, "the process has a ring of this number");
                return x.fail(errno::EBUSY, Pc::Finish);
            }
            let free = (0..MAX_RINGS as u8).find(|ring| !x.ring(*ring).there);
            let Some(ring) = free else {
                return Err(x.table_full());
            };
            let fds = 1 << x.proc();
            x.set_ring(
                ring,
                Ring {
                    there: true,
                    fds,
                    key,
                    ..Ring::default()
                },
            );
            event!(x, "ring {ring}");
            x.goto(Pc::Finish)
        }
        Pc::RingClose => {
            let place = x.cpu().arg;
            let mut ring = x.ring(place);
            ring.fds &= !(1 << x.proc());
            x.set_ring(place, ring);
            if ring.fds != 0 {
                event!(x, "another process has the ring open");
                return x.goto(Pc::Finish);
            }
            x.cpu().ring = place + 1;
            x.goto(Pc::RingExit)
        }
        Pc::RingExit => {
            let ring = mine(x);
            x.lock(Lock::Ring(ring))?;
            let installed = bpf_ops(x, ring).is_some();
            x.unlock(Lock::Ring(ring))?;
            if installed {
                return x.goto(Pc::RingExitLock);
            }
            free(x, ring)
        }
        Pc::RingExitLock => {
            x.lock(ctrl_mutex)?;
            x.goto(Pc::RingEject)
        }
        Pc::RingEject => {
            let ring = mine(x);
            x.lock(Lock::Ring(ring))?;
            eject(x, ring)?;
            x.unlock(Lock::Ring(ring))?;
            x.unlock(ctrl_mutex)?;
            free(x, ring)
        }
        Pc::RingEnter => {
            let place = x.cpu().arg;
            let ring = x.ring(place);
            if ring.fds & 1 << x.proc() == 0 {
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            x.lock(Lock::Ring(place))?;
            let Some(reg) = bpf_ops(x, place) else {
                x.unlock(Lock::Ring(place))?;
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            x.cpu().ring = place + 1;
            event!(x, "ring {place} calls loop_step");
            call::through_pointer(x, ring.loop_step, reg.expect, Pc::RingEnterDone)
        }
        Pc::RingEnterDone => {
            let ring = mine(x);
            x.unlock(Lock::Ring(ring))?;
            x.cpu().ring = 0;
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of io_uring"),
    }
}

/// The ring that this task is about.
fn mine<'w, X: Backend<'w>>(x: &mut X) -> u8 {
    let ring = x.cpu().ring.checked_sub(1);
    ring.expect("the procedure is about a ring")
}

/// `io_uring_ctx_get_file()`: the ring that the process has under this number.
fn find<'w, X: Backend<'w>>(x: &mut X, ring_fd: u8) -> Option<u8> {
    let bit = 1 << x.proc();
    (0..MAX_RINGS as u8).find(|place| {
        let ring = x.ring(*place);
        ring.fds & bit != 0 && ring.key == ring_fd
    })
}

/// `ctx->bpf_ops`, whose `priv` is the ring.
fn bpf_ops<'w, X: Backend<'w>>(x: &mut X, ring: u8) -> Option<Reg<X::P>> {
    let place = x.find_registration(|r| r.slot == ring)?;
    x.registration(place)
}

/// `io_install_bpf()`: the result is 0 or an errno.
fn install<'w, X: Backend<'w>>(x: &mut X, place: u8) -> Step<i8> {
    let kdata = x.cpu().kdata.expect("reg() gets a kdata");
    let taken = x.find_registration(|r| r.slot == place || r.kdata == kdata);
    if taken.is_some() {
        return Ok(errno::EBUSY);
    }
    let loop_step = x.func(kdata, LOOP_STEP)?;
    if loop_step == FuncOf::<X>::default() {
        event!(x, "WARN_ON_ONCE(!ops->loop_step)");
        return Ok(errno::EINVAL);
    }
    registered(x, kdata)?;
    let reg = Reg {
        kdata,
        expect: x.registered_cookie(kdata)?,
        link: x.cpu().link,
        slot: place,
    };
    x.push_registration(reg)?;
    let ring = x.ring(place);
    x.set_ring(place, Ring { loop_step, ..ring });
    event!(x, "installed in ring {place}");
    Ok(0)
}

/// `io_eject_bpf()`, if something is installed.
fn eject<'w, X: Backend<'w>>(x: &mut X, ring: u8) -> Step {
    let Some(place) = x.find_registration(|r| r.slot == ring) else {
        return Ok(());
    };
    let kdata = x.registration(place).expect("just found").kdata;
    // ops->priv = NULL
    x.kdata_decl(kdata)?;
    x.remove_registration(place);
    unregistered(x, kdata)?;
    let loop_step = FuncOf::<X>::default();
    let there = x.ring(ring);
    x.set_ring(ring, Ring { loop_step, ..there });
    event!(x, "ejected from ring {ring}");
    Ok(())
}

/// `io_ring_ctx_free()`.
fn free<'w, X: Backend<'w>>(x: &mut X, ring: u8) -> Step {
    x.set_ring(ring, Ring::default());
    x.cpu().ring = 0;
    event!(x, "ring {ring} is gone");
    x.goto(Pc::Finish)
}
