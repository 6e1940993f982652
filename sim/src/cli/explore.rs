//! `explore`: the model in a browser.

use std::io::Write;

use struct_ops_model::Design;

use super::{Exit, Failure, Job};
use crate::scenario::{Case, InputError};
use crate::serve::{Begin, Server, listen};
use crate::view::{self, Shown};
use crate::walk::write_path;
use crate::{input, shipped};

/// What is shown where nothing is said.
const SCENARIO: &str = "two-links-tcp";
const DESIGN: &str = "rfc";

/// The design where none is named: mainline, or the first one under which the scenario has a meaning.
pub(super) fn usual(case: &Case) -> Design {
    let mut presets = Design::presets().into_iter();
    let first = presets.find(|d| case.runs_under(d, false));
    first.unwrap_or_else(Design::mainline)
}

/// Where the page begins.
pub(super) fn begin(args: &super::args::Explore) -> Result<Begin, Failure> {
    let named = |option: &str, name: &Option<String>| {
        let design = name.as_deref().map(Design::parse).transpose();
        design.map_err(|e| InputError::whole(option, e.to_string()))
    };
    let case = shipped::find_case(args.scenario.as_deref().unwrap_or(SCENARIO))?;
    let chosen = named("--design", &args.design)?;
    let design = match (&args.scenario, chosen) {
        (_, Some(design)) => design,
        (None, None) => Design::parse(DESIGN).expect("a preset"),
        (Some(_), None) => usual(&case),
    };
    let beside = named("--beside", &args.beside)?;
    for design in beside.iter().chain([&design]) {
        super::asked(std::slice::from_ref(design), &[case.about()])?;
    }
    let path = args.path.clone().unwrap_or_default();
    // Whatever is wrong with them is said before a browser is opened.
    let run = view::chosen(&case, &design, &path, "--path")?;
    Shown::new(&*run, beside.as_ref(), &super::mailer())?;
    drop(run);
    Ok(Begin {
        scenario: case.head().name.clone(),
        toml: match case.head().shipped {
            true => String::new(),
            false => case.head().text.clone(),
        },
        design: design.name,
        beside: beside.map_or(String::new(), |d| d.name),
        at: path.len(),
        path: write_path(&path),
    })
}

/// Serves the page until a signal comes.
pub(super) fn explore(job: &Job, args: &super::args::Explore) -> Result<Exit, Failure> {
    let begin = begin(args)?;
    let outside = |what: &str, e: &dyn std::fmt::Display| Failure::Outside(format!("{what}: {e}"));
    let (listener, port) = listen(args.port).map_err(|e| {
        let port = args.port.map_or(String::new(), |p| format!(" port {p}"));
        outside(&format!("127.0.0.1{port}"), &e)
    })?;
    let name = input::shown(args.scenario.as_deref().unwrap_or(SCENARIO)).to_string();
    let mut out = std::io::stdout().lock();
    // Whoever has closed standard output has the address, or does not want it.
    let _ = writeln!(
        out,
        "{name} under {}: http://127.0.0.1:{port}/\nInterrupt (Ctrl-C) to end.",
        begin.design
    );
    let _ = out.flush();
    drop(out);
    let server = Server::new(begin, port, super::mailer());
    let bounds = job.bounds(None, None);
    server
        .run(listener, || bounds.reached().is_some())
        .map_err(|e| outside("the server", &e))?;
    Ok(Exit::Expected)
}
