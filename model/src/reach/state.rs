//! The state: small tables of bytes, so that a state is cheap to copy and its packed form is the bytes themselves.
//!
//! What an entry means is said here; who may change it, in `machine`.

use crate::assoc::Assoc;
use crate::declare::words;
use crate::visit::Word;

use super::world::{MAX_ATTACHMENTS, MAX_PROGS, MAX_SCHEDS, Op};

/// Most CPUs.
pub const MAX_CPUS: usize = 2;
/// Most programs inside each other on one CPU.
pub const MAX_DEPTH: usize = 3;
/// `Prog::assoc`: poisoned.
pub const POISON: u8 = u8::MAX;
/// `State::next`: the loader has met an error that it must not ignore, and goes no further.
pub const STOPPED: u8 = u8::MAX;
/// A cookie that is none: what is in the place of the cookie in another kind of run context.
pub const GARBAGE: u8 = u8::MAX;

/// Visits every byte of a state in one order: packs and unpacks.
pub(super) trait Bytes {
    fn bytes<F: FnMut(&mut u8)>(&mut self, visit: &mut F);
}

impl Bytes for u8 {
    fn bytes<F: FnMut(&mut u8)>(&mut self, visit: &mut F) {
        visit(self);
    }
}

impl Bytes for bool {
    fn bytes<F: FnMut(&mut u8)>(&mut self, visit: &mut F) {
        let mut byte = u8::from(*self);
        visit(&mut byte);
        *self = byte != 0;
    }
}

impl<T: Bytes, const N: usize> Bytes for [T; N] {
    fn bytes<F: FnMut(&mut u8)>(&mut self, visit: &mut F) {
        for item in self {
            item.bytes(visit);
        }
    }
}

impl<W: Word> Bytes for W {
    fn bytes<F: FnMut(&mut u8)>(&mut self, visit: &mut F) {
        let mut byte = self.number();
        visit(&mut byte);
        *self = W::ALL[usize::from(byte)];
    }
}

/// A struct of bytes.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),+ }

        impl Bytes for $name {
            fn bytes<F: FnMut(&mut u8)>(&mut self, visit: &mut F) {
                $(self.$field.bytes(visit);)+
            }
        }
    };
}

words! {
    /// The life of a scheduler instance.
    Life {
        /// There is none.
        None "not there yet",
        /// It schedules.
        Enabled "enabled",
        /// Disabled; its link still refers to it.
        Dead "dead",
        /// Disabled and put: freed after a grace period.
        Dying "put",
        /// Its memory is gone.
        Freed "freed",
    }
}
words! {
    /// The life of a struct_ops map.
    MapLife {
        /// Not created yet.
        None "not there yet",
        /// There.
        Live "live",
        /// No reference is left: freed after a grace period.
        Dying "being freed",
        /// Its memory is gone.
        Freed "freed",
    }
}
words! {
    /// The life of a program.
    ProgLife {
        /// Not loaded yet.
        None "not there yet",
        /// Refused by the verifier.
        Refused "refused",
        /// Loaded.
        Loaded "loaded",
        /// Its memory is gone.
        Freed "freed",
    }
}
words! {
    /// Where a frame stands.
    Stage {
        /// Entered.
        Running "running",
        /// The kfunc holds a pointer.
        Holding "the kfunc has a pointer",
        /// The kfunc has returned.
        Asked "has asked",
    }
}

record!(
    /// A scheduler and its map.
    Sched {
        /// The scheduler.
        life: Life,
        /// Its key in the table of identities; 0 is none.
        key: u8,
        /// In the table.
        listed: bool,
        /// CPUs whose readers the freeing of the scheduler waits for.
        gp: u8,
        /// The map.
        map: MapLife,
        /// References on the map.
        refs: u8,
        /// User space has an fd of the map.
        fd: bool,
        /// map_update has succeeded.
        filled: bool,
        /// A struct_ops link is attached.
        link: bool,
        /// CPUs whose readers the freeing of the map waits for.
        map_gp: u8,
    }
);
record!(
    /// A program.
    Prog {
        /// Its life.
        life: ProgLife,
        /// References.
        refs: u8,
        /// User space has an fd.
        fd: bool,
        /// The pointer to a map: 0, 1 + map, or [`POISON`].
        assoc: u8,
    }
);
record!(
    /// A timer or work queue: one per scheduler, in a map of the object file of the program that arms it.
    Async {
        /// Armed.
        armed: bool,
        /// The program whose callback it is.
        prog: u8,
        /// What the program left in the map value; 0 is nothing.
        stash: u8,
    }
);
record!(
    /// A program that runs.
    Frame {
        /// The program whose `bpf_prog_aux` a kfunc is handed.
        prog: u8,
        /// On whose behalf it runs.
        sched: u8,
        /// The cookie of the attachment through which it was called.
        cookie: u8,
        /// It is a callback.
        callback: bool,
        /// Where it stands.
        stage: Stage,
        /// The scheduler that the kfunc holds: 0, or 1 + scheduler.
        held: u8,
        /// The map whose pointer the kfunc holds and has not followed yet: 0, or 1 + map.
        map: u8,
        /// What `current->bpf_ctx` was: 0 is NULL, 1 + frame its run context.
        saved: u8,
    }
);
record!(
    /// A CPU and what runs on it, the innermost program last.
    Cpu {
        /// How many frames.
        depth: u8,
        /// Frames.
        frames: [Frame; MAX_DEPTH],
        /// `current->bpf_ctx`: 0 is NULL, 1 + frame its run context.
        bpf_ctx: u8,
    }
);
record!(
    /// Everything that changes.
    State {
        /// Schedulers and their maps.
        scheds: [Sched; MAX_SCHEDS],
        /// Programs.
        progs: [Prog; MAX_PROGS],
        /// Attachments that are attached.
        attached: [bool; MAX_ATTACHMENTS],
        /// Timers and work queues, one per scheduler.
        asyncs: [Async; MAX_SCHEDS],
        /// The identity in the global variables of each object file; 0 is none.
        globals: [u8; MAX_SCHEDS],
        /// How far each loader is in its list.
        next: [u8; MAX_SCHEDS],
        /// What each loader has done of the rest, one bit each.
        done: [u8; MAX_SCHEDS],
        /// The root scheduler: 0, or 1 + scheduler.
        root: u8,
        /// CPUs.
        cpus: [Cpu; MAX_CPUS],
    }
);

impl Prog {
    /// The pointer to a map.
    pub(super) fn pointer(self) -> Assoc<u8> {
        match self.assoc {
            0 => Assoc::None,
            POISON => Assoc::Poison,
            map => Assoc::Map(map - 1),
        }
    }

    /// Another one.
    pub(super) fn point(&mut self, to: Assoc<u8>) {
        self.assoc = match to {
            Assoc::None => 0,
            Assoc::Poison => POISON,
            Assoc::Map(map) => map + 1,
        };
    }
}

impl State {
    /// Appends the packed state.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut copy = *self;
        copy.bytes(&mut |byte| out.push(*byte));
    }

    /// Unpacks what [`State::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut state = State::default();
        let mut bytes = bytes.iter();
        state.bytes(&mut |byte| *byte = bytes.next().copied().unwrap_or_default());
        state
    }
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A loader does something: loader, what.
    Loader(u8, Op),
    /// A scheduler calls a member of its struct: CPU, scheduler, program.
    Member(u8, u8, u8),
    /// An attachment's hook is hit: CPU, attachment.
    Hook(u8, u8),
    /// A timer or work queue fires: CPU, scheduler in whose element it is.
    Fire(u8, u8),
    /// The innermost program of a CPU arms its timer or work queue.
    Arm(u8),
    /// It goes on in another program.
    Jump(u8),
    /// It calls the kfunc without a task.
    Ask(u8),
    /// It calls the kfunc with a task: CPU, and the scheduler whose task it is while that is enabled.
    AskTask(u8, u8),
    /// The kfunc uses what it found.
    Use(u8),
    /// It returns.
    Return(u8),
    /// The worker frees a scheduler.
    SchedFree(u8),
    /// The worker begins to free a map.
    MapClear(u8),
    /// The worker frees a map.
    MapFree(u8),
    /// The worker frees a program.
    ProgFree(u8),
}
