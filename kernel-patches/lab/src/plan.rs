//! The test list: what each test asks, and what is predicted for each kernel.
//!
//! A prediction comes from the model of the attach path or from reading the
//! source. The lab puts it beside what really happened.

use crate::console::Outcome;
use crate::series::Series;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "because")]
pub enum Prediction {
    Ok,
    /// a check fails, the kernel lives on
    Wrong(&'static str),
    /// the kernel complains, dies or hangs
    Broken(&'static str),
    /// it depends on the debug options and on luck which of the two
    Harmed(&'static str),
}

impl Prediction {
    pub fn is(self, outcome: Outcome) -> bool {
        match self {
            Prediction::Ok => outcome == Outcome::Ok,
            Prediction::Wrong(_) => outcome == Outcome::Wrong,
            Prediction::Broken(_) => outcome == Outcome::Broken,
            Prediction::Harmed(_) => matches!(outcome, Outcome::Wrong | Outcome::Broken),
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Prediction::Ok => "ok",
            Prediction::Wrong(_) => "wrong",
            Prediction::Broken(_) => "broken",
            Prediction::Harmed(_) => "wrong or broken",
        }
    }

    pub fn because(self) -> &'static str {
        match self {
            Prediction::Ok => "",
            Prediction::Wrong(why) | Prediction::Broken(why) | Prediction::Harmed(why) => why,
        }
    }
}

pub struct Test {
    pub name: &'static str,
    pub question: &'static str,
    /// stock, rfc, link-owned; none: the test says nothing about that kernel
    predictions: [Option<Prediction>; 3],
}

impl Test {
    pub fn prediction(&self, series: Series) -> Option<Prediction> {
        self.predictions[series as usize]
    }
}

use Prediction::{Broken, Harmed, Ok, Wrong};

const fn same(name: &'static str, question: &'static str) -> Test {
    Test {
        name,
        question,
        predictions: [Some(Ok), Some(Ok), Some(Ok)],
    }
}

const fn cookie(name: &'static str, question: &'static str) -> Test {
    Test {
        name,
        question,
        predictions: [None, Some(Ok), Some(Ok)],
    }
}

const fn differs(
    name: &'static str,
    question: &'static str,
    stock: Prediction,
    rfc: Prediction,
) -> Test {
    Test {
        name,
        question,
        predictions: [Some(stock), Some(rfc), Some(Ok)],
    }
}

pub const TESTS: &[Test] = &[
    same(
        "state-tcp-link",
        "errno of every operation in every state, tcp, link map",
    ),
    same("state-tcp-plain", "the same for a map without BPF_F_LINK"),
    same("state-testmod", "the same for bpf_testmod's types"),
    same(
        "unknown-attributes",
        "what LINK_CREATE does with attributes it does not know",
    ),
    differs(
        "owner-set",
        "map_update with the module owner set",
        Wrong("map_update does not set err before it jumps out"),
        Wrong("as stock"),
    ),
    cookie(
        "cookie-values",
        "0, 32 and 64 bit cookies, read by plain and sleepable members",
    ),
    cookie(
        "cookie-libbpf",
        "the same through bpf_map__attach_struct_ops_opts()",
    ),
    same("old-libbpf-call", "bpf_map__attach_struct_ops() as before"),
    same("plain-map", "maps without BPF_F_LINK as before"),
    cookie("cookie-testmod", "the cookie during reg()"),
    cookie("cookie-tcp", "the cookie of a tcp congestion control"),
    cookie("cookie-update", "the cookie is kept over link_update"),
    Test {
        name: "reattach-20",
        question: "attach and detach one map twenty times",
        predictions: [
            None,
            Some(Wrong(
                "every attach takes a new image page of the map's eight: -E2BIG",
            )),
            Some(Ok),
        ],
    },
    Test {
        name: "kallsyms-live",
        question: "kallsyms has exactly the live trampolines",
        predictions: [
            None,
            Some(Harmed(
                "the map's ksyms outlive the link, older ones are lost",
            )),
            Some(Ok),
        ],
    },
    Test {
        name: "allocation-failures",
        question: "every allocation of link_create fails once",
        predictions: [
            None,
            Some(Harmed(
                "a walk that fails early frees ksyms that are in kallsyms",
            )),
            Some(Ok),
        ],
    },
    differs(
        "two-links-cookie",
        "two links of one map: which cookie does the first read?",
        Ok,
        Wrong("the second link rewrites the map's only kvalue: A reads B's cookie"),
    ),
    differs(
        "failing-attach",
        "a second attach of the map fails: what happens to the first?",
        Ok,
        Broken("the failing attach frees all image pages of the map, the first link's too"),
    ),
    differs(
        "failing-reg",
        "the same with a reg() that calls in before it fails, and a failing update()",
        Ok,
        Broken("as failing-attach"),
    ),
    differs(
        "update-with-socket",
        "link_update while a socket uses the old map",
        Ok,
        Broken("the old map's images are freed at once, the socket still calls them"),
    ),
    differs(
        "update-to-same-map",
        "link_update to the map that is attached already",
        Harmed("tcp adds an entry to the list that it is already on: lookups do not end"),
        Broken("as stock, and the map's images are freed"),
    ),
    differs(
        "socket-outlives-link",
        "a socket goes on when link, map and programs are closed",
        Ok,
        Wrong("the socket's struct is the map's: the next link rewrites it"),
    ),
    differs(
        "sleeping-program",
        "a program sleeps while the last reference goes",
        Broken("map_free does not wait for RCU Tasks Trace: it returns into a freed image"),
        Broken("as stock"),
    ),
    differs(
        "race-lab-ops",
        "two threads attach and destroy one map 200 times each, several links allowed",
        Ok,
        Harmed("two links share image pages and ksyms of the map"),
    ),
    differs(
        "race-tcp",
        "the same where the second attach fails",
        Ok,
        Harmed("the failing attach frees the other's images and ksyms"),
    ),
    differs(
        "race-scx",
        "the same with a sched_ext scheduler",
        Ok,
        Harmed("as race-tcp"),
    ),
    same("bpftool-link", "what bpftool shows of a struct_ops link"),
    same(
        "selftests",
        "the tree's own selftests for struct_ops and tcp congestion control",
    ),
    same(
        "scx-minimal",
        "a minimal sched_ext scheduler attaches, runs, detaches",
    ),
    Test {
        name: "scx-stale-link",
        question: "closing the link of a failed scheduler must not disable the next one",
        predictions: [
            Some(Wrong(
                "bpf_scx_unreg() disables whatever scheduler is enabled",
            )),
            Some(Wrong("as stock")),
            Some(Wrong("as stock: the series leaves sched_ext alone")),
        ],
    },
];

/// What runs on a kernel that the test modules were not built for.
const WITHOUT_MODULES: &[&str] = &[
    "state-tcp-link",
    "state-tcp-plain",
    "owner-set",
    "failing-attach",
    "update-with-socket",
    "update-to-same-map",
    "socket-outlives-link",
    "race-tcp",
];

pub fn needs_modules(test: &Test) -> bool {
    !WITHOUT_MODULES.contains(&test.name)
}

/// The tests of one kernel, cut into boots: what is predicted to go well shares
/// a VM, everything else has its own.
pub fn boots(series: Series, only: &[String]) -> Vec<Vec<&'static Test>> {
    let (together, alone): (Vec<_>, Vec<_>) = TESTS
        .iter()
        .filter(|test| only.is_empty() || only.iter().any(|name| name == test.name))
        .filter_map(|test| Some((test, test.prediction(series)?)))
        .partition(|(_, prediction)| matches!(prediction, Ok));
    let mut boots = Vec::new();
    if !together.is_empty() {
        boots.push(together.into_iter().map(|(test, _)| test).collect());
    }
    boots.extend(alone.into_iter().map(|(test, _)| vec![test]));
    boots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_all_kernels_have_tests() {
        let mut names: Vec<_> = TESTS.iter().map(|test| test.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        for series in [Series::Stock, Series::Rfc, Series::LinkOwned] {
            assert!(!boots(series, &[]).is_empty());
        }
    }

    #[test]
    fn a_skipped_test_is_never_as_predicted() {
        for prediction in [Ok, Wrong(""), Broken(""), Harmed("")] {
            assert!(!prediction.is(Outcome::Skipped));
        }
    }

    #[test]
    fn what_breaks_a_kernel_has_a_vm_of_its_own() {
        for boot in boots(Series::Rfc, &[]) {
            let harms = boot
                .iter()
                .any(|test| test.prediction(Series::Rfc) != Some(Ok));
            assert!(!harms || boot.len() == 1);
        }
    }

    #[test]
    fn one_test_can_be_chosen() {
        let chosen = boots(Series::Rfc, &["failing-attach".into()]);
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0][0].name, "failing-attach");
    }
}
