//! Operations as scenario files write them: `link_create m1 cookie=0x11 as l1`.

use struct_ops_model::world::{
    MAX_REGS, MAX_RINGS, MAX_SOCKS, OpKind, Operand, Operation, Position, ProgKind, World,
};

use super::error::{printable, unknown};
use crate::number::whole;

/// Most names of links in a scenario.
pub(super) const MAX_LINK_NAMES: usize = 16;
/// Most cookies of a scenario, 0 among them.
pub(super) const MAX_COOKIES: usize = 16;

/// A mistake: the offset and length of the word in the text, and what is wrong.
pub(super) type Mistake = (std::ops::Range<usize>, String);

/// The kind with this name.
pub(super) fn kind(word: &str) -> Result<OpKind, String> {
    let names = || OpKind::all().map(OpKind::name);
    OpKind::from_name(word).ok_or_else(|| unknown("operation", word, names()))
}

/// The links that an operation may name.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Names that some `link_create` before this operation, or on another CPU, gives.
    pub links: Vec<String>,
}

/// The words of one operation.
struct Words<'a> {
    text: &'a str,
    kind: OpKind,
    rest: Vec<(usize, &'a str)>,
    next: usize,
}

impl<'a> Words<'a> {
    fn word(&mut self, what: &str) -> Result<(usize, &'a str), Mistake> {
        let word = self.rest.get(self.next).copied();
        self.next += 1;
        word.ok_or_else(|| {
            (
                0..self.text.len(),
                format!(
                    "`{}` ends where {what} is expected: write `{}`",
                    self.text,
                    self.kind.syntax()
                ),
            )
        })
    }

    /// `prefix=VALUE`, if that comes next, in whichever order options are written.
    fn option(&mut self, prefix: &str) -> Option<(usize, &'a str)> {
        let options = self.rest[self.next.min(self.rest.len())..].iter();
        let mut options = options.take_while(|(_, word)| is_option(word));
        let has = |word: &str| word.strip_prefix(prefix)?.strip_prefix('=').map(str::len);
        let place = self.next + options.position(|(_, word)| has(word).is_some())?;
        let (at, word) = self.rest.remove(place);
        Some((at + prefix.len() + 1, &word[prefix.len() + 1..]))
    }

    /// Where this word stands among the options, if it does.
    fn place_of(&self, flag: &str) -> Option<usize> {
        let options = self.rest[self.next.min(self.rest.len())..].iter();
        let mut options = options.take_while(|(_, word)| is_option(word));
        options.find(|(_, word)| *word == flag).map(|(at, _)| *at)
    }

    /// This word alone, if it stands among the options.
    fn flag(&mut self, flag: &str) -> bool {
        let options = self.rest[self.next.min(self.rest.len())..].iter();
        let mut options = options.take_while(|(_, word)| is_option(word));
        let place = options.position(|(_, word)| *word == flag);
        if let Some(place) = place {
            self.rest.remove(self.next + place);
        }
        place.is_some()
    }

    fn end(&self) -> Result<(), Mistake> {
        match self.rest.get(self.next) {
            None => Ok(()),
            Some((at, word)) => Err((
                *at..at + word.len(),
                format!(
                    "`{word}` is one word too many: write `{}`",
                    self.kind.syntax()
                ),
            )),
        }
    }
}

/// Whether a word is one of those that may be there, in any order.
fn is_option(word: &str) -> bool {
    word.contains('=') || POSITIONS.contains(&word)
}

/// The words for a place in a cgroup's list.
const POSITIONS: [&str; 4] = ["before", "after", "preorder", "by-id"];

fn split(text: &str) -> Vec<(usize, &str)> {
    text.split_ascii_whitespace()
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
        .collect()
}

fn span((at, word): (usize, &str)) -> std::ops::Range<usize> {
    at..at + word.len()
}

/// Where an operation names the link that it creates, if it is one that does.
pub(super) fn creates(text: &str) -> Option<std::ops::Range<usize>> {
    let words = split(text);
    let first = words.first()?.1;
    if !OpKind::from_name(first)?.has(Operand::NewLink) {
        return None;
    }
    let place = words.iter().position(|w| w.1 == "as")?;
    words.get(place + 1).map(|w| span(*w))
}

/// Reads an operation; new cookies and names of links are added to the world.
pub(super) fn parse(
    world: &mut World,
    known: &mut Known,
    text: &str,
) -> Result<Operation, Mistake> {
    let mut rest = split(text);
    if rest.is_empty() {
        return Err((
            0..text.len(),
            "an empty operation: write one such as `map_create m1`".to_string(),
        ));
    }
    let verb = rest.remove(0);
    let kind = kind(verb.1).map_err(|e| (span(verb), e))?;
    if let Some(why) = kind.info().needs.missing(world) {
        return Err((
            span(verb),
            format!("`{}` has no meaning here: {why}", verb.1),
        ));
    }
    let mut words = Words {
        text,
        kind,
        rest,
        next: 0,
    };
    let operation = Operation::build(kind, |operand| value(world, known, &mut words, operand))?;
    words.end()?;
    Ok(operation)
}

/// The index of what the next words name.
fn value(
    world: &mut World,
    known: &mut Known,
    w: &mut Words<'_>,
    operand: Operand,
) -> Result<Option<u8>, Mistake> {
    Ok(Some(match operand {
        Operand::NewMap | Operand::Map(_) => {
            let word = w.word("a map")?;
            find_map(world, word)?
        }
        Operand::Replace => {
            let word = w.option("replace");
            return word.map(|word| find_map(world, word)).transpose();
        }
        Operand::Link(_) => link(world, known, w)?,
        Operand::NewLink => new_link(world, known, w)?,
        Operand::Cookie => cookie_of(world, w)?,
        Operand::Key | Operand::NewRing => {
            let word = w.word("a key")?;
            let key = world.keys.iter().position(|k| k == word.1);
            let known = || world.keys.iter().map(String::as_str);
            key.ok_or_else(|| (span(word), unknown("key", word.1, known())))? as u8
        }
        Operand::Socket => below(w, "a socket", MAX_SOCKS)?,
        Operand::Ring => below(w, "a ring", MAX_RINGS)?,
        Operand::Entry => below(w, "an entry of the subsystem's table", MAX_REGS)?,
        Operand::Member => member(world, w)?,
        Operand::Program(runs) => program(world, w, runs)?,
        Operand::Function => function(world, w)?,
        Operand::Cgroup => {
            let word = w.word("a cgroup")?;
            find_cgroup(world, word)?
        }
        Operand::Target => {
            let word = w.option("cgroup");
            return word.map(|word| find_cgroup(world, word)).transpose();
        }
        Operand::Position => return position(world, known, w),
        Operand::Revision => return w.option("revision").map(revision).transpose(),
    }))
}

fn below(w: &mut Words<'_>, what: &str, limit: usize) -> Result<u8, Mistake> {
    let word = w.word(what)?;
    whole(word.1)
        .filter(|n| *n < limit as u64)
        .map(|n| n as u8)
        .ok_or_else(|| {
            (
                span(word),
                format!(
                    "`{}` is not {what}: expected a number from 0 to {}",
                    word.1,
                    limit - 1
                ),
            )
        })
}

fn find_map(world: &World, word: (usize, &str)) -> Result<u8, Mistake> {
    let place = world
        .maps
        .iter()
        .position(|m| m.name == word.1)
        .map(|i| i as u8);
    place.ok_or_else(|| {
        (
            span(word),
            unknown("map", word.1, world.maps.iter().map(|m| m.name.as_str())),
        )
    })
}

fn link(world: &World, known: &Known, w: &mut Words<'_>) -> Result<u8, Mistake> {
    let word = w.word("a link")?;
    named_link(world, known, word)
}

fn named_link(world: &World, known: &Known, word: (usize, &str)) -> Result<u8, Mistake> {
    if !known.links.iter().any(|l| l == word.1) {
        let message = if world.links.iter().any(|l| l == word.1) {
            format!("link `{}` is created only after this operation", word.1)
        } else {
            unknown("link", word.1, known.links.iter().map(String::as_str))
        };
        return Err((span(word), message));
    }
    let place = world.links.iter().position(|l| l == word.1);
    let known = || world.links.iter().map(String::as_str);
    place
        .map(|i| i as u8)
        .ok_or_else(|| (span(word), unknown("link", word.1, known())))
}

fn find_cgroup(world: &World, word: (usize, &str)) -> Result<u8, Mistake> {
    let place = world.cgroups.iter().position(|c| c.name == word.1);
    place.map(|i| i as u8).ok_or_else(|| {
        let known = world.cgroups.iter().map(|c| c.name.as_str());
        let message = if world.cgroups.is_empty() {
            format!(
                "there is no cgroup `{}`: a `[[cgroup]]` makes one",
                printable(word.1, 40)
            )
        } else {
            unknown("cgroup", word.1, known)
        };
        (span(word), message)
    })
}

/// `before`, `after`, either with `=LINK`, and `preorder`; nothing if none of them is there.
fn position(world: &World, known: &Known, w: &mut Words<'_>) -> Result<Option<u8>, Mistake> {
    let mut position = Position {
        before: w.flag("before"),
        after: w.flag("after"),
        preorder: w.flag("preorder"),
        anchor: None,
        by_id: false,
    };
    let by_id = w.place_of("by-id");
    position.by_id = w.flag("by-id");
    for (word, before) in [("before", true), ("after", false)] {
        if let Some(name) = w.option(word) {
            if position.anchor.is_some() {
                let message = format!("a second anchor, `{word}={}`: there is one", name.1);
                return Err((span(name), message));
            }
            position.anchor = Some(named_link(world, known, name)?);
            position.before |= before;
            position.after |= !before;
        }
    }
    if let (Some(at), None) = (by_id, position.anchor) {
        let message =
            "`by-id` without the link whose id it is: write `before=LINK` or `after=LINK`";
        return Err((at..at + "by-id".len(), message.to_string()));
    }
    Ok((position != Position::default()).then(|| position.number()))
}

/// `revision=N`: what a query of the cgroup's list has answered.
fn revision(word: (usize, &str)) -> Result<u8, Mistake> {
    let revision = whole(word.1).filter(|n| (1..=255).contains(n));
    revision.map(|n| n as u8).ok_or_else(|| {
        let message = format!(
            "`{}` is no revision: expected a number from 1 (before any change of the cgroup's list) to 255",
            printable(word.1, 40)
        );
        (span(word), message)
    })
}

/// `cookie=N`, if that comes next; cookie 0 otherwise.
fn cookie_of(world: &mut World, w: &mut Words<'_>) -> Result<u8, Mistake> {
    let Some(word) = w.option("cookie") else {
        return Ok(0);
    };
    let value = whole(word.1).ok_or_else(|| {
        (
            span(word),
            format!(
                "cookie `{}`: expected a number from 0 to 2^64-1, decimal or 0x",
                word.1
            ),
        )
    })?;
    cookie(world, value).map_err(|e| (span(word), e))
}

/// `as LINK`.
fn new_link(world: &World, known: &mut Known, w: &mut Words<'_>) -> Result<u8, Mistake> {
    let word = w.word("`as LINK`")?;
    if word.1 != "as" {
        return Err((
            span(word),
            format!(
                "`{}` where `as LINK` is expected: write `{}`",
                word.1,
                w.kind.syntax()
            ),
        ));
    }
    let name = w.word("a name for the link")?;
    known.links.push(name.1.to_string());
    // Links are collected before operations are read: by the same word, since nothing else may be called `as`.
    let link = world.links.iter().position(|l| l == name.1);
    let link = link.ok_or_else(|| {
        let known = world.links.iter().map(String::as_str);
        (span(name), unknown("link", name.1, known))
    })?;
    Ok(link as u8)
}

/// The index of a cookie's value, which is added if it is new.
pub(super) fn cookie(world: &mut World, value: u64) -> Result<u8, String> {
    if let Some(place) = world.cookies.iter().position(|c| *c == value) {
        return Ok(place as u8);
    }
    if world.cookies.len() == MAX_COOKIES {
        return Err(format!(
            "more than {} cookies other than 0",
            MAX_COOKIES - 1
        ));
    }
    world.cookies.push(value);
    Ok((world.cookies.len() - 1) as u8)
}

/// A member, by its name, of the type that the operation calls.
fn member(world: &World, w: &mut Words<'_>) -> Result<u8, Mistake> {
    let word = w.word("a member")?;
    let members = world.called_by(w.kind).map_or(&[][..], |t| &t.members);
    let place = members.iter().position(|m| m.name == word.1);
    place.map(|i| i as u8).ok_or_else(|| {
        let names = members.iter().map(|m| m.name.as_str());
        (span(word), unknown("member", word.1, names))
    })
}

fn program(world: &World, w: &mut Words<'_>, runs: ProgKind) -> Result<u8, Mistake> {
    let word = w.word("a program")?;
    let place = world.progs.iter().position(|p| p.name == word.1);
    let Some(place) = place else {
        let names = world.progs.iter().map(|p| p.name.as_str());
        return Err((span(word), unknown("program", word.1, names)));
    };
    if !runs.is(world.progs[place].of) {
        let (is, wanted) = match runs {
            ProgKind::StructOps => ("a syscall program", "prog_run runs it"),
            _ => (
                "a member's",
                "only a syscall program (`kind = \"syscall\"`) is run by user space",
            ),
        };
        return Err((
            span(word),
            format!("program `{}` is {is}: {wanted}", word.1),
        ));
    }
    Ok(place as u8)
}

fn function(world: &World, w: &mut Words<'_>) -> Result<u8, Mistake> {
    let word = w.word("a function")?;
    let script = &world.script;
    let name = |f: u8| script.functions[usize::from(f)].name.as_str();
    let found = script.runnable().find(|f| name(*f) == word.1);
    found.ok_or_else(|| {
        let names = script.runnable().map(name);
        (span(word), unknown("function", word.1, names))
    })
}
