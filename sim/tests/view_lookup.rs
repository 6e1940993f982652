//! What a page shows of a lookup is the model's state: it is read back from the objects, and compared with the state
//! itself, over random runs of every shipped lookup scenario under every design under which it has a meaning.

use std::collections::BTreeMap;

use struct_ops_model::reach::state::{
    Async, Cpu, Frame, GARBAGE, POISON, Prog, STOPPED, Sched, State,
};
use struct_ops_model::reach::{Reach, World};
use struct_ops_model::visit::Word;
use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::Settings;
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::scenario::{Case, ReachScenario};
use struct_ops_sim::view::lookup::{Lookup, NO_FURTHER};
use struct_ops_sim::view::state::{Kind, Object};
use struct_ops_sim::view::{self, Played, board};
use struct_ops_sim::walk::{self, path, read_path, write_path};
use struct_ops_sim::{reach, shipped};

fn word<W: Word>(name: &str) -> W {
    *W::ALL.iter().find(|w| w.name() == name).unwrap()
}

fn number(text: &str) -> u8 {
    if text.is_empty() {
        0
    } else {
        text.parse().unwrap()
    }
}

fn key(text: &str) -> u8 {
    match text {
        "" => 0,
        "garbage" => GARBAGE,
        text => u8::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap(),
    }
}

fn mask(text: &str, what: &str) -> u8 {
    let items = text.split(", ").filter(|i| !i.is_empty());
    items
        .map(|i| 1 << i.strip_prefix(what).unwrap().parse::<u8>().unwrap())
        .sum()
}

/// Where a pointer points to, from 1; 0 if it is none.
fn pointer(object: &Object, name: &str) -> u8 {
    let to = object.field(name).and_then(|f| f.to);
    to.map_or(0, |to| to.slot as u8 + 1)
}

fn map_pointer(object: &Object, name: &str) -> u8 {
    match object.value(name) {
        "POISON" => POISON,
        _ => pointer(object, name),
    }
}

fn frame(world: &World, object: &Object, n: usize) -> Frame {
    let name = |what: &str| format!("[{n}] {what}");
    let value = |what: &str| object.value(&name(what));
    let context = |text: &str| match text.strip_prefix("run_ctx of [") {
        None => 0,
        Some(rest) => rest.trim_end_matches(']').parse::<u8>().unwrap() + 1,
    };
    let sched = world.scheds.iter().position(|s| s.name == value("for"));
    Frame {
        prog: pointer(object, &name("program")) - 1,
        sched: sched.unwrap() as u8,
        cookie: key(value("cookie")),
        callback: value("callback") == "yes",
        stage: word(value("stage")),
        held: pointer(object, &name("scheduler")),
        map: map_pointer(object, &name("map")),
        saved: context(value("saved")),
    }
}

/// The state that objects tell.
fn read(world: &World, objects: &[Object]) -> State {
    let mut s = State::default();
    for o in objects {
        let i = o.id.slot;
        let value = |name: &str| o.value(name);
        match o.kind {
            Kind::Cpu => {
                let mut cpu = Cpu::default();
                while o.field(&format!("[{}] program", cpu.depth)).is_some() {
                    cpu.frames[usize::from(cpu.depth)] = frame(world, o, usize::from(cpu.depth));
                    cpu.depth += 1;
                }
                cpu.bpf_ctx = match value("current->bpf_ctx").strip_prefix("run_ctx of [") {
                    None => 0,
                    Some(rest) => rest.trim_end_matches(']').parse::<u8>().unwrap() + 1,
                };
                s.cpus[i] = cpu;
            }
            Kind::Loader => {
                s.next[i] = match value("done") {
                    NO_FURTHER => STOPPED,
                    done => number(done.split(' ').next().unwrap()),
                };
                s.done[i] = mask(value("done of the rest"), "");
            }
            Kind::File => s.globals[i] = key(value("global variable")),
            Kind::Hook => s.attached[i] = o.field("attached").is_some(),
            Kind::Prog => {
                s.progs[i] = Prog {
                    life: word(value("is")),
                    refs: number(value("refs")),
                    fd: value("fd") == "yes",
                    assoc: map_pointer(o, "st_ops_assoc"),
                };
            }
            Kind::Map => {
                s.scheds[i] = Sched {
                    map: word(value("is")),
                    refs: number(value("refs")),
                    fd: value("fd") == "yes",
                    filled: value("has programs") == "yes",
                    link: o.field("link").is_some(),
                    map_gp: mask(value("free: readers of RCU"), "cpu"),
                    ..s.scheds[i]
                };
            }
            Kind::Sched => {
                s.scheds[i] = Sched {
                    life: word(value("is")),
                    key: key(value("key")),
                    listed: value("in the table") == "yes",
                    gp: mask(value("free: readers of RCU"), "cpu"),
                    ..s.scheds[i]
                };
            }
            Kind::Timer => {
                let last = world
                    .progs
                    .iter()
                    .position(|p| p.name == value("last armed with"));
                let armed = o.field("armed with").is_some();
                s.asyncs[i] = Async {
                    armed,
                    prog: match armed {
                        true => pointer(o, "armed with") - 1,
                        false => last.unwrap_or(0) as u8,
                    },
                    stash: key(value("stash")),
                };
            }
            Kind::Subsys => s.root = pointer(o, "scx_root"),
            other => panic!("{other:?}: what is that?"),
        }
    }
    s
}

/// A run of at most so many steps, chosen by a sequence of numbers.
fn walk(reach: &Reach, mut seed: u64, most: usize) -> Vec<usize> {
    let (mut s, mut path) = (reach.initial(), Vec::new());
    while path.len() < most {
        let mut enabled = Vec::new();
        reach.enabled(&s, &mut enabled);
        if enabled.is_empty() {
            break;
        }
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let choice = (seed >> 33) as usize % enabled.len();
        let mut report = struct_ops_model::reach::Report::default();
        reach.apply(&mut s, enabled[choice], &mut report, None);
        path.push(choice);
        if report.fatal {
            break;
        }
    }
    path
}

fn lookups() -> Vec<ReachScenario> {
    let cases = shipped::all().unwrap().into_iter();
    let lookups = cases.filter_map(|case| match case {
        Case::Reach(scenario) => Some(*scenario),
        Case::Attach(_) => None,
    });
    lookups.collect()
}

#[test]
fn runs_of_every_lookup_are_shown_as_they_are() {
    let mut steps = 0;
    for scenario in lookups() {
        let case = Case::Reach(Box::new(scenario.clone()));
        for design in Design::presets() {
            if !case.runs_under(&design, false) {
                continue;
            }
            let reach = walk::lookup(&scenario, &design);
            for seed in 0..4 {
                let path = walk(&reach, seed, 70);
                let actions = path::actions(&reach, &path).unwrap();
                let run = Lookup::new(&scenario, &design, &actions).unwrap();
                assert_eq!(read_path(&write_path(&run.path())), Ok(path));
                steps += agrees(&reach, &run).0;
            }
        }
    }
    assert!(steps > 5000, "{steps}");
}

/// Compares a run with what is shown of it; gives how many states there are, and how many pointers look stale.
fn agrees(reach: &Reach, run: &Lookup<'_>) -> (usize, usize) {
    let objects = run.objects();
    let shown = run.view(&Screen::plain(72), board::ALONE);
    let (mut shapes, mut stale) = (BTreeMap::new(), 0);
    assert_eq!(objects.len(), run.states().len());
    for ((state, objects), frame) in run.states().iter().zip(&objects).zip(&shown.frames) {
        assert_eq!(read(&reach.world, objects), *state, "{}", run.title());
        for id in &frame.erase {
            shapes.remove(id);
        }
        for shape in &frame.draw {
            shapes.insert(shape.id.clone(), shape.svg.clone());
        }
        stale += drawn(objects, &shapes);
        // What can be chosen is what can happen.
        let mut enabled = Vec::new();
        reach.enabled(state, &mut enabled);
        let choices = frame.actors.iter().flat_map(|a| &a.choices);
        let mut offered: Vec<usize> = choices.map(|c| c.index).collect();
        offered.sort_unstable();
        assert_eq!(offered, (0..enabled.len()).collect::<Vec<_>>());
    }
    (objects.len(), stale)
}

/// A design under which a kfunc follows a pointer to memory that is gone.
#[test]
fn a_stale_pointer_looks_stale() {
    let case = shipped::find_case("tracer-timer-outlives-map").unwrap();
    let Case::Reach(scenario) = case else {
        panic!("a lookup");
    };
    let design = Design::parse("association,assoc-ref=getter").unwrap();
    let settings = Settings {
        threads: 2,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let found = reach::check(&scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).unwrap();
    let found = found.shortest(Invariant::NoFreedScheduler).unwrap();
    let actions = walk::actions::<Reach>(&found.actions).unwrap();
    let run = Lookup::new(&scenario, &design, &actions).unwrap();
    let (_, stale) = agrees(&walk::lookup(&scenario, &design), &run);
    assert!(stale > 0);
}

/// Every pointer is drawn, and looks stale if it is; gives how many do.
fn drawn(objects: &[Object], shapes: &BTreeMap<String, String>) -> usize {
    let mut stale = 0;
    for object in objects {
        for field in &object.fields {
            let Some(to) = field.to else { continue };
            let id = match object.kind {
                Kind::Cpu => format!("{}@{to}", object.id),
                _ => format!("{}.{}", object.id, field.name),
            };
            let svg = shapes.get(&id).unwrap_or_else(|| panic!("{id}"));
            assert_eq!(svg.contains("stale"), field.stale, "{svg}");
            stale += usize::from(field.stale);
        }
    }
    stale
}

#[test]
fn a_choice_that_there_is_not_is_refused() {
    let scenario = &lookups()[0];
    let case = Case::Reach(Box::new(scenario.clone()));
    let mut designs = Design::presets().into_iter();
    let design = designs.find(|d| case.runs_under(d, false)).unwrap();
    let refused = view::chosen(&case, &design, &[35], "--path").err().unwrap();
    let refused = refused.to_string();
    assert!(refused.contains("there is no choice 35"), "{refused}");
}

#[test]
fn where_a_run_ends_no_number_is_asked_for() {
    let scenario = &lookups()[0];
    let case = Case::Reach(Box::new(scenario.clone()));
    let mut designs = Design::presets().into_iter();
    let design = designs.find(|d| case.runs_under(d, false)).unwrap();
    let mut path = walk(&walk::lookup(scenario, &design), 1, 1000);
    assert!(path.len() < 1000);
    path.push(0);
    let refused = view::chosen(&case, &design, &path, "--path").err().unwrap();
    let refused = refused.to_string();
    assert!(refused.contains("nothing can happen any more"), "{refused}");
}
