//! What a broken promise looks like on a kernel: the one table from promises to what can be seen, and the looking.
//!
//! Pure: a record and a console in, symptoms out. What the model predicts is not known here.

use std::collections::BTreeMap;

use struct_ops_model::Invariant;
use struct_ops_model::world::{Body, Operation, World};

use super::program::Round;
use super::record::{Done, Read, Record};

/// Something that can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Symptom {
    /// A program read a cookie that belongs to no attachment through which it can have been called.
    WrongCookie,
    /// The kernel executed or followed what is gone.
    Crash,
    /// The kernel's own check of its lists complains.
    List,
    /// Somebody does not return.
    Hang,
    /// Ids or references are left.
    Left,
    /// A trampoline is left in kallsyms, or one runs that is not there.
    Ksyms,
    /// An operation that failed changed what others see.
    AfterFailure,
    /// An attach succeeds that is refused on mainline.
    NotRefused,
    /// A call returned what no bpf(2) command returns.
    Result,
    /// The kernel complained of something else.
    Complaint,
    /// The VM ended without a word of the kernel or of the runner.
    Lost,
    /// No run of the model explains what was seen.
    Unexplained,
}

/// The table: the promise that a symptom shows to be broken, and others whose end it may be.
struct Row {
    symptom: Symptom,
    word: &'static str,
    shows: Option<Invariant>,
    or: &'static [Invariant],
}

use Invariant::{
    CookieFidelity, ErrnoContract, EventualRelease, FailureAtomic, KsymsMatchImages, NoDeadlock,
    NoForeignUnreg, NoLeak, NoTornPublish, NoUseAfterFree, RefcountsBalance, RefusalsKept,
    SingleLinkPerMap,
};

const TABLE: [Row; 12] = [
    Row {
        symptom: Symptom::WrongCookie,
        word: "wrong cookie",
        shows: Some(CookieFidelity),
        or: &[NoTornPublish],
    },
    Row {
        symptom: Symptom::Crash,
        word: "crash",
        shows: Some(NoUseAfterFree),
        or: &[
            NoTornPublish,
            RefcountsBalance,
            SingleLinkPerMap,
            KsymsMatchImages,
            FailureAtomic,
        ],
    },
    Row {
        symptom: Symptom::List,
        word: "list corruption",
        shows: Some(NoDeadlock),
        or: &[
            NoUseAfterFree,
            SingleLinkPerMap,
            FailureAtomic,
            KsymsMatchImages,
        ],
    },
    Row {
        symptom: Symptom::Hang,
        word: "hang",
        shows: Some(NoDeadlock),
        // A list that leads into freed memory need not come to an end.
        or: &[EventualRelease, NoUseAfterFree, KsymsMatchImages],
    },
    Row {
        symptom: Symptom::Left,
        word: "left behind",
        shows: Some(NoLeak),
        or: &[RefcountsBalance, EventualRelease],
    },
    Row {
        symptom: Symptom::Ksyms,
        word: "kallsyms",
        shows: Some(KsymsMatchImages),
        or: &[NoLeak, FailureAtomic],
    },
    Row {
        symptom: Symptom::AfterFailure,
        word: "changed by a failure",
        shows: Some(FailureAtomic),
        or: &[KsymsMatchImages, NoUseAfterFree],
    },
    Row {
        symptom: Symptom::NotRefused,
        word: "not refused",
        shows: Some(RefusalsKept),
        or: &[SingleLinkPerMap],
    },
    Row {
        symptom: Symptom::Result,
        word: "result",
        shows: Some(ErrnoContract),
        or: &[],
    },
    Row {
        symptom: Symptom::Complaint,
        word: "complaint",
        shows: None,
        or: &[NoForeignUnreg],
    },
    Row {
        symptom: Symptom::Unexplained,
        word: "unexplained",
        shows: None,
        or: &[],
    },
    Row {
        symptom: Symptom::Lost,
        word: "lost VM",
        shows: None,
        or: &[],
    },
];

impl Symptom {
    /// Every one.
    pub const ALL: [Symptom; TABLE.len()] = {
        let mut all = [Symptom::Lost; TABLE.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = TABLE[at].symptom;
            at += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        let found = TABLE.iter().find(|row| row.symptom == self);
        found.expect("every symptom has a row")
    }

    /// The word in tables.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The promise that it shows to be broken, among those that `broken` says are.
    pub fn shows(self, broken: impl Fn(Invariant) -> bool) -> Option<Invariant> {
        let row = self.row();
        let all = row.shows.iter().chain(row.or);
        all.copied().find(|invariant| broken(*invariant))
    }

    /// The promise that it speaks of if none is known to be broken.
    pub fn first(self) -> Option<Invariant> {
        self.row().shows
    }
}

/// Whether a broken promise can be seen on a kernel at all.
pub fn observable(invariant: Invariant) -> bool {
    TABLE.iter().any(|row| row.shows == Some(invariant))
}

/// A symptom, seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What.
    pub symptom: Symptom,
    /// In words.
    pub what: String,
    /// The round, if it was in one.
    pub round: Option<usize>,
}

/// How a boot ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// What the kernel complained of.
    pub complaint: Option<String>,
    /// Why the VM ended, if not by its own word.
    pub lost: Option<String>,
}

/// What a complaint of the kernel is a symptom of.
fn complaint(text: &str) -> Symptom {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["bpf_ksym_add", "bpf_ksym_del", "bpf_ksym_find"]) {
        // kallsyms lists what is freed, or what is listed already
        Symptom::Ksyms
    } else if has(&["list_add", "list_del"]) {
        Symptom::List
    } else if has(&[
        "Oops",
        "BUG: KASAN",
        "BUG: unable",
        "NULL pointer dereference",
        "general protection",
        "stack segment",
    ]) {
        Symptom::Crash
    } else if has(&[
        "lockup",
        "INFO: task",
        "INFO: rcu",
        "circular locking",
        "recursive locking",
    ]) {
        Symptom::Hang
    } else {
        Symptom::Complaint
    }
}

/// Looks at a record of `rounds`, which are numbered as in the record, and at the end of its boot.
pub fn look(rounds: &[Round], cookie: bool, record: &Record, end: &End) -> Vec<Seen> {
    let mut seen = Vec::new();
    for round in &record.rounds {
        let Some(ran) = rounds.get(round.number) else {
            continue;
        };
        let at = |symptom, what| Seen {
            symptom,
            what,
            round: Some(round.number),
        };
        let all: Vec<(Operation, &Done)> = operations(ran, round);
        if cookie {
            seen.extend(
                wrong_cookies(&ran.world, &all)
                    .into_iter()
                    .map(|w| at(Symptom::WrongCookie, w)),
            );
        }
        seen.extend(foreseen(ran, round).map(|what| at(Symptom::WrongCookie, what)));
        for (operation, done) in &all {
            if done.result > 0 || done.result < -4095 {
                let what = format!("{} returned {}", operation.kind().name(), done.result);
                seen.push(at(Symptom::Result, what));
            }
            let unnamed = |read: &&Read| read.unnamed && read.cpu == done.cpu;
            if let Some(read) = done.reads.iter().find(unnamed) {
                let name = &ran.world.progs[usize::from(read.prog)].name;
                let what = format!(
                    "{name} ran in a trampoline that kallsyms does not name, in {}",
                    operation.kind().name()
                );
                seen.push(at(Symptom::Ksyms, what));
            }
            let calls = matches!(
                operation,
                Operation::SockCall { .. } | Operation::Call { .. }
            );
            // a program that moves its socket away may have been the last user
            let stays = ran.world.progs.iter().all(|prog| prog.body != Body::Switch);
            if calls && stays && done.ksyms == Some(0) && !done.reads.is_empty() {
                let what = "a program ran and kallsyms names no trampoline".to_owned();
                seen.push(at(Symptom::Ksyms, what));
            }
        }
        if !ran.turns.is_empty() || ran.is_by_turns() {
            seen.extend(failures(&all).map(|what| at(Symptom::AfterFailure, what)));
            let untied = untied(&ran.world, &all).into_iter();
            seen.extend(untied.map(|what| at(Symptom::AfterFailure, what)));
        }
        for (cpu, operation) in &round.hang {
            let name = ran
                .plan(*cpu)
                .get(*operation)
                .map_or("", |o| o.kind().name());
            seen.push(at(
                Symptom::Hang,
                format!("cpu{cpu} does not return from {name}"),
            ));
        }
        if round.staying > 0 && round.hang.is_empty() {
            let what = "a process does not end, and its operations have returned";
            seen.push(at(Symptom::Hang, what.to_owned()));
        }
    }
    let last = record.rounds.last().map(|round| round.number);
    if let Some(text) = &end.complaint {
        seen.push(Seen {
            symptom: complaint(text),
            what: text.clone(),
            round: last,
        });
    } else if let Some(why) = end.lost.as_ref().filter(|_| record.runner.is_none()) {
        let symptom = if why.starts_with("hangs") {
            Symptom::Hang
        } else {
            Symptom::Lost
        };
        seen.push(Seen {
            symptom,
            what: why.clone(),
            round: last,
        });
    }
    if let Some(left) = record.left {
        let mut parts = Vec::new();
        for (count, name) in [
            (left.maps, "map"),
            (left.progs, "program"),
            (left.links, "link"),
            (left.module, "module reference"),
        ] {
            if count > 0 {
                parts.push(format!(
                    "{count} {name}{}",
                    if count == 1 { "" } else { "s" }
                ));
            }
        }
        if !parts.is_empty() {
            let what = format!("{} left when everything is closed", parts.join(", "));
            seen.push(Seen {
                symptom: Symptom::Left,
                what,
                round: None,
            });
        }
        if left.ksyms > 0 {
            let what = format!("{} trampolines left in kallsyms", left.ksyms);
            seen.push(Seen {
                symptom: Symptom::Ksyms,
                what,
                round: None,
            });
        }
    }
    seen
}

/// What was carried out, the set-up first, then in the order in which it began.
fn operations<'a>(ran: &Round, round: &'a super::record::Round) -> Vec<(Operation, &'a Done)> {
    let setup = round
        .setup
        .iter()
        .filter_map(|d| Some((*ran.world.setup.get(d.number)?, d)));
    let mut done: Vec<_> = round
        .done
        .iter()
        .filter_map(|d| Some((*ran.plan(d.cpu).get(d.number)?, d)))
        .collect();
    done.sort_by_key(|(_, d)| d.invoked);
    setup.chain(done).collect()
}

/// The cookie that a replay shall read, where no other attachment accounts for it.
fn foreseen(ran: &Round, round: &super::record::Round) -> Option<String> {
    let wanted = ran.foreseen?;
    let mut done = round.done.iter();
    let done = done.find(|done| (done.cpu, done.number) == (wanted.cpu, wanted.number))?;
    let is =
        |read: &&Read| (read.prog, read.cookie, read.cpu) == (wanted.prog, wanted.cookie, done.cpu);
    done.reads.iter().find(is)?;
    let name = &ran.world.progs[usize::from(wanted.prog)].name;
    Some(format!(
        "{name} reads {:#x}, called through the attachment with {:#x}",
        wanted.cookie, wanted.right
    ))
}

/// A cookie that none of the attachments has through which the program can have been called: those of maps that have
/// it and were attached with success, and the one whose link_create is under way on the same CPU.
fn wrong_cookies(world: &World, all: &[(Operation, &Done)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let created = |prog: u8, own: &Done| {
        let attached = all
            .iter()
            .filter_map(move |(operation, done)| match *operation {
                Operation::LinkCreate { map, cookie, .. }
                | Operation::SysBpfLinkCreate { map, cookie, .. }
                    if done.result == 0 || std::ptr::eq(*done, own) =>
                {
                    let has = world.maps[usize::from(map)].progs.contains(&Some(prog));
                    has.then(|| world.cookies[usize::from(cookie)])
                }
                _ => None,
            });
        attached.collect::<Vec<u64>>()
    };
    // a plain map, and a link that another map took over with its cookie
    let other_ways = all
        .iter()
        .any(|(operation, _)| matches!(operation, Operation::LinkUpdate { .. }));
    // BPF_PROG_TEST_RUN is of no attachment
    let tests = |operation: &Operation| matches!(operation, Operation::TestRun { .. });
    for (operation, done) in all.iter().filter(|(operation, _)| !tests(operation)) {
        for read in done.reads.iter().filter(|read| read.cpu == done.cpu) {
            let mut right = match certain(world, all, operation, done) {
                Some(cookie) => vec![cookie],
                None => created(read.prog, done),
            };
            if other_ways {
                right.extend(&world.cookies);
            }
            if world.maps.iter().any(|map| !map.link) {
                right.push(0);
            }
            if !right.contains(&read.cookie) {
                let name = &world.progs[usize::from(read.prog)].name;
                let of: Vec<String> = right.iter().map(|c| format!("{c:#x}")).collect();
                let of = if of.is_empty() {
                    "none".to_owned()
                } else {
                    of.join(" and ")
                };
                wrong.push(format!(
                    "{name} reads {:#x} in {}; attached with success: {of}",
                    read.cookie,
                    operation.kind().name()
                ));
            }
        }
    }
    wrong
}

/// The cookie of the attachment through which a call came that names it by its place: one that the set-up made, while
/// nobody had begun to take any away.
fn certain(
    world: &World,
    all: &[(Operation, &Done)],
    operation: &Operation,
    done: &Done,
) -> Option<u64> {
    let Operation::Call { entry, .. } = *operation else {
        return None;
    };
    // its place is among those of the type that is called
    let called = world.called_by(operation.kind())?;
    let is_called = |map: u8| std::ptr::eq(called, &world.types[world.maps[usize::from(map)].ty]);
    let creates = |operation: &Operation| match *operation {
        Operation::LinkCreate { map, cookie, .. } if is_called(map) => {
            Some(world.cookies[usize::from(cookie)])
        }
        _ => None,
    };
    let keeps = |operation: &Operation| {
        matches!(
            operation,
            Operation::MapCreate { .. }
                | Operation::MapUpdate { .. }
                | Operation::LinkCreate { .. }
                | Operation::Call { .. }
        )
    };
    let until = done.returned.unwrap_or(u64::MAX);
    if !all
        .iter()
        .all(|(other, at)| at.invoked > until || keeps(other))
        || world.maps.iter().any(|map| !map.link)
    {
        return None;
    }
    let made: Vec<u64> = world.setup.iter().filter_map(creates).collect();
    made.get(usize::from(entry)).copied()
}

/// By turns, nobody else did anything between the counts before and after an operation that failed.
fn failures(all: &[(Operation, &Done)]) -> impl Iterator<Item = String> {
    all.windows(2).filter_map(|pair| {
        let [(_, before), (operation, after)] = pair else {
            return None;
        };
        let (was, is) = (before.ksyms?, after.ksyms?);
        let builds = matches!(
            operation,
            Operation::LinkCreate { .. }
                | Operation::MapUpdate { .. }
                | Operation::LinkUpdate { .. }
        );
        (after.result < 0 && builds && is > was).then(|| {
            format!(
                "{} failed, and kallsyms names {is} trampolines instead of {was}",
                operation.kind().name()
            )
        })
    })
}

/// By turns, an operation that failed, and a program that was tied to a map before it and is not any more. A map that was
/// closed before goes when it goes, and takes its programs along.
fn untied(world: &World, all: &[(Operation, &Done)]) -> Vec<String> {
    let mut lost = Vec::new();
    for (place, pair) in all.windows(2).enumerate() {
        let [(_, before), (operation, after)] = pair else {
            continue;
        };
        let (Some(was), Some(is)) = (before.tied, after.tied) else {
            continue;
        };
        let goes = all[..=place].iter().any(|(operation, _)| {
            matches!(
                operation,
                Operation::MapClose { .. } | Operation::ProgClose { .. } | Operation::Exit {}
            )
        });
        if after.result >= 0 || goes || was & !is == 0 {
            continue;
        }
        let prog = (was & !is).trailing_zeros() as usize;
        lost.push(format!(
            "{} failed, and {} is tied to no map any more",
            operation.kind().name(),
            world.progs[prog].name
        ));
    }
    lost
}

/// So many times each, one line a symptom: the first of each kind in full.
pub fn summary(seen: &[Seen]) -> BTreeMap<Symptom, (usize, String)> {
    let mut all: BTreeMap<Symptom, (usize, String)> = BTreeMap::new();
    for seen in seen {
        all.entry(seen.symptom).or_insert((0, seen.what.clone())).0 += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::program::{Target, rounds};
    use crate::series::Base;

    fn two_links(turns: bool) -> Vec<Round> {
        let target = Target {
            base: Base::V6_12,
            cookie: true,
            modules: true,
        };
        let scenario = struct_ops_sim::shipped::find("two-links-tcp").unwrap();
        let mut rounds = rounds(&scenario.world, &target, 1, 1);
        if !turns {
            rounds[0].turns.clear();
        }
        rounds
    }

    fn looked(text: &str, end: &End) -> Vec<Symptom> {
        let mut record = Record::default();
        text.lines().for_each(|line| record.line(line));
        look(&two_links(true), true, &record, end)
            .iter()
            .map(|seen| seen.symptom)
            .collect()
    }

    const SETUP: &str =
        "@r 0\n@s 0 0 0 1 0 0 0 0\n@s 0 1 2 3 0 0 0 0\n@s 0 2 4 5 0 0 0 2\n@s 0 3 6 7 0 0 0 2\n";

    /// A kernel without fault: two links of one map, the second is refused, the first one's program reads its cookie.
    const RIGHT: &str =
        "@o 0 0 8 9 -17 0 0 2\n@o 1 0 10 11 0 0 0 2\n@c 1 0 0 0 11 1\n@d 0 7\n@left 0 0 0 0 0";

    /// The symptom; what stands in the record of [`RIGHT`], and what stood there instead; the complaint; why the VM ended.
    type Broken = (
        Symptom,
        &'static str,
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
    );

    /// What broken kernels showed, one or more for each row of the table: lines of the record in the place of those of
    /// [`RIGHT`], the complaint, and why the VM ended. The complaints have the form in which the kernel prints them.
    const BROKEN: &[Broken] = &[
        // rfc: the second link has rewritten the map's kvalue
        (
            Symptom::WrongCookie,
            "@c 1 0 0 0 11 1",
            "@c 1 0 0 0 22 1",
            None,
            None,
        ),
        // rfc: the failing attach has freed the first link's trampolines
        (
            Symptom::Crash,
            RIGHT,
            "",
            Some("Oops: int3: 0000 [#1] PREEMPT SMP KASAN"),
            Some("kernel panic"),
        ),
        (
            Symptom::Crash,
            RIGHT,
            "",
            Some("BUG: kernel NULL pointer dereference, address: 0000000000000020"),
            None,
        ),
        // stock: a link is updated to the map that it is attached to
        (
            Symptom::List,
            RIGHT,
            "",
            Some(
                "list_add double add: new=ffff88800688c3b0, prev=ffff88800688c3b0, next=ffffffff82a5e1c0.",
            ),
            Some("kernel panic"),
        ),
        // the same without hardened lists: the next lookup of a name never ends
        (Symptom::Hang, "@d 0 7", "@hang 1 0\n@d 1 7", None, None),
        (Symptom::Hang, "@d 0 7", "@d 1 7", None, None),
        (
            Symptom::Hang,
            RIGHT,
            "",
            Some("INFO: task labrun:71 blocked for more than 120 seconds."),
            None,
        ),
        (
            Symptom::Hang,
            RIGHT,
            "",
            None,
            Some("hangs: no line for 90 s"),
        ),
        // rfc: every attach keeps its ksyms
        (Symptom::Left, "@left 0 0 0", "@left 1 2 0", None, None),
        (Symptom::Ksyms, "@left 0 0 0 0", "@left 0 0 0 3", None, None),
        (
            Symptom::Ksyms,
            "@o 1 0 10 11 0 0 0 2",
            "@o 1 0 10 11 0 0 0 0",
            None,
            None,
        ),
        (
            Symptom::Ksyms,
            "@c 1 0 0 0 11 1",
            "@c 1 0 0 0 11 1 1",
            None,
            None,
        ),
        // rfc: what a failing attach has freed is still listed, and then there is another entry in its place
        (
            Symptom::Ksyms,
            RIGHT,
            "",
            Some("WARNING: CPU: 1 PID: 82 at kernel/bpf/core.c:667 bpf_ksym_add+0x7a/0x90"),
            Some("kernel panic"),
        ),
        (
            Symptom::AfterFailure,
            "@o 0 0 8 9 -17 0 0 2",
            "@o 0 0 8 9 -17 0 0 4",
            None,
            None,
        ),
        // 7.3: map_update of a map that takes a program of another one
        (
            Symptom::AfterFailure,
            "@o 0 0 8 9 -17 0 0 2\n@o 1 0 10 11 0 0 0 2",
            "@o 1 0 8 9 0 0 0 2 3\n@o 0 0 10 11 -22 0 0 2 2",
            None,
            None,
        ),
        // stock: map_update of a value that sets the module owner returns 1
        (
            Symptom::Result,
            "@o 1 0 10 11 0 0 0 2",
            "@o 1 0 10 11 1 0 0 2",
            None,
            None,
        ),
        (
            Symptom::Complaint,
            RIGHT,
            "",
            Some("WARNING: suspicious RCU usage"),
            None,
        ),
        (
            Symptom::Lost,
            RIGHT,
            "",
            None,
            Some("the VM ended without a word"),
        ),
    ];

    /// Seen by the search, and not here: `explain` has its test.
    const ELSEWHERE: [Symptom; 2] = [Symptom::Unexplained, Symptom::NotRefused];

    #[test]
    fn every_symptom_is_seen_and_nothing_else() {
        let seen = |rest: &str, end: &End| looked(&format!("{SETUP}{rest}"), end);
        assert_eq!(seen(RIGHT, &End::default()), []);
        for (symptom, right, wrong, complaint, lost) in BROKEN {
            assert!(RIGHT.contains(right), "{right}");
            let end = End {
                complaint: complaint.map(Into::into),
                lost: lost.map(Into::into),
            };
            let seen = seen(&RIGHT.replace(right, wrong), &end);
            assert_eq!(seen, [*symptom], "{wrong} {end:?}");
        }
        for symptom in Symptom::ALL {
            let known = BROKEN.iter().any(|broken| broken.0 == symptom);
            assert!(known != ELSEWHERE.contains(&symptom), "{}", symptom.word());
        }
        // on another CPU: not what was called here
        let elsewhere = RIGHT.replace("@c 1 0 0 0 11 1", "@c 1 0 0 0 22 0");
        assert_eq!(seen(&elsewhere, &End::default()), []);
    }

    #[test]
    fn a_replay_foresees_a_cookie() {
        let mut round = two_links(false).remove(0);
        round.foreseen = Some(crate::scenario::program::Foreseen {
            cpu: 1,
            number: 0,
            prog: 0,
            cookie: 0x22,
            right: 0x11,
        });
        let shown = |text: &str| {
            let mut record = Record::default();
            text.lines().for_each(|line| record.line(line));
            let seen = look(&[round.clone()], false, &record, &End::default());
            seen.iter().map(|seen| seen.symptom).collect::<Vec<_>>()
        };
        assert_eq!(shown(&format!("{SETUP}{RIGHT}")), []);
        let wrong = RIGHT.replace("@c 1 0 0 0 11 1", "@c 1 0 0 0 22 1");
        assert_eq!(shown(&format!("{SETUP}{wrong}")), [Symptom::WrongCookie]);
    }

    #[test]
    fn a_symptom_shows_what_is_broken_or_nothing() {
        assert_eq!(
            Symptom::Crash.shows(|i| i == NoTornPublish),
            Some(NoTornPublish)
        );
        assert_eq!(Symptom::Crash.shows(|i| i == NoLeak), None);
        assert_eq!(Symptom::Lost.shows(|_| true), None);
        assert!(observable(NoLeak) && !observable(Invariant::TextImmutable));
    }
}
