//! The generator: one trampoline from a function model, links, flags and call targets.
//!
//! Stands for `__arch_prepare_bpf_trampoline()`, `invoke_bpf_prog()`, `save_args()` and `restore_regs()` of
//! `arch/x86/net/bpf_jit_comp.c`, 6.12 to 7.3; functions here have the kernel's names. Which links a trampoline has
//! and where it lies is the caller's business.

use iced_x86::code_asm::{CodeAssembler, CodeLabel};
use iced_x86::{BlockEncoderOptions, Code as Op, IcedError, Instruction, MemoryOperand, Register};

use super::model::Place;
use super::{BPF_INSN_SAFETY, Error, FuncModel};

/// Size of the patchable call or nop at a traced function's entry (`X86_PATCH_SIZE`).
const X86_PATCH_SIZE: usize = 5;
/// Size of endbr64.
const ENDBR_INSN_SIZE: u64 = 4;
/// `sizeof(struct bpf_tramp_run_ctx)`; the cookie comes first in it.
const RUN_CTX_SIZE: i64 = 16;
/// Longest nop of the kernel's table.
const ASM_NOP_MAX: usize = 11;
/// Argument registers of the C ABI.
const ARG_REGS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// Whose code generator: named after the first kernel that has it, of those whose code was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Linux 6.12 to 6.18.
    V6_12,
    /// Linux 6.19 to 7.1: a traced function may jump to its trampoline instead of calling it. For struct_ops the code is
    /// that of 6.12.
    V6_19,
    /// Linux 7.2: a nop before each program, to be patched when it is detached; no patchable nop after the call of the
    /// original function.
    V7_2,
    /// Linux 7.3: stack arguments of indirect calls are read where they are.
    V7_3,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 4] = [Version::V6_12, Version::V6_19, Version::V7_2, Version::V7_3];

    /// The kernel that it is named after.
    pub fn name(self) -> &'static str {
        match self {
            Version::V6_12 => "6.12",
            Version::V6_19 => "6.19",
            Version::V7_2 => "7.2",
            Version::V7_3 => "7.3",
        }
    }

    /// The kernels that it was compared with: first and last.
    pub fn kernels(self) -> (&'static str, &'static str) {
        match self {
            Version::V6_12 => ("6.12", "6.18"),
            Version::V6_19 => ("6.19", "7.1"),
            Version::V7_2 => ("7.2", "7.2"),
            Version::V7_3 => ("7.3", "7.3"),
        }
    }
}

/// How a trampoline returns: decided by mitigations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Return {
    /// `ret`.
    Ret,
    /// `ret; int3`, against straight-line speculation (`CONFIG_MITIGATION_SLS`).
    RetInt3,
    /// `jmp` to the return thunk at this address.
    Thunk(u64),
}

/// What the code depends on besides its inputs: version, config and processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Jit {
    /// Whose code generator.
    pub version: Version,
    /// An indirectly called trampoline begins with endbr64 (`CONFIG_X86_KERNEL_IBT`).
    pub ibt: bool,
    /// How it returns.
    pub ret: Return,
}

impl Jit {
    /// 6.12 without IBT and without mitigations.
    pub const V6_12: Jit = Jit {
        version: Version::V6_12,
        ibt: false,
        ret: Return::Ret,
    };
    /// 7.3 without IBT and without mitigations.
    pub const V7_3: Jit = Jit {
        version: Version::V7_3,
        ibt: false,
        ret: Return::Ret,
    };
}

/// `BPF_TRAMP_F_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Restore the arguments before returning to the traced function: fentry without fexit.
    pub const RESTORE_REGS: Flags = Flags(1 << 0);
    /// Call the original function after fentry and before fexit programs.
    pub const CALL_ORIG: Flags = Flags(1 << 1);
    /// Return to the caller of the traced function, past its own frame.
    pub const SKIP_FRAME: Flags = Flags(1 << 2);
    /// Store the traced function's address for `bpf_get_func_ip()`.
    pub const IP_ARG: Flags = Flags(1 << 3);
    /// Return what the fentry program returned: struct_ops.
    pub const RET_FENTRY_RET: Flags = Flags(1 << 4);
    /// Find the original function on the stack: another user has changed it (live patch).
    pub const ORIG_STACK: Flags = Flags(1 << 5);
    /// Pass the tail call counter on.
    pub const TAIL_CALL_CTX: Flags = Flags(1 << 7);
    /// Called through a function pointer: struct_ops.
    pub const INDIRECT: Flags = Flags(1 << 8);

    /// As `bpf_struct_ops_prepare_trampoline()` sets them.
    pub fn struct_ops(model: &FuncModel) -> Flags {
        if model.ret_size() > 0 {
            Flags::INDIRECT | Flags::RET_FENTRY_RET
        } else {
            Flags::INDIRECT
        }
    }

    /// As `bpf_trampoline_update()` sets them for these links; `jmp` is `CONFIG_DYNAMIC_FTRACE_WITH_JMP` (7.x): the
    /// traced function jumps here instead of calling.
    pub fn tracing(links: &[TrampLink], jmp: bool) -> Flags {
        if links.iter().all(|link| link.kind == Kind::Fentry) {
            Flags::RESTORE_REGS
        } else if jmp {
            Flags::CALL_ORIG
        } else {
            Flags::CALL_ORIG | Flags::SKIP_FRAME
        }
    }

    /// Whether all of `other` are set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// When a program runs (`enum bpf_tramp_prog_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// On entry; struct_ops programs too.
    #[default]
    Fentry,
    /// Before the original function, which does not run if the program returns something else than 0.
    ModifyReturn,
    /// After it.
    Fexit,
}

/// One program of a trampoline: `struct bpf_tramp_link` (7.x: `bpf_tramp_node`) and what is read from its program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrampLink {
    /// The `struct bpf_prog *`, passed to enter and exit.
    pub prog: u64,
    /// `prog->bpf_func`: the program's code.
    pub bpf_func: u64,
    /// What `bpf_get_attach_cookie()` returns in it.
    pub cookie: u64,
    /// When it runs.
    pub kind: Kind,
    /// `prog->sleepable`: other enter and exit functions.
    pub sleepable: bool,
    /// `bpf_prog_check_recur()`: tracing programs, which must not run inside themselves.
    pub recur: bool,
}

/// The kernel's functions that trampolines call: `bpf_trampoline_enter()` and `bpf_trampoline_exit()` choose among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Targets {
    /// `__bpf_prog_enter`.
    pub enter: u64,
    /// `__bpf_prog_exit`.
    pub exit: u64,
    /// `__bpf_prog_enter_sleepable`.
    pub enter_sleepable: u64,
    /// `__bpf_prog_exit_sleepable`.
    pub exit_sleepable: u64,
    /// `__bpf_prog_enter_recur`.
    pub enter_recur: u64,
    /// `__bpf_prog_exit_recur`.
    pub exit_recur: u64,
    /// `__bpf_prog_enter_sleepable_recur`.
    pub enter_sleepable_recur: u64,
    /// `__bpf_prog_exit_sleepable_recur`.
    pub exit_sleepable_recur: u64,
    /// `__bpf_tramp_enter`.
    pub tramp_enter: u64,
    /// `__bpf_tramp_exit`.
    pub tramp_exit: u64,
}

impl Targets {
    /// Address and name.
    fn bpf_trampoline_enter(&self, link: &TrampLink) -> (u64, &'static str) {
        match (link.recur, link.sleepable) {
            (true, true) => (
                self.enter_sleepable_recur,
                "__bpf_prog_enter_sleepable_recur",
            ),
            (true, false) => (self.enter_recur, "__bpf_prog_enter_recur"),
            (false, true) => (self.enter_sleepable, "__bpf_prog_enter_sleepable"),
            (false, false) => (self.enter, "__bpf_prog_enter"),
        }
    }

    fn bpf_trampoline_exit(&self, link: &TrampLink) -> (u64, &'static str) {
        match (link.recur, link.sleepable) {
            (true, true) => (self.exit_sleepable_recur, "__bpf_prog_exit_sleepable_recur"),
            (true, false) => (self.exit_recur, "__bpf_prog_exit_recur"),
            (false, true) => (self.exit_sleepable, "__bpf_prog_exit_sleepable"),
            (false, false) => (self.exit, "__bpf_prog_exit"),
        }
    }
}

/// The traced function; not for struct_ops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Func {
    /// Its entry.
    pub addr: u64,
    /// It begins with endbr64.
    pub endbr: bool,
    /// The `struct bpf_tramp_image *`, passed to `__bpf_tramp_enter` and `__bpf_tramp_exit`.
    pub im: u64,
}

/// All inputs of a trampoline but its address.
#[derive(Clone, Copy, Debug)]
pub struct Trampoline<'a> {
    /// Version and config.
    pub jit: Jit,
    /// The function it stands for.
    pub model: &'a FuncModel,
    /// What it is for.
    pub flags: Flags,
    /// Its programs; those of one kind run in this order. struct_ops: one, [`Kind::Fentry`].
    pub links: &'a [TrampLink],
    /// What it calls.
    pub targets: &'a Targets,
    /// The traced function.
    pub func: Func,
}

/// Machine code for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// Offset and meaning, one per instruction.
    pub(super) notes: Vec<(usize, String)>,
}

impl Code {
    /// The address that it was made for.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// From the first to the last instruction.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it takes in an image: the slack of [`BPF_INSN_SAFETY`] included, as the kernel counts.
    pub fn size(&self) -> usize {
        self.bytes.len() + BPF_INSN_SAFETY
    }
}

impl Trampoline<'_> {
    /// The machine code for an address.
    pub fn generate(&self, at: u64) -> Result<Code, Error> {
        let indirect = Flags::INDIRECT | Flags::RET_FENTRY_RET;
        if self.flags.contains(Flags::INDIRECT) && self.flags.0 & !indirect.0 != 0 {
            return Err(Error::Flags(self.flags));
        }
        // do_fexit is aligned: the padding is known once the code before it is
        let (code, do_fexit) = self.assemble(at, 0)?;
        match do_fexit {
            Some(offset) if offset % 16 != 0 => Ok(self.assemble(at, 16 - offset % 16)?.0),
            _ => Ok(code),
        }
    }

    /// The code, and the offset of do_fexit if there is one.
    fn assemble(&self, at: u64, padding: usize) -> Result<(Code, Option<usize>), Error> {
        let failed = |error: IcedError| Error::OutOfRange {
            at,
            what: error.to_string(),
        };
        let mut emit = Emit::new().map_err(failed)?;
        let aligned = self
            .arch_prepare_bpf_trampoline(&mut emit, padding)
            .map_err(failed)?;

        // branches keep the size that the kernel gives them
        let options = BlockEncoderOptions::DONT_FIX_BRANCHES
            | BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let block = emit
            .asm
            .assemble_options(at, options)
            .map_err(failed)?
            .inner;
        let offset = |index: usize| {
            block
                .new_instruction_offsets
                .get(index)
                .map(|&o| o as usize)
        };
        let do_fexit = aligned.and_then(offset);
        let notes = emit
            .notes
            .into_iter()
            .enumerate()
            .filter_map(|(index, note)| Some((offset(index)?, note)))
            .collect();
        Ok((
            Code {
                at,
                bytes: block.code_buffer,
                notes,
            },
            do_fexit,
        ))
    }

    /// `__arch_prepare_bpf_trampoline()`. Returns the index of the instruction that must be aligned.
    fn arch_prepare_bpf_trampoline(
        &self,
        emit: &mut Emit,
        padding: usize,
    ) -> Result<Option<usize>, IcedError> {
        let flags = self.flags;
        let frame = Frame::new(self);
        let call_orig = flags.contains(Flags::CALL_ORIG);
        let links = |kind| self.links.iter().filter(move |link| link.kind == kind);

        if flags.contains(Flags::INDIRECT) && self.jit.ibt {
            emit.op(
                Instruction::with(Op::Endbr64),
                "may be called through a pointer",
            )?;
        }
        emit.op(Instruction::with1(Op::Push_r64, Register::RBP)?, "frame")?;
        emit.mov_reg(Register::RBP, Register::RSP, "")?;
        let sub = if is_imm8(frame.size) {
            Op::Sub_rm64_imm8
        } else {
            Op::Sub_rm64_imm32
        };
        let text = frame.to_string();
        emit.op(
            Instruction::with2(sub, Register::RSP, frame.size as i32)?,
            &text,
        )?;
        if flags.contains(Flags::TAIL_CALL_CTX) {
            emit.op(
                Instruction::with1(Op::Push_r64, Register::RAX)?,
                "tail_call_cnt_ptr",
            )?;
        }
        emit.stx(
            -frame.rbx,
            Register::RBX,
            "rbx is going to hold the start time",
        )?;

        emit.mov_imm64(
            Register::RAX,
            self.model.nr_regs() as u64,
            "number of argument registers",
        )?;
        emit.stx(-frame.nregs, Register::RAX, "ctx[-1]")?;
        if flags.contains(Flags::IP_ARG) {
            emit.mov_imm64(Register::RAX, self.func.addr, "the traced function")?;
            emit.stx(-frame.ip, Register::RAX, "for bpf_get_func_ip()")?;
        }
        self.save_args(emit, frame.regs, false)?;

        if call_orig {
            emit.mov_imm64(Register::RDI, self.func.im, "struct bpf_tramp_image *")?;
            emit.call(
                self.targets.tramp_enter,
                "__bpf_tramp_enter: the image is in use",
            )?;
        }

        let save_ret = flags.contains(Flags::RET_FENTRY_RET);
        for link in links(Kind::Fentry) {
            self.invoke_bpf_prog(emit, link, &frame, save_ret)?;
        }

        let mut do_fexit = emit.asm.create_label();
        let has_fmod_ret = links(Kind::ModifyReturn).next().is_some();
        if has_fmod_ret {
            emit.mov_imm64(
                Register::RAX,
                0,
                "no garbage for the first fmod_ret program",
            )?;
            emit.stx(-8, Register::RAX, "return value")?;
        }
        for link in links(Kind::ModifyReturn) {
            self.invoke_bpf_prog(emit, link, &frame, true)?;
            let cmp = Instruction::with2(Op::Cmp_rm64_imm8, rbp(-8), 0)?;
            emit.op(cmp, "what the program returned")?;
            emit.jne_near(do_fexit, "not 0: the original function is skipped")?;
        }

        if call_orig {
            self.restore_regs(emit, frame.regs)?;
            self.save_args(emit, frame.arg_stack, true)?;
            if flags.contains(Flags::TAIL_CALL_CTX) {
                emit.load_tail_call_cnt_ptr(frame.size)?;
            }
            if flags.contains(Flags::ORIG_STACK) {
                emit.ldx(Register::RBX, 8, "the original function, from the stack")?;
                emit.op(Instruction::with1(Op::Call_rm64, Register::RBX)?, "")?;
            } else {
                emit.call(
                    self.orig_call(),
                    "the original function, behind its patched entry",
                )?;
            }
            emit.stx(-8, Register::RAX, "return value, for fexit programs")?;
            if self.jit.version < Version::V7_2 {
                emit.nops(
                    X86_PATCH_SIZE,
                    "becomes a jump to the epilogue when the image is put",
                )?;
            }
        }

        let mut aligned = None;
        if has_fmod_ret {
            aligned = Some(emit.notes.len());
            emit.nops(padding, "do_fexit is aligned")?;
            emit.asm.set_label(&mut do_fexit)?;
        }
        for link in links(Kind::Fexit) {
            self.invoke_bpf_prog(emit, link, &frame, false)?;
        }

        if flags.contains(Flags::RESTORE_REGS) {
            self.restore_regs(emit, frame.regs)?;
        }
        if call_orig {
            emit.mov_imm64(Register::RDI, self.func.im, "struct bpf_tramp_image *")?;
            emit.call(
                self.targets.tramp_exit,
                "__bpf_tramp_exit: the image is no longer in use",
            )?;
        } else if flags.contains(Flags::TAIL_CALL_CTX) {
            emit.load_tail_call_cnt_ptr(frame.size)?;
        }
        if flags.intersects(Flags::CALL_ORIG | Flags::RET_FENTRY_RET) {
            emit.ldx(Register::RAX, -8, "return value")?;
        }
        emit.ldx(Register::RBX, -frame.rbx, "")?;
        emit.op(Instruction::with(Op::Leaveq), "")?;
        if flags.contains(Flags::SKIP_FRAME) {
            let add = Instruction::with2(Op::Add_rm64_imm8, Register::RSP, 8)?;
            emit.op(add, "return to the caller of the traced function")?;
        }
        match self.jit.ret {
            Return::Ret => emit.op(Instruction::with(Op::Retnq), "")?,
            Return::RetInt3 => {
                emit.op(Instruction::with(Op::Retnq), "")?;
                emit.op(
                    Instruction::with(Op::Int3),
                    "no speculation past the return",
                )?;
            }
            Return::Thunk(thunk) => {
                let jmp = Instruction::with_branch(Op::Jmp_rel32_64, thunk)?;
                emit.op(jmp, "return thunk")?;
            }
        }
        Ok(aligned)
    }

    /// Behind the call (or nop) at the function's entry.
    fn orig_call(&self) -> u64 {
        let patched = match self.jit.version {
            Version::V6_12 => Flags::SKIP_FRAME,
            Version::V6_19 | Version::V7_2 | Version::V7_3 => Flags::CALL_ORIG,
        };
        if !self.flags.contains(patched) {
            return self.func.addr;
        }
        let endbr = if self.func.endbr { ENDBR_INSN_SIZE } else { 0 };
        self.func.addr.wrapping_add(endbr + X86_PATCH_SIZE as u64)
    }

    /// `bpf_trampoline_use_jmp()`: the traced function jumps here, so that there is one return address less.
    fn use_jmp(&self) -> bool {
        self.jit.version >= Version::V6_19
            && self.flags.contains(Flags::CALL_ORIG)
            && !self.flags.contains(Flags::SKIP_FRAME)
    }

    /// Where stack arguments begin, seen from rbp. Before 7.3 an indirect call counts as two return addresses, although it
    /// pushes one only: a struct_ops member with more than six argument registers reads the wrong slots there.
    fn stack_args_off(&self) -> i64 {
        let one_indirect =
            self.jit.version >= Version::V7_3 && self.flags.contains(Flags::INDIRECT);
        if self.use_jmp() || one_indirect {
            16
        } else {
            24
        }
    }

    /// Arguments to the stack: all of them for programs, or again those on the stack for the original function.
    fn save_args(
        &self,
        emit: &mut Emit,
        start: i64,
        for_call_origin: bool,
    ) -> Result<(), IcedError> {
        let mut offset = start;
        let mut stack_slots = 0;
        let mut first_stack = 0;
        let mut ctx = 0;
        for (index, (arg, place)) in self.model.places().enumerate() {
            for part in 0..arg.regs() {
                let to = if for_call_origin {
                    format!("argument {} again, for the original function", index + 1)
                } else {
                    format!("ctx[{ctx}]: argument {}", index + 1)
                };
                ctx += 1;
                match place {
                    Place::Stack(slot) => {
                        let from = self.stack_args_off() + 8 * (slot + part) as i64;
                        emit.ldx(Register::RAX, from, "from the caller's stack")?;
                        emit.stx(-offset, Register::RAX, &to)?;
                        if stack_slots == 0 {
                            first_stack = offset;
                        }
                        stack_slots += 1;
                        offset -= 8;
                    }
                    Place::Regs(_) if for_call_origin => {}
                    Place::Regs(reg) => {
                        emit.stx(-offset, ARG_REGS[reg + part], &to)?;
                        offset -= 8;
                    }
                }
            }
        }
        // clean_stack_garbage()
        let last = self.model.args().last().map_or(0, |arg| arg.size);
        if stack_slots == 1 && last <= 4 {
            let mov = Instruction::with2(Op::Mov_rm32_imm32, rbp(-(first_stack - 4)), 0)?;
            emit.op(mov, "the caller may have pushed 4 bytes only")?;
        }
        Ok(())
    }

    /// Arguments back from the stack.
    fn restore_regs(&self, emit: &mut Emit, start: i64) -> Result<(), IcedError> {
        let mut offset = start;
        for (index, (arg, place)) in self.model.places().enumerate() {
            for part in 0..arg.regs() {
                if let Place::Regs(reg) = place {
                    let text = format!("argument {}", index + 1);
                    emit.ldx(ARG_REGS[reg + part], -offset, &text)?;
                }
                offset -= 8;
            }
        }
        Ok(())
    }

    /// Enter, the program, exit.
    fn invoke_bpf_prog(
        &self,
        emit: &mut Emit,
        link: &TrampLink,
        frame: &Frame,
        save_ret: bool,
    ) -> Result<(), IcedError> {
        if self.jit.version >= Version::V7_2 {
            emit.nops(
                X86_PATCH_SIZE,
                "becomes a jump past this program when it is detached",
            )?;
        }
        let text = format!("bpf_cookie = {:#x}", link.cookie);
        emit.mov_imm64(Register::RDI, link.cookie, &text)?;
        emit.stx(-frame.run_ctx, Register::RDI, "run_ctx.bpf_cookie")?;

        emit.mov_imm64(Register::RDI, link.prog, "struct bpf_prog *")?;
        emit.lea(Register::RSI, -frame.run_ctx, "&run_ctx")?;
        let (enter, name) = self.targets.bpf_trampoline_enter(link);
        emit.call(enter, name)?;
        emit.mov_reg(Register::RBX, Register::RAX, "start time")?;
        let test = Instruction::with2(Op::Test_rm64_r64, Register::RAX, Register::RAX)?;
        emit.op(test, "0: do not run the program")?;
        let mut skip = emit.asm.create_label();
        emit.je_short(skip, "")?;

        emit.lea(Register::RDI, -frame.regs, "ctx")?;
        emit.call(link.bpf_func, "the program")?;
        if save_ret {
            emit.stx(-8, Register::RAX, "its return value")?;
        }
        emit.asm.set_label(&mut skip)?;

        emit.mov_imm64(Register::RDI, link.prog, "struct bpf_prog *")?;
        emit.mov_reg(Register::RSI, Register::RBX, "start time")?;
        emit.lea(Register::RDX, -frame.run_ctx, "&run_ctx")?;
        let (exit, name) = self.targets.bpf_trampoline_exit(link);
        emit.call(exit, name)
    }
}

/// The stack frame: distances below rbp.
struct Frame {
    /// Arguments: the program's ctx.
    regs: i64,
    /// Number of argument registers.
    nregs: i64,
    /// Address of the traced function.
    ip: i64,
    /// Saved rbx.
    rbx: i64,
    /// `struct bpf_tramp_run_ctx`.
    run_ctx: i64,
    /// Arguments on the stack for the original function.
    arg_stack: i64,
    /// All of it.
    size: i64,
}

impl Frame {
    fn new(trampoline: &Trampoline<'_>) -> Self {
        let flags = trampoline.flags;
        let ret = flags.intersects(Flags::CALL_ORIG | Flags::RET_FENTRY_RET);
        let regs = if ret { 8 } else { 0 } + 8 * trampoline.model.nr_regs() as i64;
        let nregs = regs + 8;
        let ip = nregs + if flags.contains(Flags::IP_ARG) { 8 } else { 0 };
        let rbx = ip + 8;
        let run_ctx = rbx + RUN_CTX_SIZE;
        let mut size = run_ctx;
        let slots = trampoline.model.stack_slots() as i64;
        if slots > 0 && flags.contains(Flags::CALL_ORIG) {
            size += 8 * slots;
            // rsp must be 16-byte aligned at the call; what lies above rbp counts
            if (size % 16 == 0) != trampoline.use_jmp() {
                size += 8;
            }
        }
        Frame {
            regs,
            nregs,
            ip,
            rbx,
            run_ctx,
            arg_stack: size,
            size,
        }
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = |low: i64| format!("rbp-{low:X}h");
        write!(
            f,
            "ctx at {}, run_ctx at {}",
            from(self.regs),
            from(self.run_ctx)
        )
    }
}

/// Instructions and their meanings. The encodings are those of the kernel's `emit_*()`: where x86 has two for the same
/// thing, the opcode is named.
struct Emit {
    asm: CodeAssembler,
    notes: Vec<String>,
}

impl Emit {
    fn new() -> Result<Self, IcedError> {
        Ok(Emit {
            asm: CodeAssembler::new(64)?,
            notes: Vec::new(),
        })
    }

    fn op(&mut self, instruction: Instruction, note: &str) -> Result<(), IcedError> {
        self.notes.push(note.to_owned());
        self.asm.add_instruction(instruction)
    }

    /// `emit_mov_imm64()`: the shortest of four, so that a cookie costs bytes but never an instruction.
    fn mov_imm64(&mut self, to: Register, value: u64, note: &str) -> Result<(), IcedError> {
        let to32 = to.full_register32();
        let mov = if value == 0 {
            Instruction::with2(Op::Xor_rm32_r32, to32, to32)?
        } else if let Ok(value) = u32::try_from(value) {
            Instruction::with2(Op::Mov_r32_imm32, to32, value)?
        } else if let Ok(value) = i32::try_from(value as i64) {
            Instruction::with2(Op::Mov_rm64_imm32, to, value)?
        } else {
            Instruction::with2(Op::Mov_r64_imm64, to, value)?
        };
        self.op(mov, note)
    }

    fn mov_reg(&mut self, to: Register, from: Register, note: &str) -> Result<(), IcedError> {
        self.op(Instruction::with2(Op::Mov_rm64_r64, to, from)?, note)
    }

    /// `emit_stx()`: a register to the frame.
    fn stx(&mut self, offset: i64, from: Register, note: &str) -> Result<(), IcedError> {
        self.op(
            Instruction::with2(Op::Mov_rm64_r64, rbp(offset), from)?,
            note,
        )
    }

    /// `emit_ldx()`: a register from the frame.
    fn ldx(&mut self, to: Register, offset: i64, note: &str) -> Result<(), IcedError> {
        self.op(Instruction::with2(Op::Mov_r64_rm64, to, rbp(offset))?, note)
    }

    fn lea(&mut self, to: Register, offset: i64, note: &str) -> Result<(), IcedError> {
        self.op(Instruction::with2(Op::Lea_r64_m, to, rbp(offset))?, note)
    }

    /// `LOAD_TRAMP_TAIL_CALL_CNT_PTR()`: always with a 32-bit displacement.
    fn load_tail_call_cnt_ptr(&mut self, size: i64) -> Result<(), IcedError> {
        let memory = MemoryOperand::with_base_displ_size(Register::RBP, -size - 8, 8);
        self.op(
            Instruction::with2(Op::Mov_r64_rm64, Register::RAX, memory)?,
            "tail_call_cnt_ptr",
        )
    }

    fn call(&mut self, target: u64, note: &str) -> Result<(), IcedError> {
        self.op(Instruction::with_branch(Op::Call_rel32_64, target)?, note)
    }

    fn je_short(&mut self, to: CodeLabel, note: &str) -> Result<(), IcedError> {
        self.notes.push(note.to_owned());
        self.asm.set_prefer_short_branch(true);
        self.asm.je(to)
    }

    fn jne_near(&mut self, to: CodeLabel, note: &str) -> Result<(), IcedError> {
        self.notes.push(note.to_owned());
        self.asm.set_prefer_short_branch(false);
        self.asm.jne(to)
    }

    /// `emit_nops()`: the kernel's table is the assembler's, but for the longest ones.
    fn nops(&mut self, mut len: usize, note: &str) -> Result<(), IcedError> {
        while len > 0 {
            let one = len.min(ASM_NOP_MAX);
            self.notes.push(note.to_owned());
            match one {
                ..=8 => self.asm.nops_with_size(one)?,
                // the assembler writes an operand size prefix where the kernel has `cs`
                _ => {
                    let mut bytes = vec![0x66; one - 9];
                    bytes.extend([0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]);
                    self.asm.db(&bytes)?;
                }
            }
            len -= one;
        }
        Ok(())
    }
}

/// Memory at a distance from rbp.
fn rbp(offset: i64) -> MemoryOperand {
    let size = if is_imm8(offset) { 1 } else { 8 };
    MemoryOperand::with_base_displ_size(Register::RBP, offset, size)
}

fn is_imm8(value: i64) -> bool {
    i8::try_from(value).is_ok()
}
