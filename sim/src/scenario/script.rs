//! `[[subsystem]]`: a subsystem of the scenario's own, whose functions are lines of statements.
//!
//! A line is one atomic step; statements on one line stand between `;`, a line that ends with `;` goes on in the next
//! one, and `#` begins a comment. What a statement does
//! is the model's business ([`struct_ops_model::script`]).

use std::ops::Range;

use include_dir::{Dir, File, include_dir};
use struct_ops_model::World;
use struct_ops_model::errno;
use struct_ops_model::kernel::Stage;
use struct_ops_model::script::{
    Function, Line, MAX_DOMAINS, MAX_FLAGS, MAX_LINES, MAX_OBJECTS, MAX_OWN_LOCKS, MAX_SLOTS,
    MAX_SUBSYSTEMS, Mode, Own, ReadSide, Script, Slot, SlotKey, Statement, Test,
};
use struct_ops_model::world::Subsystem;
use toml::Spanned;

use super::build::{Source, toml_error};
use super::error::{InputError, unknown};
use super::file::{ProgramTable, SubsystemTable, Text, TypeTable};

/// How each statement is written, and what it does; the book shows the table.
pub const STATEMENTS: &[(&str, &str)] = &[
    (
        "mutex_lock LOCK",
        "takes the lock; first of its line, which waits until nobody holds it",
    ),
    ("mutex_unlock LOCK", "releases it"),
    ("spin_lock LOCK", "the same as `mutex_lock`"),
    ("spin_unlock LOCK", "the same as `mutex_unlock`"),
    ("down_write LOCK", "the same as `mutex_lock`"),
    ("up_write LOCK", "the same as `mutex_unlock`"),
    (
        "down_read LOCK",
        "takes the lock as one of several readers; first of its line",
    ),
    ("up_read LOCK", "releases it"),
    ("rcu_read_lock", "enters a read side of RCU"),
    ("rcu_read_unlock", "leaves it"),
    (
        "rcu_read_lock_trace",
        "enters a read side of Tasks Trace RCU",
    ),
    ("rcu_read_unlock_trace", "leaves it"),
    (
        "srcu_read_lock DOMAIN",
        "enters a read side of the SRCU domain",
    ),
    ("srcu_read_unlock DOMAIN", "leaves it"),
    (
        "synchronize_rcu",
        "waits for a grace period of RCU; last of its line",
    ),
    (
        "synchronize_rcu_tasks",
        "waits for a grace period of Tasks RCU; last of its line",
    ),
    (
        "synchronize_rcu_tasks_trace",
        "waits for a grace period of Tasks Trace RCU; last of its line",
    ),
    (
        "synchronize_srcu DOMAIN",
        "waits for the SRCU domain's readers; last of its line",
    ),
    (
        "publish SLOT",
        "kdata becomes visible in the slot; an entry with the same key is overwritten",
    ),
    (
        "withdraw SLOT",
        "the entry with the key of this kdata, map or link goes, if there is one",
    ),
    (
        "replace SLOT else goto LABEL",
        "in `update`: the entry of the old kdata and this link gets the new kdata; on at the label if there is none, or if \
         another entry has the new one's key",
    ),
    (
        "find SLOT else goto LABEL",
        "in a function that is run: the slot's first entry; its kdata is what `call`, `get`, `put` and `withdraw` are \
         about from here on",
    ),
    (
        "next SLOT else goto LABEL",
        "the entry after the one that was found, also where that has been withdrawn meanwhile",
    ),
    (
        "get else goto LABEL",
        "`bpf_struct_ops_get(kdata)`; if the count is 0, on at the label",
    ),
    ("put", "`bpf_struct_ops_put(kdata)`"),
    (
        "alloc OBJECT else goto LABEL",
        "allocates an object; where allocations may fail, on at the label if this one does",
    ),
    (
        "free OBJECT",
        "frees one, which must be there: objects of a kind are counted, and not told apart",
    ),
    (
        "use OBJECT",
        "uses one, which must be there; `use kdata` and `use link` read the kdata and the link of the entry that was found",
    ),
    ("set FLAG", "sets the flag"),
    ("clear FLAG", "clears it"),
    (
        "wait FLAG",
        "first of its line, which waits until the flag is set",
    ),
    (
        "call MEMBER",
        "calls the member of kdata, if it is set; last of its line",
    ),
    (
        "fentry PROGRAM",
        "the tracing program, whose hook is here, runs; last of its line",
    ),
    (
        "if [not] WHAT goto LABEL",
        "WHAT is a SLOT (it has an entry with the key of this kdata, map or link; in `update` of the new kdata), `mine SLOT` \
         (it has one of this kdata and this link; in `update` of the old kdata), a FLAG (it is set), an OBJECT (there is one) \
         or `failed` (a program that was called has returned an error)",
    ),
    ("goto LABEL", "on at the line that begins with `LABEL:`"),
    (
        "return [-ERRNO]",
        "the function returns 0 or the error, unreg() nothing; at the end of a function it is not needed",
    ),
];

/// How the statement that begins with this word is written.
fn syntax(verb: &str) -> Option<&'static str> {
    let mut rows = STATEMENTS.iter();
    rows.find(|s| s.0.split(' ').next() == Some(verb))
        .map(|s| s.0)
}

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/subsystems");

/// Names and texts of the subsystems that are written in this language and came with the program.
pub fn shipped() -> Vec<(&'static str, &'static str)> {
    let file = |f: &'static File<'_>| Some((f.path().file_stem()?.to_str()?, f.contents_utf8()?));
    let mut files: Vec<_> = SHIPPED.files().filter_map(file).collect();
    files.sort();
    files
}

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/built-in");

/// The built-in subsystem of that name, said in this language: an example to copy. A test compares the verdicts of both.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.get_file(format!("{name}.toml"))?.contents_utf8()
}

/// The shipped subsystem of that name, as a world has it that has no other.
pub fn alone(name: &str) -> Option<Script> {
    let (name, text) = shipped().into_iter().find(|f| f.0 == name)?;
    let tables: SubsystemFile = toml::from_str(text).ok()?;
    let mut world = World::default();
    let around = Around {
        types: &[],
        programs: &[],
    };
    subsystems(
        &Source::new(name, text),
        &mut world,
        &tables.subsystem,
        around,
    )
    .ok()?;
    Some(world.script)
}

/// What a file of a shipped subsystem has.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct SubsystemFile {
    subsystem: Vec<Spanned<SubsystemTable>>,
}

/// What of a scenario's other tables its functions may name.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub types: &'a [TypeTable],
    pub programs: &'a [ProgramTable],
}

/// The same for one subsystem.
struct Known<'a> {
    /// In their order in the world.
    programs: &'a [ProgramTable],
    /// Of its types, and those that it may call beside.
    members: Vec<&'a str>,
}

/// Reads the file's own subsystems, and the shipped ones that its types name, into the world.
pub(super) fn read(
    s: &Source<'_>,
    world: &mut World,
    tables: &[Spanned<SubsystemTable>],
    around: Around<'_>,
) -> Result<(), InputError> {
    subsystems(s, world, tables, around)?;
    for ty in around.types {
        let name = ty.subsystem.get_ref();
        if world.script.subsystems.iter().any(|o| o.name == *name) {
            continue;
        }
        if let Some((name, text)) = shipped().into_iter().find(|f| f.0 == name) {
            let file = format!("{name}.toml");
            let source = Source::new(&file, text);
            let tables: SubsystemFile =
                toml::from_str(text).map_err(|e| toml_error(&source, &e))?;
            subsystems(&source, world, &tables.subsystem, around)?;
        }
    }
    Ok(())
}

fn subsystems(
    s: &Source<'_>,
    world: &mut World,
    tables: &[Spanned<SubsystemTable>],
    around: Around<'_>,
) -> Result<(), InputError> {
    s.at_most(MAX_SUBSYSTEMS, "subsystems", tables, Spanned::span)?;
    // A file's subsystems may share what is declared: all of it first.
    for table in tables {
        declare(s, &mut world.script, table.get_ref())?;
    }
    for table in tables {
        functions(s, &mut world.script, table.get_ref(), around)?;
    }
    let run = tables.iter().flat_map(|t| &t.get_ref().run);
    for (name, text) in run {
        if let Some(slot) = mixed(&world.script, name.get_ref()) {
            let message = format!(
                "`publish {slot}` in a function that is run, and in one that the attach path calls: expected a slot of \
                 its own for those who have found a registration"
            );
            return s.error(text.span(), message);
        }
    }
    Ok(())
}

/// A slot of registrations into which a function publishes that is run.
fn mixed<'a>(script: &'a Script, function: &str) -> Option<&'a str> {
    let function = script.functions.iter().find(|f| f.name == function)?;
    let lines = &script.lines[usize::from(function.first)..usize::from(function.end)];
    let mut statements = lines.iter().flat_map(|l| &l.statements);
    statements.find_map(|s| match s {
        Statement::Publish(slot) => {
            let slot = &script.slots[usize::from(*slot)];
            slot.registers.then_some(slot.name.as_str())
        }
        _ => None,
    })
}

/// What has this name, in whichever list.
fn taken(script: &Script, name: &str) -> Option<&'static str> {
    let is = |n: &String| n == name;
    let lists = [
        (script.locks.iter().any(is), "a lock"),
        (script.domains.iter().any(is), "an SRCU domain"),
        (script.slots.iter().any(|slot| is(&slot.name)), "a slot"),
        (script.flags.iter().any(is), "a flag"),
        (script.objects.iter().any(is), "a kind of objects"),
    ];
    lists.into_iter().find(|l| l.0).map(|l| l.1)
}

fn declare(s: &Source<'_>, script: &mut Script, table: &SubsystemTable) -> Result<(), InputError> {
    let built_in = Subsystem::ALL.iter().map(|s| s.facts().name);
    let own = script.subsystems.iter().map(|o| o.name.as_str());
    let name = s.name("subsystem", &table.name, built_in.chain(own))?;
    script.subsystems.push(Own {
        name,
        reg: 0,
        unreg: 0,
        update: None,
        teardown: None,
    });
    let new = |script: &Script, kind: &str, name: &Text| {
        if ["failed", "mine", "not", "kdata", "link"].contains(&name.get_ref().as_str()) {
            let message = format!("{kind} name `{}`: a word of the language", name.get_ref());
            return s.error(name.span(), message);
        }
        if let Some(what) = taken(script, name.get_ref()) {
            let message = format!("`{}` is {what} already", name.get_ref());
            return s.error(name.span(), message);
        }
        s.name(kind, name, std::iter::empty())
    };
    let room = |have: usize, most: usize, what: &str, name: &Text| match have < most {
        true => Ok(()),
        false => s.error(name.span(), format!("more {what}: at most {most}")),
    };
    for lock in &table.locks {
        room(script.locks.len(), MAX_OWN_LOCKS, "locks", lock)?;
        let name = new(script, "lock", lock)?;
        script.locks.push(name);
    }
    for domain in &table.srcu {
        room(script.domains.len(), MAX_DOMAINS, "SRCU domains", domain)?;
        let name = new(script, "SRCU domain", domain)?;
        script.domains.push(name);
    }
    for (slot, key) in &table.slots {
        room(script.slots.len(), MAX_SLOTS, "slots", slot)?;
        let name = new(script, "slot", slot)?;
        let word = key.get_ref();
        let Some(key) = SlotKey::NAMES.iter().find(|k| k.0 == word).map(|k| k.1) else {
            let keys = SlotKey::NAMES.iter().map(|k| k.0);
            return s.error(key.span(), unknown("key of a slot", word, keys));
        };
        script.slots.push(Slot {
            name,
            key,
            registers: false,
            asked: false,
        });
    }
    for (flag, set) in &table.flags {
        room(script.flags.len(), MAX_FLAGS, "flags", flag)?;
        let name = new(script, "flag", flag)?;
        script.set |= u8::from(*set) << script.flags.len();
        script.flags.push(name);
    }
    for object in &table.objects {
        room(
            script.objects.len(),
            MAX_OBJECTS,
            "kinds of objects",
            object,
        )?;
        let name = new(script, "object", object)?;
        script.objects.push(name);
    }
    Ok(())
}

/// For what a function is there.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Reg,
    Unreg,
    Update,
    Run,
}

fn functions(
    s: &Source<'_>,
    script: &mut Script,
    table: &SubsystemTable,
    around: Around<'_>,
) -> Result<(), InputError> {
    let name = table.name.get_ref();
    // A slot may be shared: what a function finds may be of another subsystem's type.
    let theirs = around.types.iter().flat_map(|t| t.members.get_ref());
    let theirs = theirs.map(|m| &m.name);
    let members = theirs.chain(&table.members).map(|m| m.get_ref().as_str());
    let known = Known {
        programs: around.programs,
        members: members.collect(),
    };
    let place = script.subsystems.iter().position(|o| o.name == *name);
    let subsystem = place.expect("declared before") as u8;
    let function = |script: &mut Script, name: &str, role: Role, text: &Text| {
        function(s, script, subsystem, name, role, text, &known)
    };
    let reg = function(script, "reg", Role::Reg, &table.reg)?;
    let unreg = function(script, "unreg", Role::Unreg, &table.unreg)?;
    let update = table.update.as_ref();
    let update = update.map(|text| function(script, "update", Role::Update, text));
    let update = update.transpose()?;
    let teardown = table.teardown.as_ref();
    let teardown = teardown.map(|text| function(script, "teardown", Role::Run, text));
    let teardown = teardown.transpose()?;
    for (name, text) in &table.run {
        if script.functions.iter().any(|f| f.name == *name.get_ref())
            || ["reg", "unreg", "update", "teardown"].contains(&name.get_ref().as_str())
        {
            let message = format!("function `{}` is there already", name.get_ref());
            return s.error(name.span(), message);
        }
        let named = s.name("function", name, std::iter::empty())?;
        function(script, &named, Role::Run, text)?;
    }
    let own = &mut script.subsystems[usize::from(subsystem)];
    (own.reg, own.unreg, own.update) = (reg, unreg, update);
    own.teardown = teardown;
    Ok(())
}

/// A mistake: its place in the text of the function, and what is wrong.
type Mistake = (Range<usize>, String);

/// A word and its place in the text of the function.
type Word<'a> = (Range<usize>, &'a str);

fn function(
    s: &Source<'_>,
    script: &mut Script,
    subsystem: u8,
    name: &str,
    role: Role,
    text: &Text,
    known: &Known<'_>,
) -> Result<u8, InputError> {
    let first = script.lines.len();
    let mut reader = Reader {
        script,
        role,
        known,
        found: false,
        labels: Vec::new(),
        targets: Vec::new(),
    };
    let lines = reader.lines(text.get_ref(), first);
    let lines = lines.or_else(|(at, e)| s.error(s.inside(text, at), e))?;
    script.lines.extend(lines);
    script.functions.push(Function {
        name: name.to_string(),
        subsystem,
        first: first as u8,
        end: script.lines.len() as u8,
        text: text.get_ref().clone(),
    });
    Ok((script.functions.len() - 1) as u8)
}

/// Reads one function.
struct Reader<'a> {
    script: &'a mut Script,
    role: Role,
    known: &'a Known<'a>,
    /// A `find` has come: there is something that statements may be about.
    found: bool,
    /// Labels, with the line that each begins.
    labels: Vec<(&'a str, usize)>,
    /// Labels that are gone to, in the order of the statements that go there.
    targets: Vec<Word<'a>>,
}

fn words(text: &str, part: Range<usize>) -> Vec<Word<'_>> {
    let base = part.start;
    let part = &text[part];
    let word = |w: &str| base + (w.as_ptr() as usize - part.as_ptr() as usize);
    part.split_whitespace()
        .map(|w| {
            (
                word(w)..word(w) + w.len(),
                &text[word(w)..word(w) + w.len()],
            )
        })
        .collect()
}

impl<'a> Reader<'a> {
    fn lines(&mut self, text: &'a str, first: usize) -> Result<Vec<Line>, Mistake> {
        let mut lines: Vec<Line> = Vec::new();
        let mut places: Vec<Range<usize>> = Vec::new();
        let (mut at, mut goes_on) = (0, None);
        for whole in text.split_inclusive('\n') {
            let (begin, mut end) = (at, at + whole.len());
            at = end;
            if let Some(comment) = whole.find('#') {
                end = begin + comment;
            }
            let mut begin = begin;
            // A label; a second one may follow.
            while let Some((place, word)) = words(text, begin..end).first().cloned() {
                let Some(label) = word.strip_suffix(':') else {
                    break;
                };
                if goes_on.is_some() {
                    let message =
                        format!("label `{label}` inside a line, which the `;` before it continues");
                    return Err((place, message));
                }
                if label.is_empty() || self.labels.iter().any(|l| l.0 == label) {
                    let message = match label {
                        "" => "a label without a name: write `NAME:`".to_string(),
                        label => format!("label `{label}` is there already"),
                    };
                    return Err((place, message));
                }
                begin = place.end;
                self.labels.push((label, first + lines.len()));
                few(self.labels.len(), "labels", &place)?;
            }
            let shown = text[begin..end].trim();
            if shown.is_empty() {
                continue;
            }
            // What ends with `;` goes on in the next line.
            let (content, more) = match text[begin..end].trim_end().strip_suffix(';') {
                Some(content) => {
                    let place = begin + content.len();
                    (content, Some(place..place + 1))
                }
                None => (&text[begin..end], None),
            };
            let mut line = match goes_on.take() {
                Some(_) => lines.pop().expect("the line that goes on"),
                None => {
                    places.push(begin..end);
                    Line {
                        text: String::new(),
                        statements: Vec::new(),
                    }
                }
            };
            let mut start = begin;
            for part in content.split(';') {
                let range = start..start + part.len();
                start = range.end + 1;
                let words = words(text, range.clone());
                let Some(verb) = words.first().cloned() else {
                    return Err((range, "a statement is missing beside `;`".to_string()));
                };
                let statement = self.statement(&words)?;
                self.order(&line.statements, statement, &verb)?;
                line.statements.push(statement);
            }
            if !line.text.is_empty() {
                line.text.push(' ');
            }
            line.text += shown;
            lines.push(line);
            few(first + lines.len(), "lines", &(begin..end))?;
            goes_on = more;
        }
        if let Some(place) = goes_on {
            return Err((place, "a statement is missing beside `;`".to_string()));
        }
        // Whatever goes to the end, or reaches it, returns.
        let ends = |l: &Line| {
            matches!(
                l.statements.last(),
                Some(Statement::Return(_) | Statement::Goto(_))
            )
        };
        let open = self.labels.iter().any(|l| l.1 == first + lines.len());
        if open || !lines.last().is_some_and(ends) {
            places.push(text.len()..text.len());
            lines.push(Line {
                text: "return".into(),
                statements: vec![Statement::Return(0)],
            });
        }
        few(first + lines.len(), "lines", &(text.len()..text.len()))?;
        self.resolve(&mut lines)?;
        ends_at_last(&lines, first, &places)?;
        Ok(lines)
    }

    /// Where a statement may stand in its line.
    fn order(&self, before: &[Statement], this: Statement, verb: &Word<'_>) -> Result<(), Mistake> {
        let mistake = |message: String| Err((verb.0.clone(), message));
        if matches!(this, Statement::Lock(..) | Statement::Wait(_)) && !before.is_empty() {
            return mistake(format!(
                "`{}` waits: expected a line that begins with it",
                verb.1
            ));
        }
        match before.last() {
            Some(
                Statement::Call(_)
                | Statement::Fentry(_)
                | Statement::Synchronize(_)
                | Statement::SynchronizeSrcu(_)
                | Statement::Return(_)
                | Statement::Goto(_),
            ) => mistake(format!(
                "`{}` after a statement that ends its line: expected a line of its own",
                verb.1
            )),
            _ => Ok(()),
        }
    }

    /// Labels become lines.
    fn resolve(&self, lines: &mut [Line]) -> Result<(), Mistake> {
        let mut targets = self.targets.iter();
        for statement in lines.iter_mut().flat_map(|l| &mut l.statements) {
            let target = match statement {
                Statement::Replace(_, target)
                | Statement::Find(_, target)
                | Statement::Next(_, target)
                | Statement::Get(target)
                | Statement::Alloc(_, target)
                | Statement::If(_, _, target)
                | Statement::Goto(target) => target,
                _ => continue,
            };
            let (place, label) = targets.next().expect("one for each");
            let line = self.labels.iter().find(|l| l.0 == *label);
            let Some((_, line)) = line else {
                let known = self.labels.iter().map(|l| l.0);
                return Err((place.clone(), unknown("label", label, known)));
            };
            *target = (*line).min(MAX_LINES) as u8;
        }
        Ok(())
    }

    fn statement(&mut self, words: &[Word<'a>]) -> Result<Statement, Mistake> {
        let verb = &words[0];
        let Some(syntax) = syntax(verb.1) else {
            let mut verbs: Vec<&str> = Vec::new();
            for (statement, _) in STATEMENTS {
                verbs.extend(statement.split(' ').next());
            }
            return Err((verb.0.clone(), unknown("statement", verb.1, verbs)));
        };
        let mut w = Words {
            words: &words[1..],
            all: verb.0.start..words[words.len() - 1].0.end,
            syntax,
        };
        let statement = match verb.1 {
            "mutex_lock" | "spin_lock" | "down_write" => {
                Statement::Lock(self.lock(&mut w)?, Mode::Exclusive)
            }
            "mutex_unlock" | "spin_unlock" | "up_write" => {
                Statement::Unlock(self.lock(&mut w)?, Mode::Exclusive)
            }
            "down_read" => Statement::Lock(self.lock(&mut w)?, Mode::Shared),
            "up_read" => Statement::Unlock(self.lock(&mut w)?, Mode::Shared),
            "rcu_read_lock" => Statement::Enter(ReadSide::Rcu),
            "rcu_read_unlock" => Statement::Leave(ReadSide::Rcu),
            "rcu_read_lock_trace" => Statement::Enter(ReadSide::Trace),
            "rcu_read_unlock_trace" => Statement::Leave(ReadSide::Trace),
            "srcu_read_lock" => Statement::Enter(ReadSide::Srcu(self.domain(&mut w)?)),
            "srcu_read_unlock" => Statement::Leave(ReadSide::Srcu(self.domain(&mut w)?)),
            "synchronize_rcu" => Statement::Synchronize(Stage::Rcu),
            "synchronize_rcu_tasks" => Statement::Synchronize(Stage::Tasks),
            "synchronize_rcu_tasks_trace" => Statement::Synchronize(Stage::Trace),
            "synchronize_srcu" => Statement::SynchronizeSrcu(self.domain(&mut w)?),
            "publish" => {
                let slot = self.slot(&mut w)?;
                self.script.slots[usize::from(slot)].registers |= self.role != Role::Run;
                Statement::Publish(slot)
            }
            "withdraw" => Statement::Withdraw(self.slot(&mut w)?),
            "replace" => {
                self.only(verb, Role::Update, "`update`, which has an old kdata")?;
                let slot = self.slot(&mut w)?;
                self.target(&mut w)?;
                Statement::Replace(slot, 0)
            }
            "find" | "next" => {
                let run = "a function that is run: reg, unreg and update have their kdata";
                self.only(verb, Role::Run, run)?;
                let slot = self.slot(&mut w)?;
                self.target(&mut w)?;
                match verb.1 {
                    "find" => Statement::Find(slot, 0),
                    _ => Statement::Next(slot, 0),
                }
            }
            "get" => {
                self.target(&mut w)?;
                Statement::Get(0)
            }
            "put" => Statement::Put,
            "alloc" => {
                let object = self.object(&mut w)?;
                self.target(&mut w)?;
                Statement::Alloc(object, 0)
            }
            "free" => Statement::Free(self.object(&mut w)?),
            "use" if w.take("kdata").is_some() => Statement::UseKdata,
            "use" if w.take("link").is_some() => Statement::UseLink,
            "use" => Statement::Use(self.object(&mut w)?),
            "set" => Statement::Set(self.flag(&mut w)?),
            "clear" => Statement::Clear(self.flag(&mut w)?),
            "wait" => Statement::Wait(self.flag(&mut w)?),
            "call" => Statement::Call(self.member(&mut w)?),
            "fentry" => Statement::Fentry(self.traces(&mut w)?),
            "if" => {
                let wanted = w.take("not").is_none();
                let test = self.test(&mut w)?;
                w.expect("goto")?;
                self.targets.push(w.word("a label")?);
                Statement::If(test, wanted, 0)
            }
            "goto" => {
                self.targets.push(w.word("a label")?);
                Statement::Goto(0)
            }
            _ => {
                let error = w.words.first().cloned();
                let err = errno_of(&mut w)?;
                if let Some((place, word)) = error.filter(|_| err != 0 && self.role == Role::Unreg)
                {
                    return Err((
                        place,
                        format!("`return {word}` in unreg(), which returns nothing"),
                    ));
                }
                Statement::Return(err)
            }
        };
        w.end()?;
        self.about(verb, statement)?;
        Ok(statement)
    }

    /// In a function that is run there is nothing to be about before a `find`.
    fn about(&mut self, verb: &Word<'_>, statement: Statement) -> Result<(), Mistake> {
        self.found |= self.role != Role::Run || matches!(statement, Statement::Find(..));
        let about_kdata = matches!(
            statement,
            Statement::Publish(_)
                | Statement::Get(_)
                | Statement::Put
                | Statement::Call(_)
                | Statement::UseKdata
                | Statement::UseLink
                | Statement::Next(..)
        );
        match about_kdata && !self.found {
            false => Ok(()),
            true => Err((
                verb.0.clone(),
                format!(
                    "`{}` before a `find`: nothing was found that it could be about",
                    verb.1
                ),
            )),
        }
    }

    fn only(&self, verb: &Word<'_>, role: Role, place: &str) -> Result<(), Mistake> {
        match self.role == role {
            true => Ok(()),
            false => Err((verb.0.clone(), format!("`{}` belongs into {place}", verb.1))),
        }
    }

    fn target(&mut self, w: &mut Words<'_, 'a>) -> Result<(), Mistake> {
        w.expect("else")?;
        w.expect("goto")?;
        self.targets.push(w.word("a label")?);
        Ok(())
    }

    fn lock(&self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        named("lock", w, self.script.locks.iter().map(String::as_str))
    }

    fn domain(&self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        let domains = self.script.domains.iter().map(String::as_str);
        named("SRCU domain", w, domains)
    }

    fn slot(&self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        named("slot", w, self.script.slots.iter().map(|s| s.name.as_str()))
    }

    fn flag(&self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        named("flag", w, self.script.flags.iter().map(String::as_str))
    }

    fn object(&self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        named("object", w, self.script.objects.iter().map(String::as_str))
    }

    fn member(&mut self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        let (at, name) = w.word("a member")?;
        if !self.known.members.contains(&name) {
            let known = self.known.members.iter().copied();
            let hint = "; `members` of the subsystem names what its types leave out";
            return Err((at, unknown("member", name, known) + hint));
        }
        let place = self.script.members.iter().position(|m| m == name);
        let place = place.unwrap_or_else(|| {
            self.script.members.push(name.to_string());
            self.script.members.len() - 1
        });
        Ok(place.min(usize::from(u8::MAX)) as u8)
    }

    /// A tracing program.
    fn traces(&self, w: &mut Words<'_, 'a>) -> Result<u8, Mistake> {
        let (place, word) = w.word("the name of a tracing program")?;
        let traces = |p: &&ProgramTable| p.kind.as_ref().is_some_and(|k| k.get_ref() == "tracing");
        let programs = self.known.programs;
        let found = programs.iter().position(|p| p.name.get_ref() == word);
        match found {
            Some(i) if traces(&&programs[i]) => Ok(i as u8),
            Some(_) => Err((
                place,
                format!("`{word}` is no tracing program: expected one with `kind = \"tracing\"`"),
            )),
            None => {
                let names = programs.iter().filter(traces);
                let names = names.map(|p| p.name.get_ref().as_str());
                Err((place, unknown("tracing program", word, names)))
            }
        }
    }

    fn test(&mut self, w: &mut Words<'_, 'a>) -> Result<Test, Mistake> {
        if w.take("failed").is_some() {
            return Ok(Test::Failed);
        }
        if w.take("mine").is_some() {
            return Ok(Test::Mine(self.slot(w)?));
        }
        let word = w.word("a slot, flag or object")?;
        let script = &*self.script;
        let at = |names: &[String]| names.iter().position(|n| n == word.1).map(|i| i as u8);
        let slot = script.slots.iter().position(|s| s.name == word.1);
        if let Some(i) = slot.filter(|_| self.role == Role::Reg) {
            self.script.slots[i].asked = true;
        }
        let script = &*self.script;
        let slot = slot.map(|i| Test::Taken(i as u8));
        let flag = || at(&script.flags).map(Test::Flag);
        let object = || at(&script.objects).map(Test::Object);
        slot.or_else(flag).or_else(object).ok_or_else(|| {
            let slots = script.slots.iter().map(|s| &s.name);
            let names = slots.chain(&script.flags).chain(&script.objects);
            let names = names.map(String::as_str);
            (word.0, unknown("slot, flag or object", word.1, names))
        })
    }
}

/// The words of a statement after its first one.
struct Words<'b, 'a> {
    words: &'b [Word<'a>],
    all: Range<usize>,
    syntax: &'static str,
}

impl<'a> Words<'_, 'a> {
    fn word(&mut self, what: &str) -> Result<Word<'a>, Mistake> {
        let Some((first, rest)) = self.words.split_first() else {
            let message = format!("{what} is missing: write `{}`", self.syntax);
            return Err((self.all.clone(), message));
        };
        self.words = rest;
        Ok(first.clone())
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let (first, rest) = self.words.split_first()?;
        (first.1 == word).then(|| self.words = rest)
    }

    fn expect(&mut self, word: &str) -> Result<(), Mistake> {
        let found = self.word(&format!("`{word}`"))?;
        match found.1 == word {
            true => Ok(()),
            false => Err((
                found.0,
                format!(
                    "`{}` where `{word}` is expected: write `{}`",
                    found.1, self.syntax
                ),
            )),
        }
    }

    fn end(&self) -> Result<(), Mistake> {
        match self.words.first() {
            None => Ok(()),
            Some((place, word)) => Err((
                place.clone(),
                format!("`{word}` is one word too many: write `{}`", self.syntax),
            )),
        }
    }
}

fn named<'n>(
    kind: &str,
    w: &mut Words<'_, '_>,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Result<u8, Mistake> {
    let (place, word) = w.word(&format!("the name of a {kind}"))?;
    let found = names.clone().position(|n| n == word).map(|i| i as u8);
    found.ok_or_else(|| (place, unknown(kind, word, names)))
}

/// No more lines, or labels, than all functions of a file may have: refused before anything is made of them.
fn few(count: usize, what: &str, place: &Range<usize>) -> Result<(), Mistake> {
    match count <= MAX_LINES {
        true => Ok(()),
        false => Err((
            place.clone(),
            format!("more than {MAX_LINES} {what} of functions: at most that many"),
        )),
    }
}

/// What `return` returns.
fn errno_of(w: &mut Words<'_, '_>) -> Result<i8, Mistake> {
    if w.words.is_empty() || w.take("0").is_some() {
        return Ok(0);
    }
    let (place, word) = w.word("an error")?;
    let found = errno::NAMES.iter().find(|n| n.1 == word).map(|n| n.0);
    found.ok_or_else(|| {
        let names = errno::NAMES.iter().map(|n| n.1);
        (place, unknown("error", word, names))
    })
}

/// Every way through the function ends: a loop goes on to a `next` entry each time, and finds none anew.
fn ends_at_last(lines: &[Line], first: usize, places: &[Range<usize>]) -> Result<(), Mistake> {
    let ways = |line: usize| -> Vec<usize> {
        let mut ways = Vec::new();
        for statement in &lines[line].statements {
            match statement {
                Statement::Return(_) => return ways,
                Statement::Goto(target) => {
                    ways.push(usize::from(*target) - first);
                    return ways;
                }
                Statement::Replace(_, target)
                | Statement::Find(_, target)
                | Statement::Next(_, target)
                | Statement::Get(target)
                | Statement::Alloc(_, target)
                | Statement::If(_, _, target) => ways.push(usize::from(*target) - first),
                _ => {}
            }
        }
        ways.push(line + 1);
        ways
    };
    let has = |line: usize, which: fn(&Statement) -> bool| lines[line].statements.iter().any(which);
    let next = |s: &Statement| matches!(s, Statement::Next(..));
    let find = |s: &Statement| matches!(s, Statement::Find(..));
    for (start, place) in places.iter().enumerate() {
        for (through_next, message) in [
            (false, "a loop that may never end: expected `next` in it"),
            (
                true,
                "`find` in a loop begins anew each time: expected it before the loop",
            ),
        ] {
            if (!through_next && has(start, next)) || (through_next && !has(start, find)) {
                continue;
            }
            let mut seen = vec![false; lines.len()];
            let mut todo = ways(start);
            while let Some(line) = todo.pop() {
                if line == start {
                    return Err((place.clone(), message.to_string()));
                }
                if line >= lines.len() || seen[line] || (!through_next && has(line, next)) {
                    continue;
                }
                seen[line] = true;
                todo.extend(ways(line));
            }
        }
    }
    Ok(())
}
