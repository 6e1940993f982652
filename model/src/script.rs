//! Subsystems that a scenario brings: what they keep, and their functions as lines of statements.
//!
//! A line is one atomic step. Not here: how a file writes them (the simulator's business), nor what a statement does
//! (`subsys::script`). No kernel source stands behind these: the scenario says where its subsystem comes from.

use crate::kernel::Stage;

/// Most locks of a scenario's own.
pub const MAX_OWN_LOCKS: usize = 4;
/// Most slots.
pub const MAX_SLOTS: usize = 4;
/// Most SRCU domains.
pub const MAX_DOMAINS: usize = 2;
/// Most subsystems of a scenario's own.
pub const MAX_SUBSYSTEMS: usize = 3;
/// Most flags.
pub const MAX_FLAGS: usize = 8;
/// Most kinds of objects.
pub const MAX_OBJECTS: usize = 4;
/// Most objects of one kind.
pub const MAX_COUNT: u8 = 7;
/// Most read sides of one kind that a CPU's functions nest; programs that they call enter one more.
pub const MAX_NESTING: u8 = 4;
/// Most references that own subsystems hold at once.
pub const MAX_REFS: usize = 4;
/// Most lines of all functions.
pub const MAX_LINES: usize = 255;

/// In what the entries of a slot differ: a second one with the same is refused by whoever asks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKey {
    /// There is one entry.
    One,
    /// The name in the struct: the map's `key`.
    Name,
    /// The map.
    Map,
    /// The kdata: a member of the struct itself, as `ops->priv` is.
    Kdata,
    /// The link.
    Link,
}

impl SlotKey {
    /// The names in scenario files, with what each stands for.
    pub const NAMES: &'static [(&'static str, SlotKey, &'static str)] = &[
        ("one", SlotKey::One, "one entry, whoever it is of"),
        ("name", SlotKey::Name, "one entry for each `key` of a map"),
        ("map", SlotKey::Map, "one entry for each map"),
        (
            "kdata",
            SlotKey::Kdata,
            "one entry for each kdata, as a pointer inside the struct is",
        ),
        ("link", SlotKey::Link, "one entry for each link"),
    ];
}

/// Where registrations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// In what its entries differ.
    pub key: SlotKey,
    /// Its entries are registrations, which reg() makes: not users that have found one.
    pub registers: bool,
    /// reg() asks whether it has this struct already: where it is, reg() refuses it or does something else.
    pub asked: bool,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By one CPU.
    Exclusive,
    /// By any number of readers (`down_read()`, `read_lock()`).
    Shared,
}

/// A read side of the scenario's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSide {
    /// `rcu_read_lock()`.
    Rcu,
    /// `rcu_read_lock_trace()`.
    Trace,
    /// `srcu_read_lock()` of this domain.
    Srcu(u8),
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The slot has an entry with the key of this kdata, map or link.
    Taken(u8),
    /// The slot's entry is of this kdata and this link.
    Mine(u8),
    /// The flag is set.
    Flag(u8),
    /// An object of this kind is there.
    Object(u8),
    /// A program that the function has called returned an error.
    Failed,
}

/// What a line consists of. Indices are those of [`Script`]; a target is a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Takes a lock. First of its line: the line waits until it is free.
    Lock(u8, Mode),
    /// Releases it.
    Unlock(u8, Mode),
    /// Enters a read side.
    Enter(ReadSide),
    /// Leaves it.
    Leave(ReadSide),
    /// Begins a grace period and waits for it. Last of its line.
    Synchronize(Stage),
    /// The same for an SRCU domain.
    SynchronizeSrcu(u8),
    /// kdata becomes visible in the slot; an entry with the same key is overwritten.
    Publish(u8),
    /// The entry with the key of this kdata, map or link goes.
    Withdraw(u8),
    /// The old kdata's entry gets the new kdata; without one, on at the target.
    Replace(u8, u8),
    /// The first entry: its kdata is what follows is about; without one, on at the target.
    Find(u8, u8),
    /// The entry after the one that was found; without one, on at the target.
    Next(u8, u8),
    /// `bpf_struct_ops_get()`; if the count is 0, on at the target.
    Get(u8),
    /// `bpf_struct_ops_put()`.
    Put,
    /// Allocates an object; if that fails, on at the target.
    Alloc(u8, u8),
    /// Frees one.
    Free(u8),
    /// Uses one, which must be there.
    Use(u8),
    /// Reads kdata, which must be there.
    UseKdata,
    /// Reads the link of the entry, which must be there.
    UseLink,
    /// Sets a flag.
    Set(u8),
    /// Clears it.
    Clear(u8),
    /// Waits until the flag is set. First of its line.
    Wait(u8),
    /// Calls the member of kdata with this name, if it is set. Last of its line.
    Call(u8),
    /// Runs this program of the world, whose hook the function is. Last of its line.
    Fentry(u8),
    /// On at the target if the test gives this.
    If(Test, bool, u8),
    /// On at the target.
    Goto(u8),
    /// The function returns 0 or a negative errno.
    Return(i8),
}

/// One line of a function: one atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// As the file writes it, without label.
    pub text: String,
    /// In this order.
    pub statements: Vec<Statement>,
}

impl Line {
    /// Whether one of its statements allocates.
    pub(crate) fn allocates(&self) -> bool {
        let mut statements = self.statements.iter();
        statements.any(|s| matches!(s, Statement::Alloc(..)))
    }
}

/// A function of a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name: `reg`, `unreg`, `update`, or what operations `run`.
    pub name: String,
    /// Index of its subsystem.
    pub subsystem: u8,
    /// Its first line.
    pub first: u8,
    /// The line after its last one.
    pub end: u8,
    /// The text, as the file has it.
    pub text: String,
}

/// A subsystem's own functions, which the attach path calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Name of the type's subsystem.
    pub name: String,
    /// `st_ops->reg`: index of the function.
    pub reg: u8,
    /// `st_ops->unreg`.
    pub unreg: u8,
    /// `st_ops->update`.
    pub update: Option<u8>,
    /// What runs once when every process is gone, as unmounting would: ends what outlives processes.
    pub teardown: Option<u8>,
}

/// Everything that the scenario's own subsystems consist of.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Script {
    /// The subsystems.
    pub subsystems: Vec<Own>,
    /// Their functions.
    pub functions: Vec<Function>,
    /// The lines of all functions.
    pub lines: Vec<Line>,
    /// Names of locks.
    pub locks: Vec<String>,
    /// Slots.
    pub slots: Vec<Slot>,
    /// Names of SRCU domains.
    pub domains: Vec<String>,
    /// Names of flags.
    pub flags: Vec<String>,
    /// Flags that are set at the beginning, one bit each.
    pub set: u8,
    /// Names of kinds of objects.
    pub objects: Vec<String>,
    /// Names of members that are called.
    pub members: Vec<String>,
}

impl Script {
    /// The function that a line belongs to.
    pub fn function(&self, line: u8) -> &Function {
        let mut functions = self.functions.iter();
        functions
            .find(|f| (f.first..f.end).contains(&line))
            .expect("every line is in a function")
    }

    /// Functions that operations run: neither the attach path nor the end calls them.
    pub fn runnable(&self) -> impl Iterator<Item = u8> {
        let called = |f: u8| {
            let mut own = self.subsystems.iter();
            own.any(|o| f == o.reg || f == o.unreg || [o.update, o.teardown].contains(&Some(f)))
        };
        (0..self.functions.len() as u8).filter(move |f| !called(*f))
    }

    /// What the function returns where it fails.
    pub fn errnos(&self, function: u8) -> impl Iterator<Item = i8> {
        let function = &self.functions[usize::from(function)];
        let lines = &self.lines[usize::from(function.first)..usize::from(function.end)];
        lines
            .iter()
            .flat_map(|l| &l.statements)
            .filter_map(|s| match s {
                Statement::Return(err) if *err != 0 => Some(*err),
                _ => None,
            })
    }
}
