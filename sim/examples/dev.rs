use struct_ops_model::*;
use struct_ops_model::world::*;
use struct_ops_model::Design;
use struct_ops_sim::engine::*;
use struct_ops_sim::explore::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let sub = Subsystem::NAMES.iter().find(|n| n.0 == args[1]).unwrap().1;
    let ncpu: usize = args[2].parse().unwrap();
    let budget: u8 = args[3].parse().unwrap();
    let kinds: Vec<OpKind> = if args[4] == "any" {
        let mut v = vec![OpKind::MapUpdate, OpKind::MapDelete, OpKind::MapLookup, OpKind::MapClose, OpKind::LinkCreate, OpKind::LinkUpdate, OpKind::LinkDetach, OpKind::LinkClose, OpKind::LinkPin, OpKind::LinkUnpin, OpKind::LinkInfo];
        if sub == Subsystem::TcpCong { v.extend([OpKind::SockOpen, OpKind::SockCall, OpKind::SockClose]); } else { v.push(OpKind::Call); }
        v
    } else { args[4].split(',').map(|n| OpKind::NAMES.iter().find(|k| k.1==n).unwrap().0).collect() };
    let red = match args[5].as_str() { "all" => Reductions::ALL, "none" => Reductions::NONE, "sym" => Reductions{symmetry:true,merge:false}, _ => Reductions{symmetry:false,merge:true} };
    let fails: u8 = args[6].parse().unwrap();
    let designs: Vec<Design> = args[7..].iter().map(|d| Design::parse(d).unwrap()).collect();
    let sl = args[1].starts_with("sched") || sub==Subsystem::Always;
    let ty = StructOpsType { name: "t".into(), subsystem: sub, members: vec![Member{name:"a".into(),sleepable:false,required:true,size:171}, Member{name:"b".into(),sleepable:sl,required:false,size:171}], module: false };
    let two = std::env::var("MEMBERS").map_or(1, |v| v.parse::<usize>().unwrap());
    let mut progs = vec![];
    let mut maps = vec![];
    for m in 0..2u8 {
        let mut p=[None;3];
        for i in 0..two { p[i]=Some(progs.len() as u8); progs.push(ProgDecl{name:format!("p{m}{i}"),ty:0,member:i,body: if i==1 && sl {Body::Sleep} else {Body::ReadCookie}}); }
        maps.push(MapDecl{name:format!("m{m}"),ty:0,link:true,key:0,progs:p,owner_set:false});
    }
    let world = World { types: vec![ty], progs, maps, links: vec![], cookies: vec![0,0x11,0x22][..1+std::env::var("COOKIES").map_or(1,|v|v.parse().unwrap())].to_vec(), keys: vec!["k".into()], procs: 1,
        cpus: (0..ncpu).map(|_| CpuDecl{proc:0, plan: Plan::Free{kinds:kinds.clone(), budget}}).collect(),
        setup: vec![Operation::MapCreate{map:0},Operation::MapCreate{map:1},Operation::MapUpdate{map:0},Operation::MapUpdate{map:1}], alloc_failures: fails, max_links: 3 };
    for d in designs {
        let e = Explored::new(world.clone(), d.clone(), red).unwrap();
        let o = explore(&e, &Options{threads:2, max_states: Some(30_000_000), exact:false, stop:None}, &mut |p| eprint!("\r{} {} {}   ", p.states, p.depth, p.states_per_second));
        println!("\n{}: states {} trans {} depth {} {:.1}s bytes/state {:.1} frontier {}MB {:?}", d.name, o.states, o.transitions, o.depth, o.seconds, o.bytes_per_state, o.peak_frontier_bytes>>20, o.incomplete);
        for f in &o.violations {
            println!("  {} at {} depth {}", Invariant::ALL[f.violation.invariant as usize].id(), Pc::ALL[f.violation.label as usize].name(), f.depth);
        }
        if let Ok(which) = std::env::var("TRACE") { for f in &o.violations {
            if Invariant::ALL[f.violation.invariant as usize].id() != which { continue; }
            let mut fine = e.machine.clone(); fine.merge=false;
            let mut k = fine.initial(); let mut r = Report::default();
            match &f.trace { Ok(t) => for a in unmerge(&e.machine, t) { let mut s=String::new(); let l=fine.label(&k,a); fine.apply(&mut k,a,&mut r,Some(&mut s)); println!("    {:?} {} : {}", a.cpu(), l.name(), s); }, Err(e) => println!("{e}") }
            println!("   --");
        } }
    }
}
