//! Random schedulers, programs of all kinds, attachments, cookies and orders of going: what the designs promise of
//! lookups holds in all of them. Exhaustive explorations are elsewhere (`sim`); these reach worlds too large for them.

use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};
use struct_ops_model::design::{CookieRead, Identity, MapIdIn};
use struct_ops_model::reach::context::{CONTEXTS, Hook, Kind, Slot, Way};
use struct_ops_model::reach::state::{Life, POISON, ProgLife, State};
use struct_ops_model::reach::world::{Attachment, Loader, Op, Prog, Sched, Source, World};
use struct_ops_model::reach::{Action, Found, Reach, Report};
use struct_ops_model::{Design, Invariant};

/// What a loader equips its programs with.
fn source(design: &Design, kind: Kind) -> Source {
    let slot = match design.identity {
        Identity::Cookie | Identity::MapExtra => kind.facts().slot != Slot::Nowhere,
        _ => false,
    };
    match design.identity {
        Identity::None | Identity::ThisPointer | Identity::Association => Source::Kernel,
        Identity::Task => Source::Task,
        _ if slot && kind.way.is_callback() => Source::Stash,
        _ if slot && kind.way != Way::Freplace => Source::Helper,
        _ => Source::Global,
    }
}

/// Loaders that make no mistake: schedulers with distinct cookies and ids, each with a tracer of a random kind and
/// an object file of its own, or one struct_ops program in several maps.
#[derive(Clone, Debug)]
struct Plan {
    /// Per scheduler: the kind of its struct_ops program and of its tracer.
    kinds: Vec<(Kind, Kind)>,
    /// All maps have the first scheduler's struct_ops program.
    shared: bool,
    cpus: u8,
    depth: u8,
    split: bool,
    /// Which of the enabled actions is taken, modulo their number.
    schedule: Vec<u16>,
}

impl Arbitrary for Plan {
    fn arbitrary(g: &mut Gen) -> Self {
        let kind = |g: &mut Gen, member: bool| {
            let contexts: Vec<u8> = (0u8..)
                .zip(CONTEXTS)
                .filter(|(_, c)| (c.hook == Hook::Member) == member)
                .map(|c| c.0)
                .collect();
            let ways = [
                Way::Direct,
                Way::Direct,
                Way::Subprog,
                Way::Loop,
                Way::Timer,
                Way::Wq,
            ];
            Kind {
                context: *g.choose(&contexts).unwrap(),
                way: *g.choose(&ways).unwrap(),
            }
        };
        let count = *g.choose(&[1, 2, 2, 3]).unwrap();
        Plan {
            kinds: (0..count)
                .map(|_| (kind(g, true), kind(g, false)))
                .collect(),
            shared: *g.choose(&[false, false, true]).unwrap(),
            cpus: *g.choose(&[1, 2]).unwrap(),
            depth: *g.choose(&[1, 2, 3]).unwrap(),
            split: bool::arbitrary(g),
            schedule: (0..400).map(|_| u16::arbitrary(g)).collect(),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let plan = self.clone();
        let shorter = (1..=4).map(move |n| Plan {
            schedule: plan.schedule[..plan.schedule.len() * (4 - n) / 4].to_vec(),
            ..plan.clone()
        });
        Box::new(shorter)
    }
}

impl Plan {
    fn world(&self, design: &Design) -> World {
        let mut world = World {
            cpus: self.cpus,
            depth: self.depth,
            split: self.split,
            subs: true,
            ..World::default()
        };
        for (i, (member, tracer)) in (0u8..).zip(&self.kinds) {
            for (kind, name) in [(member, "tick"), (tracer, "probe")] {
                world.progs.push(Prog {
                    name: format!("{name}{i}"),
                    kind: *kind,
                    callee: None,
                    is_callee: false,
                    object: i,
                    source: source(design, *kind),
                    asks: true,
                });
            }
            world.objects.push(i.to_string());
            world.scheds.push(Sched {
                name: i.to_string(),
                key: 0x11 * (i + 1),
                map_id: i + 1,
                members: vec![if self.shared { 0 } else { 2 * i }],
            });
            world.attachments.push(Attachment {
                name: i.to_string(),
                prog: 2 * i + 1,
                sched: i,
                cookie: 0x11 * (i + 1),
            });
            world.loaders.push(Loader {
                first: vec![
                    Op::Load(i),
                    Op::MapCreate(i),
                    Op::MapUpdate(i),
                    Op::Associate(2 * i + 1, i),
                    Op::Associate(2 * i + 1, i),
                    Op::Store(i, i),
                    Op::Attach(i),
                    Op::LinkCreate(i),
                    Op::LinkClose(i),
                    Op::LinkCreate(i),
                ],
                later: vec![
                    Op::Error(i),
                    Op::LinkClose(i),
                    Op::Detach(i),
                    Op::MapClose(i),
                    Op::Exit(i),
                ],
                after: None,
            });
        }
        world
    }

    /// Walks; `step` is told the state before, the action, the state after and what the step reported.
    fn walk(
        &self,
        design: &Design,
        mut step: impl FnMut(&Reach, &State, Action, &State, &Report) -> Result<(), String>,
    ) -> Result<usize, String> {
        let reach = Reach::new(self.world(design), design.clone());
        let mut state = reach.initial();
        let mut own = 0;
        for choice in &self.schedule {
            let mut actions = Vec::new();
            reach.enabled(&state, &mut actions);
            let Some(action) = actions.get(usize::from(*choice) % actions.len().max(1)) else {
                break;
            };
            let before = state;
            let mut report = Report::default();
            reach.apply(&mut state, *action, &mut report, None);
            own += usize::from(matches!(report.found, Some(Found::Own(_))));
            step(&reach, &before, *action, &state, &report)
                .map_err(|e| format!("{design}: {action:?}: {e}"))?;
            if report.fatal {
                break;
            }
        }
        Ok(own)
    }
}

/// What a property says of one step.
type Check = fn(&Reach, &State, Action, &State, &Report) -> Result<(), String>;

/// The property holds in every step of the plan, under every design.
fn holds(plan: &Plan, designs: &[&str], check: Check) -> TestResult {
    for design in designs {
        let design = Design::parse(design).unwrap();
        if let Err(e) = plan.walk(&design, check) {
            return TestResult::error(e);
        }
    }
    TestResult::passed()
}

fn quickcheck(prop: fn(Plan) -> TestResult) {
    QuickCheck::new().tests(300).quickcheck(prop);
}

const PROMISING: [&str; 8] = [
    "rfc",
    "rfc-one-link",
    "link-owned",
    "map-id",
    "map-id,map-id-in=slot",
    "map-extra",
    "this-pointer",
    "association",
];

#[test]
fn a_program_finds_its_own_scheduler_or_nothing() {
    fn prop(plan: Plan) -> TestResult {
        // An id in a global variable is one for all that share the object file: nothing is promised there.
        let promising: Vec<&str> = PROMISING
            .into_iter()
            .filter(|d| !plan.shared || !d.starts_with("map-id"))
            .collect();
        holds(&plan, &promising, |_, _, _, _, report| {
            let wrong = [
                Invariant::NoOtherScheduler,
                Invariant::NoDeadScheduler,
                Invariant::NoFreedScheduler,
            ];
            match report.violations.iter().find(|v| wrong.contains(v)) {
                Some(v) => Err(v.id().into()),
                None => Ok(()),
            }
        })
    }
    quickcheck(prop);
}

#[test]
fn every_count_is_the_number_of_holders() {
    fn prop(plan: Plan) -> TestResult {
        holds(
            &plan,
            &["this-pointer", "association"],
            |_, _, _, _, report| {
                if report.violations.contains(&Invariant::AssocRules) {
                    return Err("assoc-rules".into());
                }
                Ok(())
            },
        )
    }
    quickcheck(prop);
}

#[test]
fn the_getter_changes_no_reference() {
    fn prop(plan: Plan) -> TestResult {
        holds(&plan, &["association"], |_, before, action, after, _| {
            let counts = |s: &State| (s.scheds.map(|s| s.refs), s.progs.map(|p| p.refs));
            match action {
                Action::Ask(_) | Action::Use(_) if counts(before) != counts(after) => {
                    Err("a count has changed".into())
                }
                _ => Ok(()),
            }
        })
    }
    quickcheck(prop);
}

#[test]
fn poison_stays() {
    fn prop(plan: Plan) -> TestResult {
        holds(&plan, &["association"], |_, before, _, after, _| {
            let lost =
                before.progs.iter().zip(&after.progs).any(|(b, a)| {
                    b.assoc == POISON && a.assoc != POISON && a.life == ProgLife::Loaded
                });
            if lost {
                Err("a pointer is no longer poisoned".into())
            } else {
                Ok(())
            }
        })
    }
    quickcheck(prop);
}

#[test]
fn associating_again_changes_nothing() {
    fn prop(plan: Plan) -> TestResult {
        holds(
            &plan,
            &["association"],
            |reach, before, action, after, _| {
                let Action::Loader(_, Op::Associate(prog, sched)) = action else {
                    return Ok(());
                };
                let p = usize::from(prog);
                if before.progs[p].assoc != sched + 1 {
                    return Ok(());
                }
                let same = before.progs == after.progs && before.scheds == after.scheds;
                if same {
                    Ok(())
                } else {
                    Err(format!("{} has changed", reach.world.progs[p].name))
                }
            },
        )
    }
    quickcheck(prop);
}

/// A task says whose it is, not who asks: the same for every caller, and the caller's own for members alone.
#[test]
fn a_task_leads_to_its_scheduler_whoever_asks() {
    fn prop(plan: Plan) -> TestResult {
        holds(&plan, &["task"], |_, before, action, _, report| {
            let Action::AskTask(cpu, task) = action else {
                return Ok(());
            };
            let cpu = &before.cpus[usize::from(cpu)];
            let frame = cpu.frames[usize::from(cpu.depth) - 1];
            let enabled = before.scheds[usize::from(task)].life == Life::Enabled;
            let its = if enabled { task + 1 } else { before.root };
            let another = its != 0 && its != frame.sched + 1;
            if report.violations.contains(&Invariant::NoOtherScheduler) == another {
                Ok(())
            } else {
                Err(format!(
                    "asked for {}, the task is of {its}",
                    frame.sched + 1
                ))
            }
        })
    }
    quickcheck(prop);
}

#[test]
fn packed_states_unpack() {
    fn prop(plan: Plan) -> TestResult {
        holds(&plan, &["rfc", "association"], |_, _, _, after, _| {
            let mut bytes = Vec::new();
            after.encode(&mut bytes);
            if State::decode(&bytes) == *after {
                Ok(())
            } else {
                Err("another state".into())
            }
        })
    }
    quickcheck(prop);
}

/// Reading current->bpf_ctx instead of the own ctx is what the cookie's helper must not do.
#[test]
fn a_stranger_s_context_is_found_out() {
    let design = Design::parse("rfc,cookie-read=current").unwrap();
    assert_eq!(design.lookup.cookie_read, CookieRead::Current);
    assert_eq!(design.lookup.map_id_in, MapIdIn::Global);
    let mut g = Gen::new(16);
    let caught = (0..2000).any(|_| {
        let mut plan = Plan::arbitrary(&mut g);
        plan.cpus = 1;
        plan.depth = 2;
        let mut world = plan.world(&design);
        for prog in &mut world.progs {
            prog.source = Source::Kernel;
        }
        let reach = Reach::new(world, design.clone());
        let mut state = reach.initial();
        plan.schedule.iter().any(|choice| {
            let mut actions = Vec::new();
            reach.enabled(&state, &mut actions);
            let mut report = Report::default();
            if let Some(action) = actions.get(usize::from(*choice) % actions.len().max(1)) {
                reach.apply(&mut state, *action, &mut report, None);
            }
            report.violations.contains(&Invariant::NoOtherScheduler)
        })
    });
    assert!(caught);
}

/// None of the above is empty: the walks get as far as finding schedulers, dead ones and poison.
#[test]
fn walks_get_somewhere() {
    let mut g = Gen::new(16);
    let mut met = 0;
    let design = Design::parse("association").unwrap();
    for _ in 0..300 {
        let plan = Plan::arbitrary(&mut g);
        let walked = plan.walk(&design, |_, _, _, _, _| Ok(()));
        met += usize::from(walked.is_ok_and(|own| own > 0));
        plan.walk(&design, |_, _, _, after, _| {
            let poisoned = after.progs.iter().any(|p| p.assoc == POISON);
            if poisoned {
                Err("poisoned".into())
            } else {
                Ok(())
            }
        })
        .unwrap_or_else(|_| {
            met += 1 << 16;
            0
        });
    }
    assert!(
        met & 0xffff > 50,
        "own schedulers found in {} walks",
        met & 0xffff
    );
    assert!(met >> 16 > 5, "poison met in {} walks", met >> 16);
}
