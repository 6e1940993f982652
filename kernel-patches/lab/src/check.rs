//! What a maintainer looks at before reading a series: every patch applies and
//! builds alone without new warnings, checkpatch is content, both uapi headers
//! change in one patch, sign-off and author agree. The patches of a posting are
//! applied one upon the other; fixes are taken back again, each stands alone, and
//! each says which commit it fixes and whether stable kernels want it.

use crate::build::{Flavour, Lab, Part, Patched, apply, take_back};
use crate::error::{At, Error, Result};
use crate::run::run;
use crate::series::{Base, Series, patches_root};
use crate::tools;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UAPI: [&str; 2] = ["include/uapi/linux/bpf.h", "tools/include/uapi/linux/bpf.h"];

/// The dictionary of Debian's codespell.
const CODESPELL: &str = "/usr/lib/python3/dist-packages/codespell_lib/data/dictionary.txt";

/// Sources that are included by another one.
const INCLUDED: [&str; 1] = ["kernel/sched/ext.c"];

pub struct Finding {
    pub patch: String,
    pub what: String,
}

/// All findings of a series; an empty list is a series that can be sent.
pub fn check(lab: &Lab, series: Series, base: Base) -> Result<Vec<Finding>> {
    tools::require_build()?;
    let missing = tools::missing_for_check();
    if !missing.is_empty() {
        eprintln!("{series}: checked without {}", missing.join(", "));
    }
    let (_, source) = lab.source(base)?;
    let patches = series.patches(base)?;
    let accepted = accepted_exceptions()?;
    let mut findings = match series.cover_letter() {
        Some(letter) => subjects(&letter, &patches)?,
        None => Vec::new(),
    };

    let kernel = Flavour {
        patched: Patched {
            base,
            series,
            part: Part::Steps,
        },
        debug: false,
        clang: false,
    };
    let tree = lab.tree(kernel.patched);
    lab.patched_tree(&source, &[], &tree)?;
    lab.configure(&mut lab.kernel_make(kernel)?, kernel)?;

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
        eprintln!("{base} {series}: {name}");
        let text = fs::read_to_string(file).at(file)?;
        let touched = touched_files(&text);

        if uapi_out_of_step(&text) {
            found(format!("{} and {} do not change alike", UAPI[0], UAPI[1]));
        }
        for problem in header_problems(&text) {
            found(problem);
        }
        if series == Series::Fixes {
            for problem in fix_problems(&text) {
                found(problem);
            }
        }
        for problem in checkpatch(&tree, file)? {
            if !accepted.iter().any(|accepted| problem.contains(accepted)) {
                found(format!("checkpatch: {problem}"));
            }
        }

        // what W=1 says about the files before the patch is not the patch's
        let before = warnings(lab, kernel, &touched)?;
        apply(&tree, file)?;
        let after = warnings(lab, kernel, &touched)?;
        for warning in after.difference(&before) {
            found(format!("W=1: {warning}"));
        }
        if series == Series::Fixes {
            take_back(&tree, file)?;
        }
    }
    Ok(findings)
}

/// Builds the kernel's objects of the touched files with W=1, under sparse if it is
/// there; all of the kernel's BPF code without; libbpf and bpftool. Returns the
/// warnings without their line numbers. Selftests are built by `build`.
fn warnings(lab: &Lab, kernel: Flavour, touched: &[String]) -> Result<BTreeSet<String>> {
    let tree = lab.tree(kernel.patched);
    let output = lab.output(kernel);
    let log = lab.cache.join("log").join("check.build");
    let objects: Vec<_> = touched
        .iter()
        .filter(|file| {
            file.ends_with(".c") && !file.starts_with("tools/") && tree.join(file).exists()
        })
        // what another file includes has no object of its own
        .filter(|file| !INCLUDED.contains(&file.as_str()))
        .map(|file| format!("{}.o", file.trim_end_matches(".c")))
        .collect();
    let mut warnings = BTreeSet::new();
    if !objects.is_empty() {
        for object in &objects {
            // built again, or make would have nothing to say
            let _ = fs::remove_file(output.join(object));
        }
        let mut make = lab.kernel_make(kernel)?;
        if tools::missing_for_check()
            .iter()
            .all(|tool| *tool != "sparse")
        {
            make.arg("C=1");
        }
        run("W=1", make.arg("W=1").args(&objects), &log)?;
        warnings.extend(read_warnings(&log)?);
    }
    if touched
        .iter()
        .any(|file| file.starts_with("kernel/") || file.starts_with("include/"))
    {
        let folders = ["kernel/bpf/", "kernel/sched/", "net/bpf/"];
        run("kernel/bpf", lab.kernel_make(kernel)?.args(folders), &log)?;
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
    let mut command = Command::new("perl");
    command.arg(tree.join("scripts/checkpatch.pl")).args([
        "--strict",
        "--terse",
        "--no-summary",
        "--no-tree",
    ]);
    if Path::new(CODESPELL).exists() {
        // checkpatch asks the python3 of the PATH, which need not be Debian's
        command.args(["--codespell", "--codespellfile", CODESPELL]);
    }
    let out = command.arg(file).output().map_err(|source| Error::Spawn {
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

/// A fix names the commit that brought the bug, as git writes it or with the
/// placeholder that says that it is not established, and says what stable kernels
/// shall do with it. A selftest does neither.
fn fix_problems(patch: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let is_selftest = touched_files(patch)
        .iter()
        .all(|file| file.starts_with("tools/testing/selftests/"));
    let head = patch.split("\n---\n").next().unwrap_or_default();
    let fixes: Vec<_> = head
        .lines()
        .filter_map(|line| line.strip_prefix("Fixes: "))
        .collect();
    for line in &fixes {
        if !is_fixes_line(line) {
            problems.push(format!(
                "\"Fixes: {line}\": expected 12 digits of a commit and (\"its subject\")"
            ));
        }
    }
    if fixes.is_empty() && !is_selftest {
        problems.push("no Fixes: line".into());
    }
    let stable =
        head.contains("\nCc: stable@vger.kernel.org") || patch.contains("\nNot for stable: ");
    if !stable && !is_selftest {
        problems.push("neither \"Cc: stable@vger.kernel.org\" nor \"Not for stable: \"".into());
    }
    match tag(patch) {
        Some(tag) if tag.starts_with("PATCH ") && !tag.contains('/') => {}
        found => problems.push(format!(
            "subject has [{}], expected [PATCH <tree>] without a number",
            found.unwrap_or_default()
        )),
    }
    problems
}

/// `123456789abc ("bpf: a subject")`; the placeholder has `x` for each digit.
fn is_fixes_line(line: &str) -> bool {
    let Some((commit, subject)) = line.split_once(' ') else {
        return false;
    };
    let is_commit = commit.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
        || commit.chars().all(|c| c == 'x');
    let subject = subject
        .strip_prefix("(\"")
        .and_then(|rest| rest.strip_suffix("\")"));
    is_commit && commit.len() == 12 && subject.is_some_and(|subject| !subject.is_empty())
}

/// Every patch has the cover letter's prefix and its number of the total.
fn subjects(letter: &Path, patches: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut expected_prefix = None;
    for (number, file) in std::iter::once(letter)
        .chain(patches.iter().map(PathBuf::as_path))
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
            let patches = series.patches(Base::V6_12).unwrap();
            let findings = subjects(&series.cover_letter().unwrap(), &patches).unwrap();
            assert_eq!(findings.len(), 0);
        }
    }

    #[test]
    fn every_fix_says_what_it_fixes_and_whether_stable_kernels_want_it() {
        for base in [Base::V6_12, Base::V7_3] {
            let patches = Series::Fixes.patches(base).unwrap();
            assert!(!patches.is_empty());
            for file in patches {
                let text = fs::read_to_string(&file).unwrap();
                assert_eq!(fix_problems(&text), [""; 0], "{}", file.display());
                assert_eq!(header_problems(&text), [""; 0], "{}", file.display());
            }
        }
    }

    #[test]
    fn what_a_fixes_line_is() {
        assert!(is_fixes_line("0123456789ab (\"bpf: x\")"));
        assert!(is_fixes_line("xxxxxxxxxxxx (\"bpf: x\")"));
        for bad in [
            "0123456789ab",
            "0123456789ab bpf: x",
            "0123456789 (\"bpf: x\")",
            "0123456789AB (\"bpf: x\")",
            "0123456789ab (\"\")",
        ] {
            assert!(!is_fixes_line(bad), "{bad}");
        }
        let fix = "Subject: [PATCH bpf] x\n\nFixes: 0123456789ab (\"y\")\n---\n\
            Not for stable: too new\n+++ b/kernel/x.c\n";
        assert!(fix_problems(fix).is_empty());
        assert_eq!(fix_problems(&fix.replace("Fixes: ", "Fix: ")).len(), 1);
        assert_eq!(fix_problems(&fix.replace("Not for", "For")).len(), 1);
        assert_eq!(
            fix_problems(&fix.replace("PATCH bpf", "PATCH 1/2")).len(),
            1
        );
        let selftest = "Subject: [PATCH bpf] x\n---\n+++ b/tools/testing/selftests/x.c\n";
        assert!(fix_problems(selftest).is_empty());
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
