//! `explore`: the model in a browser.

use std::io::Write;

use struct_ops_model::Design;
use struct_ops_model::design::About;

use super::{Exit, Failure, Job};
use crate::scenario::InputError;
use crate::serve::{Begin, Server, listen};
use crate::view::{self, write_path};
use crate::{input, shipped};

/// What is shown where nothing is said.
const SCENARIO: &str = "two-links-tcp";
const DESIGN: &str = "rfc";

/// Where the page begins.
pub(super) fn begin(args: &super::args::Explore) -> Result<Begin, Failure> {
    let named = |option: &str, name: &Option<String>| {
        let design = name.as_deref().map(Design::parse).transpose();
        design.map_err(|e| InputError::whole(option, e.to_string()))
    };
    let scenario = shipped::find(args.scenario.as_deref().unwrap_or(SCENARIO))?;
    let usual = match args.scenario {
        None => Design::parse(DESIGN).expect("a preset"),
        Some(_) => Design::mainline(),
    };
    let design = named("--design", &args.design)?.unwrap_or(usual);
    let beside = named("--beside", &args.beside)?;
    for design in beside.iter().chain([&design]) {
        super::asked(std::slice::from_ref(design), &[About::AttachPath])?;
    }
    let machine = view::machine(&scenario, &design)?;
    let path = args.path.clone().unwrap_or_default();
    let actions = view::actions(&machine, &path);
    actions.map_err(|e| InputError::whole("--path", e.to_string()))?;
    Ok(Begin {
        scenario: scenario.name.clone(),
        toml: if scenario.shipped {
            String::new()
        } else {
            scenario.text.clone()
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
