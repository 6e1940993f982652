//! The function model: what a trampoline has to know of the function that it stands for, sizes alone.
//!
//! Stands for `struct btf_func_model` and for the limits of `btf_distill_func_proto()`. How it is read from BTF is
//! in [`crate::btf`].

use super::{Error, MAX_BPF_FUNC_ARGS};

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arg {
    /// In bytes, 1 to 16.
    pub size: u8,
}

impl Arg {
    /// How many registers (or stack slots) it takes.
    pub fn regs(self) -> usize {
        usize::from(self.size).div_ceil(8)
    }
}

/// Number and sizes of the arguments, size of the return value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FuncModel {
    args: Vec<Arg>,
    ret_size: u8,
}

impl FuncModel {
    /// From sizes in bytes; a `ret_size` of 0 is void.
    pub fn new(arg_sizes: &[usize], ret_size: usize) -> Result<Self, Error> {
        if ret_size > 8 {
            return Err(Error::RetSize(ret_size));
        }
        let mut args = Vec::with_capacity(arg_sizes.len());
        for (index, &size) in arg_sizes.iter().enumerate() {
            match u8::try_from(size) {
                Ok(size @ 1..=16) => args.push(Arg { size }),
                _ => return Err(Error::ArgSize { index, size }),
            }
        }
        let model = FuncModel {
            args,
            ret_size: ret_size as u8,
        };
        match model.nr_regs() {
            found if found > MAX_BPF_FUNC_ARGS => Err(Error::TooManyArgs { found }),
            _ => Ok(model),
        }
    }

    /// The arguments, in order.
    pub fn args(&self) -> &[Arg] {
        &self.args
    }

    /// In bytes, 0 for void.
    pub fn ret_size(&self) -> usize {
        usize::from(self.ret_size)
    }

    /// Registers and stack slots that all arguments take together.
    pub fn nr_regs(&self) -> usize {
        self.args.iter().map(|arg| arg.regs()).sum()
    }

    /// Where each argument comes from: an argument is passed in registers as a whole or on the stack as a whole, and
    /// one that no longer fits does not keep a later, smaller one from taking the registers that are left.
    pub(super) fn places(&self) -> impl Iterator<Item = (Arg, Place)> {
        let (mut regs, mut slots) = (0, 0);
        self.args.iter().map(move |&arg| {
            if regs + arg.regs() > 6 {
                slots += arg.regs();
                (arg, Place::Stack(slots - arg.regs()))
            } else {
                regs += arg.regs();
                (arg, Place::Regs(regs - arg.regs()))
            }
        })
    }

    /// Slots of the stack that arguments take (`nr_regs - get_nr_used_regs()`).
    pub(super) fn stack_slots(&self) -> usize {
        self.places()
            .filter(|(_, place)| matches!(place, Place::Stack(_)))
            .map(|(arg, _)| arg.regs())
            .sum()
    }
}

/// Where an argument is when the function is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From this argument register on: rdi, rsi, rdx, rcx, r8, r9.
    Regs(usize),
    /// From this slot of the caller's stack on.
    Stack(usize),
}
