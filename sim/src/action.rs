//! Actions as text, for trace files: `cpu0 begin link_create map=0 cookie=1`, `cpu1 step`, `work map 0`.

use struct_ops_model::kernel::CpuId;
use struct_ops_model::table::Key;
use struct_ops_model::world::{MAX_PROGS, OpKind};
use struct_ops_model::{Action, Request};

/// Slots that a key may name; no table of the model is larger.
const SLOTS: usize = 64;

/// The text of an action.
pub fn write(action: Action) -> String {
    match action {
        Action::Begin(cpu, request) => format!("cpu{cpu} begin {}", write_request(&request)),
        Action::Step(cpu, 0) => format!("cpu{cpu} step"),
        Action::Step(cpu, choice) => format!("cpu{cpu} step choice={choice}"),
        Action::MapWork(key) => format!("work map {}", key.slot()),
        Action::AttachmentWork(key) => format!("work attachment {}", key.slot()),
        Action::LinkWork(key, 0) => format!("work link {}", key.slot()),
        Action::LinkWork(key, choice) => format!("work link {} choice={choice}", key.slot()),
        Action::ProgWork(prog) => format!("work program {prog}"),
        Action::Callback(prog) => format!("work callback {prog}"),
    }
}

fn write_request(request: &Request) -> String {
    let Request {
        kind,
        map,
        old,
        link,
        cookie,
        arg,
        member,
        cgroup,
        list_position,
        revision,
    } = *request;
    let slots = [
        ("map", map.map(Key::slot)),
        ("old", old.map(Key::slot)),
        ("link", link.map(Key::slot)),
    ];
    let numbers = [
        ("cookie", cookie),
        ("arg", arg),
        ("member", member),
        ("cgroup", cgroup),
        ("list_position", list_position),
        ("revision", revision),
    ];
    let mut text = kind.name().to_string();
    for (key, slot) in slots {
        text.extend(slot.map(|slot| format!(" {key}={slot}")));
    }
    for (key, number) in numbers.into_iter().filter(|n| n.1 != 0) {
        text += &format!(" {key}={number}");
    }
    text
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// What was found and what was expected.
pub fn read(text: &str) -> Result<Action, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["work", "map", slot] => Ok(Action::MapWork(key(slot)?)),
        ["work", "attachment", slot] => Ok(Action::AttachmentWork(key(slot)?)),
        ["work", "program", prog] => Ok(Action::ProgWork(read_prog(prog)?)),
        ["work", "callback", prog] => Ok(Action::Callback(read_prog(prog)?)),
        ["work", "link", slot] => Ok(Action::LinkWork(key(slot)?, 0)),
        ["work", "link", slot, choice] => {
            Ok(Action::LinkWork(key(slot)?, read_choice(text, choice)?))
        }
        [cpu, "step"] => Ok(Action::Step(read_cpu(cpu)?, 0)),
        [cpu, "step", choice] => Ok(Action::Step(read_cpu(cpu)?, read_choice(text, choice)?)),
        [cpu, "begin", kind, rest @ ..] => {
            Ok(Action::Begin(read_cpu(cpu)?, read_request(kind, rest)?))
        }
        _ => Err(format!(
            "`{text}` is no action: expected `cpuN begin OPERATION ...`, `cpuN step`, `work map N`, \
             `work attachment N`, `work link N`, `work program N` or `work callback N`"
        )),
    }
}

fn read_prog(word: &str) -> Result<u8, String> {
    let prog = word.parse().ok();
    prog.filter(|prog| usize::from(*prog) < MAX_PROGS)
        .ok_or_else(|| format!("`{word}` is no program: expected a number below {MAX_PROGS}"))
}

fn read_choice(text: &str, word: &str) -> Result<u8, String> {
    let choice = word.strip_prefix("choice=").and_then(|c| c.parse().ok());
    choice.ok_or_else(|| format!("`{text}`: expected `choice=N` at the end"))
}

fn read_cpu(word: &str) -> Result<CpuId, String> {
    let number = word.strip_prefix("cpu").and_then(|n| n.parse().ok());
    number.ok_or_else(|| format!("`{word}` is no CPU: expected `cpu0`, `cpu1`, ..."))
}

fn key<T>(word: &str) -> Result<Key<T>, String> {
    let slot = word.parse().ok().filter(|slot| *slot < SLOTS).map(Key::new);
    slot.ok_or_else(|| format!("`{word}` is no slot: expected a number below {SLOTS}"))
}

fn read_request(kind: &str, fields: &[&str]) -> Result<Request, String> {
    let found = OpKind::from_name(kind);
    let found = found.or_else(|| (kind == OpKind::None.name()).then_some(OpKind::None));
    let names = || OpKind::all().map(OpKind::name);
    let kind = found.ok_or_else(|| crate::scenario::unknown("operation", kind, names()))?;
    let mut request = Request {
        kind,
        ..Request::default()
    };
    for field in fields {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let number = || {
            value
                .parse::<u8>()
                .map_err(|_| format!("`{field}`: expected `{name}=N`, a number from 0 to 255"))
        };
        match name {
            "map" => request.map = Some(key(value)?),
            "old" => request.old = Some(key(value)?),
            "link" => request.link = Some(key(value)?),
            "cookie" => request.cookie = number()?,
            "arg" => request.arg = number()?,
            "member" => request.member = number()?,
            "cgroup" => request.cgroup = number()?,
            "list_position" => request.list_position = number()?,
            "revision" => request.revision = number()?,
            _ => {
                return Err(crate::scenario::unknown(
                    "field",
                    name,
                    [
                        "map",
                        "old",
                        "link",
                        "cookie",
                        "arg",
                        "member",
                        "cgroup",
                        "list_position",
                        "revision",
                    ],
                ));
            }
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_back() {
        let request = Request {
            kind: OpKind::LinkUpdate,
            map: Some(Key::new(1)),
            old: Some(Key::new(0)),
            link: Some(Key::new(2)),
            ..Request::default()
        };
        for action in [
            Action::Begin(0, Request::default()),
            Action::Begin(1, request),
            Action::Begin(
                1,
                Request {
                    cookie: 1,
                    arg: 2,
                    member: 3,
                    cgroup: 4,
                    list_position: 5,
                    revision: 6,
                    ..request
                },
            ),
            Action::Step(2, 0),
            Action::Step(2, 1),
            Action::MapWork(Key::new(3)),
            Action::AttachmentWork(Key::new(0)),
            Action::LinkWork(Key::new(1), 0),
            Action::LinkWork(Key::new(1), 2),
            Action::ProgWork(3),
            Action::Callback(2),
        ] {
            assert_eq!(read(&write(action)), Ok(action));
        }
        assert_eq!(
            write(Action::Begin(1, request)),
            "cpu1 begin link_update map=1 old=0 link=2"
        );
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, message) in [
            ("", "is no action"),
            ("cpu step", "is no CPU"),
            ("cpu0 leap", "is no action"),
            ("cpu0 step fail=1", "choice=N"),
            ("cpu0 begin link_crate", "did you mean `link_create`?"),
            ("cpu0 begin link_create map=x", "is no slot"),
            ("cpu0 begin link_create map", "is no slot"),
            ("cpu0 begin link_create cookie=999", "expected `cookie=N`"),
            ("work map 255", "below 64"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.contains(message), "{text}: {found}");
        }
    }

    quickcheck::quickcheck! {
        fn never_panics(text: String) -> bool {
            read(&text).is_ok() || read(&format!("cpu0 begin {text}")).is_err() || !text.is_empty()
        }
    }
}
