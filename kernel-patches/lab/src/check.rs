//! What a maintainer looks at before reading a series: every patch applies and
//! builds alone without new warnings, checkpatch is content, both uapi headers
//! change in one patch, sign-off and author agree.

use crate::build::{Lab, apply, out_arg};
use crate::error::{At, Error, Result};
use crate::run::run;
use crate::series::{Series, patches_root};
use crate::tools;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UAPI: [&str; 2] = ["include/uapi/linux/bpf.h", "tools/include/uapi/linux/bpf.h"];

pub struct Finding {
    pub patch: String,
    pub what: String,
}

/// All findings of a series; an empty list is a series that can be sent.
pub fn check(lab: &Lab, series: Series) -> Result<Vec<Finding>> {
    tools::require_build()?;
    let (_, source) = lab.source()?;
    let patches = series.patches()?;
    let accepted = accepted_exceptions()?;
    let mut findings = subjects(series, &patches)?;

    let tree = lab.cache.join("trees").join(format!("check-{series}"));
    lab.patched_tree(&source, &[], &tree)?;
    let output = tree.join("build");
    lab.configure(&tree, &output, false)?;

    for file in &patches {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut found = |what: String| {
            findings.push(Finding {
                patch: name.clone(),
                what,
            })
        };
        eprintln!("{series}: {name}");
        let text = fs::read_to_string(file).at(file)?;
        let touched = touched_files(&text);

        if uapi_out_of_step(&text) {
            found(format!("{} and {} do not change alike", UAPI[0], UAPI[1]));
        }
        for problem in header_problems(&text) {
            found(problem);
        }
        for problem in checkpatch(&tree, file)? {
            if !accepted.iter().any(|accepted| problem.contains(accepted)) {
                found(format!("checkpatch: {problem}"));
            }
        }

        // what W=1 says about the files before the patch is not the patch's
        let before = warnings(lab, &tree, &output, &touched)?;
        apply(&tree, file)?;
        let after = warnings(lab, &tree, &output, &touched)?;
        for warning in after.difference(&before) {
            found(format!("W=1: {warning}"));
        }
    }
    Ok(findings)
}

/// Builds the kernel's objects of the touched files with W=1, all of the kernel's
/// BPF code without, libbpf and bpftool; the warnings without their line numbers.
/// Selftests are a series' last patch: `build` builds them.
fn warnings(lab: &Lab, tree: &Path, output: &Path, touched: &[String]) -> Result<BTreeSet<String>> {
    let log = lab.cache.join("log").join("check.build");
    let objects: Vec<_> = touched
        .iter()
        .filter(|file| {
            file.ends_with(".c") && !file.starts_with("tools/") && tree.join(file).exists()
        })
        .map(|file| format!("{}.o", file.trim_end_matches(".c")))
        .collect();
    let mut warnings = BTreeSet::new();
    if !objects.is_empty() {
        for object in &objects {
            // built again, or make would have nothing to say
            let _ = fs::remove_file(output.join(object));
        }
        run(
            "W=1",
            lab.make(tree)
                .arg(out_arg(output))
                .arg("W=1")
                .args(&objects),
            &log,
        )?;
        warnings.extend(read_warnings(&log)?);
    }
    if touched
        .iter()
        .any(|file| file.starts_with("kernel/") || file.starts_with("include/"))
    {
        run(
            "kernel/bpf",
            lab.make(tree)
                .arg(out_arg(output))
                .args(["kernel/bpf/", "net/bpf/"]),
            &log,
        )?;
        warnings.extend(read_warnings(&log)?);
    }
    for (what, dir) in [
        ("libbpf", "tools/lib/bpf"),
        ("bpftool", "tools/bpf/bpftool"),
    ] {
        if !touched
            .iter()
            .any(|file| file.starts_with(dir) || file.starts_with("tools/include/"))
        {
            continue;
        }
        let out = lab.cache.join("vm").join(format!("check-{what}"));
        fs::create_dir_all(&out).at(&out)?;
        run(what, lab.make_tool(&tree.join(dir), &out).arg("all"), &log)?;
        warnings.extend(read_warnings(&log)?);
    }
    Ok(warnings)
}

fn read_warnings(log: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(log).at(log)?;
    Ok(text
        .lines()
        .filter(|line| line.contains("warning:"))
        .map(without_position)
        .collect())
}

/// "a.c:12:3: warning: x" -> "a.c: warning: x"
fn without_position(line: &str) -> String {
    match (line.split_once(':'), line.split_once("warning:")) {
        (Some((file, _)), Some((_, what))) => format!("{file}: warning:{what}"),
        _ => line.to_owned(),
    }
}

fn checkpatch(tree: &Path, file: &Path) -> Result<Vec<String>> {
    let out = Command::new("perl")
        .arg(tree.join("scripts/checkpatch.pl"))
        .args(["--strict", "--terse", "--no-summary", "--no-tree"])
        .arg(file)
        .output()
        .map_err(|source| Error::Spawn {
            command: "checkpatch.pl".into(),
            source,
        })?;
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(finding_text)
        .collect())
}

/// checkpatch --terse: "file:line: TYPE: text"
fn finding_text(line: &str) -> String {
    for kind in ["ERROR:", "WARNING:", "CHECK:"] {
        if let Some(at) = line.find(kind) {
            return line[at..].to_owned();
        }
    }
    line.to_owned()
}

/// The quoted texts of `checkpatch-exceptions.md`: a list item starts with the
/// finding in back quotes, the reason follows.
fn accepted_exceptions() -> Result<Vec<String>> {
    let path = patches_root().join("checkpatch-exceptions.md");
    let text = fs::read_to_string(&path).at(&path)?;
    Ok(exceptions(&text))
}

fn exceptions(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once('`'))
        .map(|(finding, _)| finding.to_owned())
        .collect()
}

fn touched_files(patch: &str) -> Vec<String> {
    patch
        .lines()
        .filter_map(|line| line.strip_prefix("+++ b/"))
        .map(str::to_owned)
        .collect()
}

/// The added and removed lines of one file.
fn changes<'a>(patch: &'a str, file: &str) -> Vec<&'a str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in patch.lines() {
        if line.starts_with("diff --git ") {
            inside = line.ends_with(&format!(" b/{file}"));
        } else if inside
            && (line.starts_with('+') || line.starts_with('-'))
            && !line.starts_with("+++")
            && !line.starts_with("---")
        {
            lines.push(line);
        }
    }
    lines
}

fn uapi_out_of_step(patch: &str) -> bool {
    changes(patch, UAPI[0]) != changes(patch, UAPI[1])
}

fn header_problems(patch: &str) -> Vec<String> {
    let value = |name: &str| {
        patch
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let mut problems = Vec::new();
    match (value("From: "), value("Signed-off-by: ")) {
        (Some(from), Some(signed)) if from == signed => {}
        (from, signed) => problems.push(format!(
            "author ({}) and Signed-off-by ({}) differ",
            from.unwrap_or("none"),
            signed.unwrap_or("none")
        )),
    }
    problems
}

/// Every patch has the cover letter's prefix and its number of the total.
fn subjects(series: Series, patches: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut expected_prefix = None;
    for (number, file) in std::iter::once(&series.cover_letter())
        .chain(patches)
        .enumerate()
    {
        let text = fs::read_to_string(file).at(file)?;
        let found = tag(&text).unwrap_or_default();
        let (prefix, place) = found.rsplit_once(' ').unwrap_or_default();
        let prefix = prefix.to_owned();
        let expected = expected_prefix.get_or_insert_with(|| prefix.clone());
        let expected_place = format!("{number}/{}", patches.len());
        if prefix != *expected || !prefix.contains("PATCH") || place != expected_place {
            findings.push(Finding {
                patch: file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                what: format!("subject has [{found}], expected [{expected} {expected_place}]"),
            });
        }
    }
    Ok(findings)
}

/// "PATCH bpf-next 1/9" of "Subject: [PATCH bpf-next 1/9] bpf: ..."
fn tag(patch: &str) -> Option<&str> {
    let subject = patch
        .lines()
        .find_map(|line| line.strip_prefix("Subject: ["))?;
    subject.split_once(']').map(|(tag, _)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "From: A <a@example.com>\nSubject: [PATCH 1/2] x\n\n\
        Signed-off-by: A <a@example.com>\n---\n\
        diff --git a/include/uapi/linux/bpf.h b/include/uapi/linux/bpf.h\n\
        --- a/include/uapi/linux/bpf.h\n+++ b/include/uapi/linux/bpf.h\n+\t__u64 cookie;\n";

    #[test]
    fn uapi_headers_change_together() {
        assert!(uapi_out_of_step(PATCH));
        let both = format!(
            "{PATCH}diff --git a/tools/include/uapi/linux/bpf.h b/tools/include/uapi/linux/bpf.h\n\
             --- a/tools/include/uapi/linux/bpf.h\n+++ b/tools/include/uapi/linux/bpf.h\n+\t__u64 cookie;\n"
        );
        assert!(!uapi_out_of_step(&both));
        assert_eq!(touched_files(&both), UAPI);
    }

    #[test]
    fn author_and_sign_off_agree() {
        assert!(header_problems(PATCH).is_empty());
        let other = PATCH.replace("Signed-off-by: A", "Signed-off-by: B");
        assert_eq!(header_problems(&other).len(), 1);
    }

    #[test]
    fn the_tag_of_a_subject() {
        assert_eq!(tag(PATCH), Some("PATCH 1/2"));
        assert_eq!(tag("Subject: no tag\n"), None);
    }

    #[test]
    fn the_subjects_of_both_series() {
        for series in [Series::Rfc, Series::LinkOwned] {
            let findings = subjects(series, &series.patches().unwrap()).unwrap();
            assert_eq!(findings.len(), 0);
        }
    }

    #[test]
    fn warnings_do_not_move_with_their_line() {
        assert_eq!(
            without_position("a.c:12:3: warning: x [-Wy]"),
            "a.c: warning: x [-Wy]"
        );
        assert_eq!(
            finding_text("0001.patch:20: WARNING: added"),
            "WARNING: added"
        );
    }

    #[test]
    fn exceptions_are_the_quoted_items() {
        let text = "# Exceptions\n\n- `WARNING: added, moved`: why\n- not quoted\n";
        assert_eq!(exceptions(text), ["WARNING: added, moved"]);
    }
}
