//! Actions of the machine as text, for trace files: `loader 0 link_create 1`, `cpu0 ask`, `work map_free 1`.

use struct_ops_model::reach::Action;
use struct_ops_model::reach::world::Op;

/// The word of an operation and its numbers.
pub(crate) fn operation(op: Op) -> (&'static str, Vec<u8>) {
    match op {
        Op::Load(o) => ("load", vec![o]),
        Op::MapCreate(i) => ("map_create", vec![i]),
        Op::MapUpdate(i) => ("map_update", vec![i]),
        Op::MapUpdateFails(i) => ("map_update_fails", vec![i]),
        Op::Associate(p, i) => ("assoc", vec![p, i]),
        Op::Store(o, i) => ("store", vec![o, i]),
        Op::Attach(a) => ("attach", vec![a]),
        Op::LinkCreate(i) => ("link_create", vec![i]),
        Op::LinkClose(i) => ("link_close", vec![i]),
        Op::Error(i) => ("scx_error", vec![i]),
        Op::Detach(a) => ("detach", vec![a]),
        Op::MapClose(i) => ("map_close", vec![i]),
        Op::Exit(o) => ("exit", vec![o]),
    }
}

/// The text of an action.
pub fn write(action: Action) -> String {
    let text = |who: String, what: &str, numbers: &[u8]| {
        numbers
            .iter()
            .fold(format!("{who} {what}"), |text, n| format!("{text} {n}"))
    };
    let cpu = |cpu: u8, what, numbers: &[u8]| text(format!("cpu{cpu}"), what, numbers);
    let work = |what, i: u8| text("work".into(), what, &[i]);
    match action {
        Action::Loader(loader, op) => {
            let (what, numbers) = operation(op);
            text(format!("loader {loader}"), what, &numbers)
        }
        Action::Member(c, sched, prog) => cpu(c, "member", &[sched, prog]),
        Action::Hook(c, attachment) => cpu(c, "hook", &[attachment]),
        Action::Fire(c, sched) => cpu(c, "fire", &[sched]),
        Action::Arm(c) => cpu(c, "arm", &[]),
        Action::Jump(c) => cpu(c, "jump", &[]),
        Action::Ask(c) => cpu(c, "ask", &[]),
        Action::AskTask(c, task) => cpu(c, "ask_task", &[task]),
        Action::Use(c) => cpu(c, "use", &[]),
        Action::Return(c) => cpu(c, "return", &[]),
        Action::SchedFree(i) => work("sched_free", i),
        Action::MapClear(i) => work("map_clear", i),
        Action::MapFree(i) => work("map_free", i),
        Action::ProgFree(i) => work("prog_free", i),
    }
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// What was found and what was expected.
pub fn read(text: &str) -> Result<Action, String> {
    let wrong = || {
        format!(
            "`{text}` is no step: expected such as `loader 0 link_create 1`, `cpu0 ask`, `work map_free 1`"
        )
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |word: &&str| word.parse::<u8>().map_err(|_| wrong());
    match words.as_slice() {
        ["loader", loader, what, numbers @ ..] => {
            let numbers = numbers.iter().map(number).collect::<Result<Vec<u8>, _>>()?;
            let op = match (*what, numbers.as_slice()) {
                ("load", [o]) => Op::Load(*o),
                ("map_create", [i]) => Op::MapCreate(*i),
                ("map_update", [i]) => Op::MapUpdate(*i),
                ("map_update_fails", [i]) => Op::MapUpdateFails(*i),
                ("assoc", [p, i]) => Op::Associate(*p, *i),
                ("store", [o, i]) => Op::Store(*o, *i),
                ("attach", [a]) => Op::Attach(*a),
                ("link_create", [i]) => Op::LinkCreate(*i),
                ("link_close", [i]) => Op::LinkClose(*i),
                ("scx_error", [i]) => Op::Error(*i),
                ("detach", [a]) => Op::Detach(*a),
                ("map_close", [i]) => Op::MapClose(*i),
                ("exit", [o]) => Op::Exit(*o),
                _ => return Err(wrong()),
            };
            Ok(Action::Loader(number(loader)?, op))
        }
        ["work", what, i] => {
            let i = number(i)?;
            match *what {
                "sched_free" => Ok(Action::SchedFree(i)),
                "map_clear" => Ok(Action::MapClear(i)),
                "map_free" => Ok(Action::MapFree(i)),
                "prog_free" => Ok(Action::ProgFree(i)),
                _ => Err(wrong()),
            }
        }
        [cpu, what, numbers @ ..] => {
            let cpu = number(&cpu.strip_prefix("cpu").ok_or_else(wrong)?)?;
            let numbers = numbers.iter().map(number).collect::<Result<Vec<u8>, _>>()?;
            match (*what, numbers.as_slice()) {
                ("member", [sched, prog]) => Ok(Action::Member(cpu, *sched, *prog)),
                ("hook", [attachment]) => Ok(Action::Hook(cpu, *attachment)),
                ("fire", [sched]) => Ok(Action::Fire(cpu, *sched)),
                ("arm", []) => Ok(Action::Arm(cpu)),
                ("jump", []) => Ok(Action::Jump(cpu)),
                ("ask", []) => Ok(Action::Ask(cpu)),
                ("ask_task", [task]) => Ok(Action::AskTask(cpu, *task)),
                ("use", []) => Ok(Action::Use(cpu)),
                ("return", []) => Ok(Action::Return(cpu)),
                _ => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    }
}
