//! bpf_dummy_ops: cannot be registered; BPF_PROG_TEST_RUN builds a trampoline and runs it.
//!
//! Stands for net/bpf/bpf_dummy_struct_ops.c.

use struct_ops_model::world::OpKind;
use struct_ops_model::{Pc, errno};

use crate::live::call;
use crate::live::event::Ask;
use crate::live::page::{Link, Page};
use crate::live::refs::{prog_inc, prog_put};
use crate::live::sync::atomic::Ordering::SeqCst;
use crate::live::syscall::finish;
use crate::live::task::{Call, Step, Task};
use crate::live::text::{Code, PAGE_SIZE};

pub(crate) fn bpf_dummy_reg(t: &Task) -> Step<i8> {
    t.begin(Pc::DummyReg)?;
    Ok(t.end_with(errno::EOPNOTSUPP))
}

/// A page of its own for one program.
pub(crate) fn bpf_struct_ops_test_run(t: &Task, prog: u8) -> Step<i8> {
    let id = usize::from(prog);
    let program = &t.rt.progs[id];
    t.begin(Pc::TestRun)?;
    if program.fds.load(SeqCst) & t.bit() == 0 {
        t.ask(Ask::default());
        return Ok(t.end_with(errno::EBADF));
    }
    t.ask(Ask {
        kind: OpKind::TestRun,
        arg: prog,
        ..Ask::default()
    });
    prog_inc(t, id);
    let link = Link {
        prog: program,
        cookie: 0,
    };
    let mut page = Page::alloc(t.rt.machine).map_err(|e| t.unavailable(e))?;
    page.write(0, PAGE_SIZE, &link)
        .and_then(|()| page.protect())
        .map_err(|e| t.unavailable(e))?;
    let at = page.addr();
    {
        let mut text = t.rt.text.lock();
        text.insert(at, t.by());
        let code = Code {
            at,
            prog: id,
            cookie: 0,
        };
        text.push(at, code, PAGE_SIZE);
        text.protect(at);
        text.keep(at, page);
    }
    t.reader.tasks_enter();
    t.end();
    let call = Call {
        test_run: true,
        ..Call::default()
    };
    call::through_pointer(t, at, call)?;
    t.begin(Pc::TestRunDone)?;
    t.rt.text.lock().free_image(at, &t.by());
    prog_put(t, id)?;
    t.end();
    finish(t)
}
