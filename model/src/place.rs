//! Where a step is carried out: in which kernel function, or in which code that is no kernel function.
//!
//! Which kernel a world is on decides more than names: what a step does there asks [`crate::World::linux`].
//!
//! A kernel function is shown only where it is the one that executes; its name and file are those of the kernels
//! that have it, which a test compares with lists made from their source. What no function does has a mark of its
//! own, in brackets.

use std::fmt;

/// A kernel whose source the steps were compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Linux {
    /// Linux 6.12, with stable updates.
    #[default]
    V6_12,
    /// Linux 7.3, with stable updates.
    V7_3,
    /// bpf-next, for Linux 7.4: with struct_ops that attach to cgroups.
    V7_4,
}

impl Linux {
    /// Every one, the oldest first.
    pub const ALL: [Linux; 3] = [Linux::V6_12, Linux::V7_3, Linux::V7_4];

    /// As its release is called.
    pub fn version(self) -> &'static str {
        match self {
            Linux::V6_12 => "6.12",
            Linux::V7_3 => "7.3",
            Linux::V7_4 => "7.4",
        }
    }

    /// The one whose release is called so.
    pub fn from_version(version: &str) -> Option<Linux> {
        Self::ALL.into_iter().find(|l| l.version() == version)
    }
}

/// A function and the file in which it is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Below the root of the source.
    pub file: &'static str,
}

/// Code that carries out a step and is no kernel function of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Instructions of whoever calls a member: which function it is depends on the member.
    Caller,
    /// The machine code that was generated for a member.
    Trampoline,
    /// The BPF program.
    Program,
    /// A kfunc of the subsystem, whichever the program has called.
    Kfunc,
    /// A function of a subsystem that the scenario brings.
    Subsystem,
    /// A process.
    User,
    /// The way back from an operation, whichever it was.
    Return,
    /// Nothing: no kernel does it. A design that nobody has written as patches would, or the model adds it so that
    /// something can be explored.
    Model,
}

impl Code {
    /// Every one: the mark, and what it stands for.
    pub const NAMES: &'static [(Code, &'static str, &'static str)] = &[
        (
            Code::Caller,
            "[caller]",
            "instructions of whoever calls the member; which function that is depends on the member",
        ),
        (
            Code::Trampoline,
            "[trampoline]",
            "the machine code that was generated for the member",
        ),
        (Code::Program, "[program]", "the BPF program"),
        (
            Code::Kfunc,
            "[kfunc]",
            "a kfunc of the subsystem, whichever the program has called",
        ),
        (
            Code::Subsystem,
            "[subsystem]",
            "a function of a subsystem that the scenario brings",
        ),
        (Code::User, "[user space]", "a process"),
        (
            Code::Return,
            "[return]",
            "the way back from the operation, whichever it was",
        ),
        (
            Code::Model,
            "[model]",
            "no kernel does this, and no patch here: a design would, or the model adds it to explore something",
        ),
    ];

    fn row(self) -> &'static (Code, &'static str, &'static str) {
        let mut rows = Self::NAMES.iter();
        rows.find(|n| n.0 == self)
            .expect("every kind of code is listed")
    }

    /// What stands in the place of a function's name.
    pub fn mark(self) -> &'static str {
        self.row().1
    }

    /// The mark without its brackets.
    pub fn name(self) -> &'static str {
        self.mark().trim_matches(['[', ']'])
    }

    /// What the mark stands for.
    pub fn meaning(self) -> &'static str {
        self.row().2
    }
}

/// Where a step is carried out, whatever the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a function of these kernels, in the order of [`Linux::ALL`].
    Linux([Option<Function>; Linux::ALL.len()]),
    /// In a function that a series of patches adds: the folder of the series.
    Series(&'static str, Function),
    /// In no function.
    Code(Code),
}

/// Where a step is carried out on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// In a function of the kernel.
    Linux(Function),
    /// In a function that a series of patches adds.
    Series(&'static str, Function),
    /// In no function.
    Code(Code),
}

/// A function of every kernel.
pub(crate) const fn always(name: &'static str, file: &'static str) -> Place {
    let function = Some(Function { name, file });
    Place::Linux([function; Linux::ALL.len()])
}

/// A function that has another name, or is in another file, from 7.3 on.
pub(crate) const fn moved(
    name: &'static str,
    file: &'static str,
    name_7_3: &'static str,
    file_7_3: &'static str,
) -> Place {
    let new = Function {
        name: name_7_3,
        file: file_7_3,
    };
    Place::Linux([Some(Function { name, file }), Some(new), Some(new)])
}

/// A function that 6.12 does not have.
pub(crate) const fn new_in_7_3(name: &'static str, file: &'static str) -> Place {
    let function = Some(Function { name, file });
    Place::Linux([None, function, function])
}

/// A function that 7.3 does not have, or that nothing here enters before 7.4.
pub(crate) const fn new_in_7_4(name: &'static str, file: &'static str) -> Place {
    Place::Linux([None, None, Some(Function { name, file })])
}

/// A function that the patches of a series add.
pub(crate) const fn series(series: &'static str, name: &'static str, file: &'static str) -> Place {
    Place::Series(series, Function { name, file })
}

impl Place {
    /// Where it is on `linux`, or on the next kernel that has it.
    pub fn on(self, linux: Linux) -> Site {
        match self {
            Place::Linux(functions) => {
                let here = functions[linux as usize];
                let any = functions.into_iter().flatten().next();
                Site::Linux(here.or(any).expect("some kernel has the function"))
            }
            Place::Series(series, function) => Site::Series(series, function),
            Place::Code(code) => Site::Code(code),
        }
    }
}

/// As a trace shows it: the function's name, with a `+` if a patch adds the function, or the code's mark.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Linux(function) => f.pad(function.name),
            Site::Series(_, function) => f.pad(&format!("+{}", function.name)),
            Site::Code(code) => f.pad(code.mark()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_found_by_its_version() {
        for linux in Linux::ALL {
            assert_eq!(Linux::from_version(linux.version()), Some(linux));
        }
        assert_eq!(Linux::from_version("6.1"), None);
    }
}
