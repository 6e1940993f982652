//! What is shown and sent of a run, whatever it is of: the attach path (`attach`) or lookups (`lookup`).
//!
//! Each of the two says what [`Played`] asks of it; what is made of that is written here once.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use struct_ops_model::{Design, Invariant, design};

use super::board::{self, Columns};
use super::draw::Shape;
use super::mermaid;
use super::state::{Id, Object};
use super::timeline::{self, Picture};
use crate::report::json::steps::Step;
use crate::report::mail::{self, Words};
use crate::report::screen::Screen;
use crate::report::trace::Row;
use crate::scenario::{Head, InputError};
use crate::trace::Trace;
use crate::tracefile::{File, Promise};
use crate::walk::{Parted, write_path};

/// A run that has been carried out.
pub trait Played {
    /// What its scenario says of itself.
    fn head(&self) -> &Head;
    /// What the scenario is about.
    fn subject(&self) -> design::About;
    /// The design.
    fn design(&self) -> &Design;
    /// The steps.
    fn trace(&self) -> &Trace;
    /// The states as objects: the one before the first step, and the one after each.
    fn objects(&self) -> Vec<Vec<Object>>;
    /// Who acts: a lane for each.
    fn lanes(&self) -> Vec<String>;
    /// The choices that lead here.
    fn path(&self) -> Vec<usize>;
    /// Pictures of these states, which are its own, with the boxes in these columns.
    fn board(&self, states: &[Vec<Object>], across: Columns) -> Board;
    /// Who can do what in each state.
    fn doing(&self) -> Vec<Vec<Actor>>;
    /// The same schedule under another design, as far as it can be followed.
    ///
    /// # Errors
    /// A set-up that does not work.
    fn follow<'b>(
        &'b self,
        design: &'b Design,
    ) -> Result<(Box<dyn Played + 'b>, Option<Parted>), InputError>;

    /// The steps as rows of a table.
    fn rows(&self) -> Vec<Row<'_>> {
        self.trace().steps.iter().map(Row::from).collect()
    }

    /// What it breaks, in the order of the steps.
    fn violated(&self) -> Vec<Promise> {
        Promise::broken(self.trace())
    }

    /// The run as a file for `replay`.
    fn file(&self) -> File {
        let actions = self.trace().actions();
        File::new(
            self.subject(),
            self.head(),
            self.design(),
            actions,
            self.violated(),
        )
    }

    /// What it is called.
    fn title(&self) -> String {
        let ids: Vec<&str> = self.trace().invariants().iter().map(|i| i.id()).collect();
        let breaks = match ids.as_slice() {
            [] => String::new(),
            ids => format!(" breaks {}", ids.join(", ")),
        };
        format!("{} under {}{breaks}", self.head().name, self.design())
    }

    /// The run as a picture of its own.
    fn svg(&self) -> String {
        timeline::file(&self.title(), &self.rows(), &self.objects(), &self.lanes())
    }

    /// The run as a Mermaid sequence diagram.
    fn mermaid(&self) -> String {
        mermaid::sequence(&self.title(), &self.rows(), &self.lanes())
    }

    /// The command that shows the run again.
    fn command(&self, screen: &Screen) -> String {
        let (path, design) = (write_path(&self.path()), &self.design().name);
        let words = [
            "run",
            self.head().argument(),
            "--design",
            design,
            "--path",
            &path,
        ];
        screen.typed(&words.map(String::from))
    }

    /// The run as text for a mail, with the command that shows it again, and with what each step changes if asked for.
    fn mail(&self, screen: &Screen, changes: bool) -> String {
        let about = format!("{}: {}", self.title(), self.head().question);
        let command = self.command(screen);
        let mut words = Words::new(about, &command);
        words.changes = changes;
        mail::of_run(self.trace(), words)
    }

    /// The run as a page shows it; commands are typed as `screen` says, boxes stand in these columns.
    fn view(&self, screen: &Screen, across: Columns) -> View {
        let objects = self.objects();
        let Picture { width, height, svg } =
            timeline::timeline(timeline::BESIDE, &self.rows(), &objects, &self.lanes());
        let Board { size, drawn } = self.board(&objects, across);
        View {
            scenario: Card::of(self.head()),
            design: self.design().name.clone(),
            linux: self.trace().linux.version().into(),
            heading: self.title(),
            path: write_path(&self.path()),
            steps: self.trace().steps.iter().map(Step::from).collect(),
            violated: self.violated(),
            promises: sentences(&self.trace().invariants()),
            ended: self.trace().ended,
            timeline: Drawing { width, height, svg },
            board: size,
            frames: frames(&objects, drawn, self.doing()),
            trace: self.file().text(),
            mermaid: self.mermaid(),
            mail: self.mail(screen, false),
            command: self.command(screen),
            picture: self.svg(),
        }
    }
}

/// Pictures of states.
#[derive(Clone, Debug)]
pub struct Board {
    /// How large they are.
    pub size: Size,
    /// What is drawn of each state.
    pub drawn: Vec<Vec<Shape>>,
}

/// The sentences of promises.
fn sentences(broken: &[Invariant]) -> BTreeMap<String, String> {
    let sentence = |i: &Invariant| (i.id().to_string(), i.sentence().to_string());
    broken.iter().map(sentence).collect()
}

/// States as differences: their objects, what is drawn of them, and who can do what.
fn frames(states: &[Vec<Object>], drawn: Vec<Vec<Shape>>, doing: Vec<Vec<Actor>>) -> Vec<Frame> {
    let mut known: HashMap<Id, &Object> = HashMap::new();
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    let mut frames = Vec::new();
    for ((objects, shapes), actors) in states.iter().zip(drawn).zip(doing) {
        let set = objects
            .iter()
            .filter(|o| known.get(&o.id) != Some(o))
            .cloned();
        let mut frame = Frame {
            set: set.collect(),
            actors,
            ..Frame::default()
        };
        let now: HashMap<Id, &Object> = objects.iter().map(|o| (o.id, o)).collect();
        frame.drop = known
            .keys()
            .filter(|id| !now.contains_key(id))
            .copied()
            .collect();
        frame.drop.sort();
        known = now;
        let shapes: BTreeMap<String, String> = shapes.into_iter().map(|s| (s.id, s.svg)).collect();
        let new = shapes
            .iter()
            .filter(|(id, svg)| before.get(*id) != Some(svg));
        frame.draw = new
            .map(|(id, svg)| Shape {
                id: id.clone(),
                svg: svg.clone(),
            })
            .collect();
        frame.erase = before
            .keys()
            .filter(|id| !shapes.contains_key(*id))
            .cloned()
            .collect();
        before = shapes;
        frames.push(frame);
    }
    frames
}

/// What a page shows: a run, and the same schedule under another design beside it.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The run.
    pub view: View,
    /// The other one.
    pub beside: Option<Beside>,
}

/// The same schedule under another design.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// As far as it could be followed.
    pub view: View,
    /// Where it could not.
    pub parted: Option<Parted>,
}

impl Shown {
    /// The same for a page without a program behind it, where nothing can be chosen: what others wait for stays. A page
    /// draws shapes, not objects; what is sent of two designs is the first one's run.
    pub fn to_send(mut self) -> Self {
        if let Some(Beside { view, .. }) = &mut self.beside {
            // One list tells the steps of both.
            self.view.timeline.svg.clear();
            for unused in [
                &mut view.timeline.svg,
                &mut view.trace,
                &mut view.mermaid,
                &mut view.mail,
                &mut view.picture,
                &mut view.scenario.toml,
            ] {
                unused.clear();
            }
        }
        let frames = self.view.frames.iter_mut();
        let frames = frames.chain(self.beside.iter_mut().flat_map(|b| &mut b.view.frames));
        for actor in frames.flat_map(|frame| {
            frame.set.clear();
            frame.drop.clear();
            &mut frame.actors
        }) {
            actor.waits = match actor.choices.as_mut_slice() {
                [] => continue,
                [one] => std::mem::take(&mut one.text),
                [first, others @ ..] => {
                    format!("{}, or one of {} more", first.text, others.len())
                }
            };
            actor.choices.clear();
        }
        self
    }

    /// A run, and the same schedule under another design.
    ///
    /// # Errors
    /// A set-up that does not work.
    pub fn new(
        run: &dyn Played,
        beside: Option<&Design>,
        screen: &Screen,
    ) -> Result<Self, InputError> {
        let beside = beside.map(|design| {
            let (other, parted) = run.follow(design)?;
            let view = other.view(screen, board::BESIDE);
            Ok(Beside { view, parted })
        });
        let beside = beside.transpose()?;
        let across = match beside {
            None => board::ALONE,
            Some(_) => board::BESIDE,
        };
        Ok(Shown {
            view: run.view(screen, across),
            beside,
        })
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The scenario.
    pub scenario: Card,
    /// The design.
    pub design: String,
    /// The kernel whose functions are named.
    pub linux: String,
    /// What the run is called.
    pub heading: String,
    /// The choices that lead here, as [`write_path`] writes them.
    pub path: String,
    /// The command that shows the run again.
    pub command: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// What was broken, in the order of the steps.
    pub violated: Vec<Promise>,
    /// The sentences of the promises that were broken.
    pub promises: BTreeMap<String, String>,
    /// Nothing can happen any more.
    pub ended: bool,
    /// The run as a picture: one lane per actor.
    pub timeline: Drawing,
    /// How large pictures of states are.
    pub board: Size,
    /// The state after the set-up, and what each step has changed.
    pub frames: Vec<Frame>,
    /// The run as a file for `replay`.
    pub trace: String,
    /// The run as a Mermaid sequence diagram.
    pub mermaid: String,
    /// The run as text for a mail.
    pub mail: String,
    /// The run as an SVG file.
    pub picture: String,
}

/// What a scenario says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// It came with the program.
    pub shipped: bool,
    /// Its heading.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// Its text.
    pub toml: String,
}

impl Card {
    fn of(head: &Head) -> Self {
        Card {
            name: head.name.clone(),
            shipped: head.shipped,
            title: head.title.clone(),
            question: head.question.clone(),
            toml: head.text.clone(),
        }
    }
}

/// A picture.
#[derive(Clone, Debug, Serialize)]
pub struct Drawing {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// What is in it.
    pub svg: String,
}

/// A size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// What is different from the state before.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Frame {
    /// Objects that are new or have changed.
    pub set: Vec<Object>,
    /// Objects that are no more.
    pub drop: Vec<Id>,
    /// Shapes that are new or have changed.
    pub draw: Vec<Shape>,
    /// Shapes that are no more.
    pub erase: Vec<String>,
    /// Who can do what now.
    pub actors: Vec<Actor>,
}

/// A CPU, or the worker.
#[derive(Clone, Debug, Serialize)]
pub struct Actor {
    /// `cpu0`, or `work`.
    pub name: String,
    /// Its operations, or the kinds of operation that it may choose from.
    pub plan: Vec<String>,
    /// The operations come in this order.
    pub fixed: bool,
    /// How many operations it has begun.
    pub done: usize,
    /// What it can do.
    pub choices: Vec<Choice>,
    /// Why it can do nothing; empty if it can.
    pub waits: String,
}

/// An action that can be taken.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Its place among all that can be done.
    pub index: usize,
    /// The step of the model.
    pub label: String,
    /// What it is called.
    pub text: String,
    /// Where it would be carried out.
    pub site: String,
    /// What the step does.
    pub what: String,
}
