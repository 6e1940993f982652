//! scratch
use struct_ops_model::*;
use struct_ops_sim::engine::*;
use struct_ops_sim::explore::*;
use struct_ops_sim::scenario::Scenario;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let designs = std::env::var("D").unwrap_or("mainline rfc rfc-one-link link-owned".into());
    let red = match std::env::var("R").as_deref() {
        Ok("none") => Reductions::NONE,
        _ => Reductions::ALL,
    };
    for f in &args {
        let text = std::fs::read_to_string(f).unwrap();
        let s = match Scenario::parse(f, f, &text) {
            Ok(s) => s,
            Err(e) => {
                println!("{f}: {e}");
                continue;
            }
        };
        println!("== {f}");
        for d in designs.split(' ') {
            let d = Design::parse(d).unwrap();
            if !s.runs_under(&d) {
                continue;
            }
            let e = match Explored::new(s.world.clone(), d.clone(), red) {
                Ok(e) => e,
                Err(e) => {
                    println!("{}: {e}", d.name);
                    continue;
                }
            };
            let o = explore(
                &e,
                &Options {
                    threads: 2,
                    max_states: Some(40_000_000),
                    exact: false,
                    stop: None,
                },
                &mut |p| {
                    if std::env::var("P").is_ok() {
                        eprint!("\r{} {} {}   ", p.states, p.depth, p.states_per_second)
                    }
                },
            );
            let mut v: Vec<&str> = o
                .violations
                .iter()
                .map(|f| Invariant::ALL[f.violation.invariant as usize].id())
                .collect();
            v.sort();
            v.dedup();
            println!(
                "{}: {} / {} depth {} {:.1}s {:?} {v:?}",
                d.name, o.states, o.transitions, o.depth, o.seconds, o.incomplete
            );
            for f in &o.violations {
                let id = Invariant::ALL[f.violation.invariant as usize].id();
                if std::env::var("V").is_ok() {
                    println!(
                        "   {id} at {} depth {}",
                        Pc::ALL[f.violation.label as usize].name(),
                        f.depth
                    );
                }
                if std::env::var("T").is_ok_and(|t| t == id) {
                    let mut fine = e.machine.clone();
                    fine.merge = false;
                    let mut k = fine.initial();
                    let mut r = Report::default();
                    match &f.trace {
                        Ok(t) => {
                            for a in unmerge(&e.machine, t) {
                                let mut s = String::new();
                                let l = fine.label(&k, a);
                                fine.apply(&mut k, a, &mut r, Some(&mut s));
                                println!("    {:?} {} : {}", a.cpu(), l.name(), s);
                            }
                        }
                        Err(e) => println!("{e}"),
                    }
                    println!("   --");
                }
            }
        }
    }
}
