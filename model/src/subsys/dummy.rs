//! bpf_dummy_ops: its init_member() refuses every value, so that no map is ever ready and nothing calls its reg();
//! BPF_PROG_TEST_RUN builds a trampoline and runs it.
//!
//! Stands for net/bpf/bpf_dummy_struct_ops.c.

use crate::backend::{Backend, Counted, Step, event};
use crate::errno;
use crate::kernel::{Code, Seen};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::proc::refs::prog_put;
use crate::subsys::{Called, Facts, leave};

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "bpf_dummy_ops",
    about: "cannot be registered; test_run only",
    members: &["test_1", "test_2", "test_sleepable"],
    only_these: false,
    init_member: errno::EOPNOTSUPP,
    reg: Pc::DummyReg,
    unreg: Pc::AlwaysUnreg,
    update: None,
    called: Called::ByTestRun,
    entries: 0,
    refusals: &[(errno::EOPNOTSUPP, Seen::empty())],
    tasks_rcu: false,
    since: Linux::V6_12,
    known_bugs: &[],
};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::DummyReg => leave(x, errno::EOPNOTSUPP),
        Pc::TestRun => {
            if !x.alloc() || !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::Finish);
            }
            let prog = x.cpu().arg;
            x.get(Counted::Prog(prog))?;
            let code = Code {
                prog: prog + 1,
                cookie: 0,
            };
            let (page, func) = x.new_test_page(code)?;
            x.cpu().image = Some(page);
            let member = x.world().progs[usize::from(prog)].of.member();
            x.cpu().member = member.unwrap_or_default() as u8;
            event!(x, "a page of its own; calls the program");
            call::through_pointer(x, func, 0, Pc::TestRunDone)
        }
        Pc::TestRunDone => {
            let page = x.cpu().image.take().expect("TestRun allocated it");
            x.free_test_page(page)?;
            x.cpu().func = Default::default();
            let prog = x.cpu().arg;
            prog_put(x, prog)?;
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of bpf_dummy_ops"),
    }
}
