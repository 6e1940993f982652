//! What somebody meant who wrote an argument as another verb takes it. Derived from the arguments that there are.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command};
use struct_ops_model::reach::Kind;
use struct_ops_model::{Design, Invariant};

use super::output::screen;
use crate::shipped;

/// Puts a tip into an error of clap, in place of its own where one is known.
pub(super) fn hint(error: &mut Error, command: &Command, words: &[String]) {
    let said = match error.kind() {
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand),
        _ => None,
    };
    let Some(ContextValue::String(said)) = said else {
        return;
    };
    let verb = words.iter().find_map(|w| command.find_subcommand(w));
    let tip = match said.strip_prefix("--") {
        Some(name) => option(name, verb, command, words),
        None => word(said, verb, command, words),
    };
    if let Some(tip) = tip {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.remove(ContextKind::Suggested);
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, tips);
    }
}

/// An option that the verb does not have: it takes the same without one, or other verbs have it.
fn option(
    name: &str,
    verb: Option<&Command>,
    command: &Command,
    words: &[String],
) -> Option<String> {
    let bare = |arg: &Arg| arg.is_positional() && arg.get_id() == name;
    if let Some(verb) = verb
        && verb.get_arguments().any(bare)
    {
        let option = format!("--{name}");
        let mut typed = words.to_vec();
        typed.retain(|word| *word != option);
        for word in &mut typed {
            if let Some(value) = word.strip_prefix(&(option.clone() + "=")) {
                *word = value.to_string();
            }
        }
        let typed = screen().typed(&typed);
        return Some(format!(
            "`{}` takes it without an option: {typed}",
            verb.get_name()
        ));
    }
    let has = |verb: &&Command| verb.get_arguments().any(|arg| arg.get_long() == Some(name));
    let verbs = command.get_subcommands().filter(has).map(Command::get_name);
    match verbs.collect::<Vec<_>>().as_slice() {
        [] => None,
        verbs => Some(format!("`--{name}` is an option of {}", verbs.join(", "))),
    }
}

/// A word where none belongs: the value of an option, of this verb or of `check`.
fn word(said: &str, verb: Option<&Command>, command: &Command, words: &[String]) -> Option<String> {
    let mut typed = words.to_vec();
    let verb = verb.or_else(|| {
        typed.insert(0, "check".to_string());
        command.find_subcommand("check")
    })?;
    let has = |name: &str| verb.get_arguments().any(|arg| arg.get_long() == Some(name));
    let scenario = shipped::names().contains(&said) || said.ends_with(".toml");
    let kinds = [
        ("scenario", scenario),
        ("design", Design::parse(said).is_ok()),
        ("invariant", Invariant::from_id(said).is_some()),
        ("program", Kind::parse(said).is_some()),
    ];
    let (name, _) = kinds.into_iter().find(|(name, is)| *is && has(name))?;
    let at = typed.iter().position(|word| word == said)?;
    typed.insert(at, format!("--{name}"));
    let typed = screen().typed(&typed);
    Some(format!(
        "`{}` takes it as an option: {typed}",
        verb.get_name()
    ))
}
