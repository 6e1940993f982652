//! The promises: what every design should keep in every interleaving.
//!
//! Each has an id, a sentence, where it does not apply, and a `sometimes` twin: the event that must be
//! reached for "holds" to mean anything. The checks that need only a state are here; those that belong to
//! one step (a load through a pointer, a result) are in the step.

use crate::design::{AssocRef, Count, Design, Identity, ProgOwner};
use crate::kernel::{Holds, KdataKey, Kernel, MapState, Stage};
use crate::world::{LINK_SLOTS, MAP_SLOTS, MAX_KDATAS, OpKind, World};

macro_rules! invariants {
    ($($variant:ident $id:literal $short:literal $sentence:literal / $not:literal / $sometimes:literal;)+) => {
        /// An invariant.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Invariant { $(#[doc = $sentence] $variant),+ }

        impl Invariant {
            /// All of them, in the order of the matrix.
            pub const ALL: &[Invariant] = &[$(Invariant::$variant),+];

            /// The id used in commands and files.
            pub fn id(self) -> &'static str {
                match self { $(Invariant::$variant => $id),+ }
            }

            /// At most six characters: the column of the matrix.
            pub fn short(self) -> &'static str {
                match self { $(Invariant::$variant => $short),+ }
            }

            /// The promise in one sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Invariant::$variant => $sentence),+ }
            }

            /// Where it does not apply, and what it does not say.
            pub fn limits(self) -> &'static str {
                match self { $(Invariant::$variant => $not),+ }
            }

            /// The event that makes a "holds" worth something.
            pub fn sometimes(self) -> &'static str {
                match self { $(Invariant::$variant => $sometimes),+ }
            }
        }
    };
}

/// A set of invariants, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvariantSet(u64);

const _: () = assert!(
    Invariant::ALL.len() <= u64::BITS as usize,
    "InvariantSet needs another word"
);

impl InvariantSet {
    /// Adds an invariant.
    #[inline]
    pub fn insert(&mut self, invariant: Invariant) {
        self.0 |= 1 << invariant as u32;
    }

    /// Whether an invariant is in it.
    pub fn contains(self, invariant: Invariant) -> bool {
        self.0 & 1 << invariant as u32 != 0
    }

    /// Adds the invariants of another set.
    pub fn extend(&mut self, other: InvariantSet) {
        self.0 |= other.0;
    }

    /// The invariants in the order of the matrix.
    pub fn iter(self) -> impl Iterator<Item = Invariant> {
        Invariant::ALL
            .iter()
            .copied()
            .filter(move |i| self.contains(*i))
    }

    /// Bit `invariant as u32` of each.
    pub fn bits(self) -> u64 {
        self.0
    }
}

invariants! {
    SingleLinkPerMap "single-link-per-map" "1link"
        "One kdata is registered through at most one link at a time."
        / "Several links on one map are fine where each has a kdata of its own."
        / "a second link is attached to, or refused on, a map that has one";
    CookieFidelity "cookie-fidelity" "cookie"
        "A program reads the cookie of the attachment through which it was called."
        / "Designs in which programs cannot ask for a cookie."
        / "a program reads a cookie that is not 0";
    NoUseAfterFree "no-use-after-free" "uaf"
        "Nobody uses an image, kdata, program, map, link, list node or module that is gone."
        / "Pointers may dangle as long as nobody follows them."
        / "something that others had used is freed";
    NoLeak "no-leak" "leak"
        "When every fd is closed, every pin removed and every grace period over, every table is empty."
        / "Runs that end in a deadlock."
        / "a run ends with everything closed";
    TextImmutable "text-immutable" "text"
        "A page that is executable is never written."
        / "x86 writes through an alias (text_poke); the rule is that of architectures without prog_pack."
        / "a page becomes executable";
    NoTornPublish "no-torn-publish" "torn"
        "A subsystem never calls through a kdata that is half built: no pointer into a page that is not yet executable, no members of two attachments."
        / "Pages of x86's prog_pack are executable from the start; there the first half cannot fault."
        / "a subsystem is given a kdata";
    FailureAtomic "failure-atomic" "atomic"
        "An operation that fails has changed nothing that others can see."
        / "State that nobody reads; references, which refcounts-balance judges; what others changed meanwhile."
        / "an operation fails after it has generated or registered something";
    RefcountsBalance "refcounts-balance" "refs"
        "Every reference count equals the number of holders."
        / "-"
        / "a count falls to 0";
    ErrnoContract "errno-contract" "errno"
        "Every operation returns what Linux's contract says for what it met; success means that its effect is there."
        / "-ENOMEM of new allocations, -EBUSY of links=one: additions that the design announces."
        / "an operation returns an error";
    KsymsMatchImages "ksyms-match-images" "ksyms"
        "kallsyms names only live trampolines, and a trampoline that runs is named."
        / "BPF_PROG_TEST_RUN, whose trampoline is never named."
        / "a named trampoline runs";
    NoDeadlock "no-deadlock" "lock"
        "Some CPU can always move until all are done, and no CPU walks a list for ever."
        / "Fairness is not judged."
        / "a CPU waits for a lock or a grace period, or walks past an entry of a list";
    LockOrder "lock-order" "order"
        "The classes of locks have an order: none is taken while one is held that is taken under it elsewhere."
        / "What one run shows by itself, its set-up included: two runs of which each shows one half are not put together. Read sides of RCU, and waits for work that takes a lock, are no locks here."
        / "a lock is taken while another one is held";
    EventualRelease "eventual-release" "release"
        "Whatever lost its last reference is freed once its grace periods are over."
        / "-"
        / "a deferred free completes";
    NoForeignUnreg "no-foreign-unreg" "unreg"
        "Detaching one attachment never takes down another one's registration."
        / "Only the subsystem can keep it: sched_ext of 6.12 breaks it under every design (scenario stale-scheduler-link), io_uring of 7.3 where the links of a map share a struct (ring-of-another-link)."
        / "an unreg() takes down its own registration";
    RefusalsKept "refusals-kept" "kept"
        "An attach that the subsystem refuses on mainline, because it has a struct of the map already, is refused under every design."
        / "Subsystems that take one struct several times. Refusals for another reason: errno-contract judges what is returned."
        / "a subsystem that has a struct of a map is given one more, or would be if the design did not refuse it first";
    AssocFidelity "assoc-fidelity" "struct"
        "A member that asks for its struct by what it is tied to finds the one through which it was called, or none."
        / "Designs without a pointer from program to map. A program that several maps have finds none; a program that is no member has no struct of its own."
        / "a member finds its struct by what it is tied to";
    CookieReachability "cookie-reachability" "reach"
        "A program that runs on behalf of an enabled scheduler finds that scheduler."
        / "The attach path, which has no schedulers. What is found while the own scheduler is not enabled."
        / "a program finds its own scheduler";
    NoOtherScheduler "no-other-scheduler" "other"
        "A program never finds a scheduler on whose behalf it does not run."
        / "The attach path, which has no schedulers."
        / "a program asks while another scheduler is enabled";
    NoDeadScheduler "no-dead-scheduler" "dead"
        "A program never finds a scheduler that is disabled."
        / "The attach path, which has no schedulers. A scheduler that dies after it was found: the kfunc's RCU section covers that."
        / "a program asks after a scheduler has died";
    NoFreedScheduler "no-freed-scheduler" "freed"
        "Nobody follows a pointer to a scheduler, map or program whose memory is gone, on the way to a scheduler."
        / "The attach path, where no-use-after-free says the same of its objects."
        / "a program asks after a scheduler or a map was freed";
    AssocRules "assoc-rules" "assoc"
        "POISON stays, asking and tying again change no reference count, and every count equals the number of holders."
        / "Designs without a pointer from program to map."
        / "a map is tied to a program that is tied already, or a pointer is followed";
}

impl Invariant {
    /// The one with this id.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|i| i.id() == id)
    }

    /// Judged by looking schedulers up (`reach`), not by the attach path.
    pub fn of_lookups(self) -> bool {
        self >= Invariant::CookieReachability
    }

    /// Whether a design promises anything here.
    pub fn applies(self, design: &Design) -> bool {
        match self {
            Invariant::CookieFidelity => {
                matches!(design.identity, Identity::Cookie | Identity::RunCtx)
            }
            Invariant::AssocFidelity | Invariant::AssocRules => matches!(
                design.identity,
                Identity::ThisPointer | Identity::Association
            ),
            _ => true,
        }
    }
}

/// How many hold what a counter counts, by slot.
#[derive(Default)]
struct Holders {
    maps: [usize; MAP_SLOTS],
    links: [usize; LINK_SLOTS],
    attachments: [usize; MAX_KDATAS],
}

impl Holders {
    /// Counts them, in one walk over each table: this is asked after every step that touches a count.
    fn of(k: &Kernel, world: &World, design: &Design) -> Self {
        let mut holders = Holders::default();
        let plus = |counts: &mut [usize], slot: Option<usize>| {
            if let Some(slot) = slot {
                counts[slot] += 1;
            }
        };
        for (key, map) in k.maps.iter() {
            let slot = key.slot();
            let kdata = map.kdata.and_then(|d| k.kdatas.get(d));
            let embedded = kdata.is_some_and(|d| !d.attachment);
            let plain = !world.maps[usize::from(map.decl)].link;
            let registered = map.state == MapState::InUse && plain && embedded;
            holders.maps[slot] += map.fds.count_ones() as usize
                + map.more.count()
                + usize::from(map.pinned)
                + usize::from(registered);
            if map.state != MapState::ToBeFree {
                plus(&mut holders.attachments, map.kdata.map(|d| d.slot()));
            }
        }
        for (key, link) in k.links.iter() {
            holders.links[key.slot()] +=
                link.fds.count_ones() as usize + link.more.count() + usize::from(link.pinned);
            match link.attachment {
                None => plus(&mut holders.maps, link.map.map(|m| m.slot())),
                Some(attachment) => holders.attachments[attachment.slot()] += 1,
            }
        }
        for (_, attachment) in k.kdatas.iter().filter(|(_, d)| d.attachment) {
            plus(&mut holders.maps, attachment.map.map(|m| m.slot()));
        }
        let socks = k.socks.iter().filter_map(|s| s.kdata);
        for key in socks.chain(k.subsys.own.refs.iter().copied().flatten()) {
            let Some(kdata) = k.kdatas.get(key) else {
                continue;
            };
            // What a socket's reference is a reference on.
            if design.count == Count::Attachment && kdata.attachment {
                holders.attachments[key.slot()] += 1;
            } else {
                plus(&mut holders.maps, kdata.map.map(|m| m.slot()));
            }
        }
        for (prog, decl) in k.progs.iter().zip(&world.progs) {
            let holds =
                decl.of.is_tied_by_command() && design.lookup.assoc_ref == AssocRef::Command;
            plus(
                &mut holders.maps,
                prog.assoc.map().filter(|_| holds).map(|m| m.slot()),
            );
        }
        for c in &k.cpus {
            let held = |what| c.holds.contains(what);
            let asked = c.asked.filter(|_| held(Holds::ASKED));
            let asked = asked.and_then(|kdata| k.kdatas.get(kdata)?.map);
            plus(&mut holders.maps, asked.map(|m| m.slot()));
            let (map, old) = (c.map.map(|m| m.slot()), c.old.map(|m| m.slot()));
            plus(&mut holders.maps, map.filter(|_| held(Holds::MAP)));
            plus(&mut holders.maps, map.filter(|_| held(Holds::REGISTERED)));
            plus(&mut holders.maps, old.filter(|_| held(Holds::OLD)));
            let link = c.link.map(|l| l.slot());
            plus(&mut holders.links, link.filter(|_| held(Holds::LINK)));
            let new = c.attachment.map(|a| a.slot());
            let old = c.old_attachment.map(|a| a.slot());
            plus(
                &mut holders.attachments,
                new.filter(|_| held(Holds::ATTACHMENT)),
            );
            plus(
                &mut holders.attachments,
                old.filter(|_| held(Holds::OLD_ATTACHMENT)),
            );
        }
        holders
    }
}

/// Whether every reference count equals its number of holders.
pub fn refcounts_balance(k: &Kernel, world: &World, design: &Design) -> bool {
    counts_balance(k, world, design, true)
}

/// The same, of programs only if they are asked for.
pub(crate) fn counts_balance(k: &Kernel, world: &World, design: &Design, progs: bool) -> bool {
    // Whose reference a socket holds whose kdata is gone cannot be told: following the pointer will tell.
    let mut socks = k.socks.iter().filter_map(|s| s.kdata);
    if socks.any(|s| k.kdatas.get(s).is_none()) {
        return true;
    }
    let holders = Holders::of(k, world, design);
    let maps = k
        .maps
        .iter()
        .all(|(key, map)| usize::from(map.refs) == holders.maps[key.slot()]);
    let links = k
        .links
        .iter()
        .all(|(key, link)| usize::from(link.refs) == holders.links[key.slot()]);
    let mut attachments = k.kdatas.iter().filter(|(_, d)| d.attachment);
    maps && links
        && attachments.all(|(key, d)| usize::from(d.refs) == holders.attachments[key.slot()])
        && (!progs || programs_balance(k, world, design))
}

/// The same of programs.
fn programs_balance(k: &Kernel, world: &World, design: &Design) -> bool {
    let mut progs = k.progs.iter().enumerate().take(world.progs.len());
    progs.all(|(i, prog)| {
        let has = |decl: u8| {
            world.maps[usize::from(decl)]
                .progs
                .iter()
                .position(|p| *p == Some(i as u8))
        };
        let maps = k
            .maps
            .iter()
            .filter(|(_, m)| has(m.decl).is_some_and(|member| m.filled & (1 << member) != 0));
        let attachments = k.kdatas.iter().filter(|(_, d)| {
            d.attachment && design.progs == ProgOwner::Attachment && has(d.decl).is_some()
        });
        let runs = k.cpus.iter().filter(|c| {
            let test_run = c.op == OpKind::TestRun && c.image.is_some();
            test_run && usize::from(c.arg) == i
                || c.runs_alone().is_some_and(|prog| usize::from(prog) == i)
        });
        let holders = prog.fds.count_ones() as usize
            + usize::from(prog.armed)
            + maps.count()
            + attachments.count()
            + runs.count();
        usize::from(prog.refs) == holders
    })
}

/// Whether this kdata is registered through two links, and no other one is.
pub(crate) fn first_to_have_two_links(k: &Kernel, kdata: KdataKey) -> bool {
    k.kdatas
        .iter()
        .all(|(key, d)| (d.registered > 1) == (key == kdata))
}

/// Whether anything is left once every fd is closed; to be asked when nothing more can happen.
pub fn no_leak(k: &Kernel, world: &World) -> bool {
    k.maps.is_empty()
        && k.links.is_empty()
        && k.kdatas.is_empty()
        && k.images.is_empty()
        && k.ksyms.is_empty()
        && k.progs.iter().take(world.progs.len()).all(|p| p.freed)
        && k.module.refs == 0
        && k.subsys.own.objects.iter().all(|n| *n == 0)
        && (world.script.subsystems.is_empty() || k.subsys.regs.iter().all(Option::is_none))
}

/// Whether a deferred free is still under way; to be asked when nothing more can happen.
pub fn eventual_release(k: &Kernel, world: &World) -> bool {
    k.maps.iter().all(|(_, m)| m.free.stage == Stage::None)
        && k.kdatas.iter().all(|(_, d)| d.free.stage == Stage::None)
        && k.progs
            .iter()
            .take(world.progs.len())
            .all(|p| p.free.stage == Stage::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_invariants_has_those_that_were_put_in() {
        for one in Invariant::ALL {
            let mut set = InvariantSet::default();
            set.insert(*one);
            assert!(set.iter().eq([*one]));
            assert!(
                Invariant::ALL
                    .iter()
                    .all(|i| set.contains(*i) == (i == one))
            );
            let mut both = InvariantSet::default();
            both.insert(Invariant::NoLeak);
            both.extend(set);
            assert!(both.contains(*one) && both.contains(Invariant::NoLeak));
        }
        assert_eq!(InvariantSet::default().iter().count(), 0);
    }
}
