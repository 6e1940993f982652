//! What came of traces, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use super::{Outcome, Verdict};

/// For people: each trace, then how many came to what. What a kernel cannot play at all has no line of its own in a
/// list.
pub fn text(title: &str, outcomes: &[Outcome], brief: bool) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        if outcomes.len() == 1 || !matches!(outcome.verdict, Verdict::NotExpressible(_)) {
            out += &one(title, outcome, brief);
        }
    }
    if outcomes.len() > 1 {
        out += &summary(title, outcomes);
    }
    out
}

/// How many came to what: the share of those that a kernel can play and show, and of all.
fn summary(title: &str, outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    let scenarios: BTreeSet<&str> = outcomes.iter().map(|o| o.scenario.as_str()).collect();
    let _ = writeln!(
        out,
        "\n{title}: {} counterexamples of {} scenarios",
        outcomes.len(),
        scenarios.len()
    );
    let is_beyond = |outcome: &&Outcome| {
        matches!(
            outcome.verdict,
            Verdict::NotExpressible(_) | Verdict::NotObservable
        )
    };
    let count = |word: &str| outcomes.iter().filter(|o| o.verdict.word() == word).count();
    let within = outcomes.len() - outcomes.iter().filter(is_beyond).count();
    let mut words: Vec<&str> = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| !is_beyond(outcome)) {
        if !words.contains(&outcome.verdict.word()) {
            words.push(outcome.verdict.word());
        }
    }
    words.sort_by_key(|word| std::cmp::Reverse(count(word)));
    for word in &words {
        let _ = writeln!(out, "{:>6} {word}", count(word));
    }
    let reproduced = count(Verdict::Reproduced.word());
    let share = |of: usize| match of {
        0 => String::new(),
        of => format!(": {} % reproduced", reproduced * 100 / of),
    };
    let moves: BTreeSet<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(outcome.scenario.clone() + &outcome.moves.as_ref()?.lines()))
        .collect();
    let _ = writeln!(
        out,
        "of {within} that a kernel can play and show, in {} different orders{}",
        moves.len(),
        share(within)
    );
    let mut reasons: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for outcome in outcomes.iter().filter(is_beyond) {
        let why = match &outcome.verdict {
            Verdict::NotExpressible(why) => why.clone(),
            _ => format!("no symptom of {}", outcome.invariant.id()),
        };
        *reasons.entry((outcome.verdict.word(), why)).or_default() += 1;
    }
    for ((word, why), count) in &reasons {
        let _ = writeln!(out, "{count:>6} {word}: {why}");
    }
    if !reasons.is_empty() {
        let _ = writeln!(out, "of all {}{}", outcomes.len(), share(outcomes.len()));
    }
    out
}

fn one(title: &str, outcome: &Outcome, brief: bool) -> String {
    let mut out = String::new();
    let place = format!("{} {}", outcome.scenario, outcome.what);
    let why = outcome
        .verdict
        .why()
        .map_or(String::new(), |why| format!(": {why}"));
    let times = match outcome.verdict {
        Verdict::Reproduced | Verdict::NotReproduced(_) => {
            format!(", {} of {} runs", outcome.hits, outcome.runs)
        }
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "{place} on {title}, design {}: {}{times}{why}",
        outcome.design,
        outcome.verdict.word()
    );
    if brief {
        return out;
    }
    if let Some(with) = &outcome.with {
        let _ = writeln!(out, "  the same moves as of {with}, made once for both");
    }
    if let Some(moves) = &outcome.moves {
        for step in &moves.moves {
            let _ = writeln!(out, "  {step}");
        }
        if moves.moved > 0 {
            let _ = writeln!(
                out,
                "  {} steps come in another place than in the trace; the model breaks the same promise so",
                moves.moved
            );
        }
        for note in &moves.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    for (symptom, (count, what)) in &outcome.seen {
        let _ = writeln!(out, "  seen: {count} x {}: {what}", symptom.word());
    }
    if outcome.explained > 0 {
        let _ = writeln!(
            out,
            "  the model explains {} runs, {} of them not without breaking the promise",
            outcome.explained, outcome.told
        );
    }
    for (why, count) in &outcome.open {
        let _ = writeln!(out, "  {count} runs: {why}");
    }
    out.push('\n');
    out
}

/// For programs.
pub fn json(title: &str, outcomes: &[Outcome]) -> Value {
    let one = |outcome: &Outcome| {
        let moves = outcome.moves.iter().flat_map(|moves| &moves.moves);
        let seen: Vec<Value> = outcome
            .seen
            .iter()
            .map(|(symptom, (count, what))| {
                json!({ "symptom": symptom.word(), "count": count, "what": what })
            })
            .collect();
        json!({
            "trace": outcome.name,
            "scenario": outcome.scenario,
            "design": outcome.design,
            "invariant": outcome.invariant.id(),
            "step": outcome.step.map(struct_ops_model::Pc::name),
            "verdict": outcome.verdict.word().to_lowercase(),
            "why": outcome.verdict.why(),
            "runs": outcome.runs,
            "hits": outcome.hits,
            "rounds_unexplained_without": outcome.told,
            "with": outcome.with,
            "moves": moves.map(ToString::to_string).collect::<Vec<String>>(),
            "steps_moved": outcome.moves.as_ref().map(|moves| moves.moved),
            "notes": outcome.moves.as_ref().map(|moves| moves.notes.clone()),
            "seen": seen,
        })
    };
    json!({ "title": title, "traces": outcomes.iter().map(one).collect::<Vec<Value>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Trace;
    use struct_ops_model::Design;

    #[test]
    fn the_share_is_of_what_a_kernel_can_show_and_of_all() {
        let scenario = struct_ops_sim::shipped::find("owner-member").unwrap();
        let design = Design::mainline();
        let trace = &Trace::shortest(&scenario, &design).unwrap().unwrap()[0];
        let of = |verdict| Outcome {
            verdict,
            ..Outcome::new(trace)
        };
        let outcomes = [
            of(Verdict::Reproduced),
            of(Verdict::Reproduced),
            of(Verdict::NotGated("nobody can be held".into())),
            of(Verdict::NotExpressible("no kernel has it".into())),
        ];
        let text = text("6.12-stock", &outcomes, true);
        assert!(
            text.contains("     2 reproduced\n     1 not gated\n"),
            "{text}"
        );
        assert!(text.contains(": 66 % reproduced\n"), "{text}");
        assert!(
            text.contains("     1 not expressible: no kernel has it\n"),
            "{text}"
        );
        assert!(text.contains("of all 4: 50 % reproduced\n"), "{text}");
        // it has no line of its own in a list
        assert_eq!(text.matches("owner-member").count(), 3, "{text}");
    }
}
