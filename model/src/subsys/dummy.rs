//! bpf_dummy_ops: cannot be registered; BPF_PROG_TEST_RUN builds a trampoline and runs it.
//!
//! Stands for net/bpf/bpf_dummy_struct_ops.c.

use crate::exec::{Exec, Step, errno, event};
use crate::kernel::{Code, Func, Image};
use crate::pc::Pc;
use crate::subsys::leave;
use crate::world::MAX_MEMBERS;

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::DummyReg => leave(x, errno::EOPNOTSUPP),
        Pc::TestRun => {
            if !x.alloc() || !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::Finish);
            }
            let prog = x.c().arg;
            x.counted = true;
            x.k.progs[usize::from(prog)].refs += 1;
            let mut code = [Code::default(); MAX_MEMBERS];
            code[0] = Code {
                prog: prog + 1,
                cookie: 0,
            };
            let member = x.world.progs[usize::from(prog)].member as u8;
            match x.k.images.insert(Image {
                protected: true,
                fill: 0,
                code,
            }) {
                Ok(image) => {
                    let cpu = x.c();
                    cpu.image = Some(image);
                    cpu.func = Func {
                        image: Some(image),
                        index: 0,
                    };
                    cpu.member = member;
                    cpu.call_ret = Pc::TestRunDone;
                    cpu.readers.tasks = true;
                }
                Err(full) => return Err(x.full(full)),
            }
            event!(x, "a page of its own; calls the program");
            x.goto(Pc::CallEnter)
        }
        Pc::TestRunDone => {
            let image = x.c().image.take().expect("TestRun allocated it");
            x.image(image)?;
            x.k.images.remove(image);
            x.c().func = Func::default();
            let prog = x.c().arg;
            x.prog_put(prog)?;
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of bpf_dummy_ops"),
    }
}
