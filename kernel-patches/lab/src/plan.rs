//! The test list: what each test asks, and what is predicted for each kernel.
//!
//! A prediction comes from the model of the attach path or from reading the
//! source. The lab puts it beside what really happened.

use crate::build::Patched;
use crate::console::Outcome;
use crate::series::{Base, Series};
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

/// A test, and what is predicted for every kernel. A new one is predicted to be
/// `Ok` everywhere; what is not, is said after it.
pub struct Test {
    pub name: &'static str,
    pub question: &'static str,
    /// none: the test says nothing about that kernel
    predictions: [Option<Prediction>; KERNELS.len()],
}

const KERNELS: [(Base, Series); 6] = [
    (Base::V6_12, Series::Stock),
    (Base::V6_12, Series::Rfc),
    (Base::V6_12, Series::LinkOwned),
    (Base::V6_12, Series::Fixes),
    (Base::V7_3, Series::Stock),
    (Base::V7_3, Series::Fixes),
];

const STOCK: usize = 0;
const RFC: usize = 1;
const LINK_OWNED: usize = 2;
const FIXES: usize = 3;
const STOCK_7_3: usize = 4;
const FIXES_7_3: usize = 5;

impl Test {
    const fn new(name: &'static str, question: &'static str) -> Test {
        Test {
            name,
            question,
            predictions: [Some(Ok); KERNELS.len()],
        }
    }

    const fn on(mut self, kernel: usize, prediction: Prediction) -> Test {
        self.predictions[kernel] = Some(prediction);
        self
    }

    const fn not_on(mut self, kernels: &[usize]) -> Test {
        let mut i = 0;
        while i < kernels.len() {
            self.predictions[kernels[i]] = None;
            i += 1;
        }
        self
    }

    /// A bug of both released kernels that `rfc` has, too.
    const fn bug(self, prediction: Prediction) -> Test {
        self.on(STOCK, prediction)
            .on(RFC, prediction)
            .on(STOCK_7_3, prediction)
    }

    /// A bug that neither `rfc` nor `link-owned` has to do with.
    const fn bug_elsewhere(self, prediction: Prediction) -> Test {
        self.bug(prediction).on(LINK_OWNED, prediction)
    }

    /// A bug of both released kernels; the cookie series have no part in it.
    const fn stock_and_fixes(self, prediction: Prediction) -> Test {
        self.not_on(&[RFC, LINK_OWNED])
            .on(STOCK, prediction)
            .on(STOCK_7_3, prediction)
    }

    pub fn prediction(&self, kernel: Patched) -> Option<Prediction> {
        let found = KERNELS
            .iter()
            .position(|known| *known == (kernel.base, kernel.series))?;
        self.predictions[found]
    }
}

use Prediction::{Broken, Harmed, Ok, Wrong};

/// Kernels without the cookie.
const NO_COOKIE: &[usize] = &[STOCK, FIXES, STOCK_7_3, FIXES_7_3];

pub const TESTS: &[Test] = &[
    Test::new(
        "state-tcp-link",
        "errno of every operation in every state, tcp, link map",
    ),
    Test::new("state-tcp-plain", "the same for a map without BPF_F_LINK"),
    Test::new("state-testmod", "the same for bpf_testmod's types"),
    Test::new(
        "unknown-attributes",
        "what LINK_CREATE does with attributes it does not know",
    ),
    Test::new("owner-set", "map_update with the module owner set")
        .bug(Wrong("map_update does not set err before it jumps out")),
    Test::new(
        "cookie-values",
        "0, 32 and 64 bit cookies, read by plain and sleepable members",
    )
    .not_on(NO_COOKIE),
    Test::new(
        "cookie-libbpf",
        "the same through bpf_map__attach_struct_ops_opts()",
    )
    .not_on(NO_COOKIE),
    Test::new("old-libbpf-call", "bpf_map__attach_struct_ops() as before"),
    Test::new("plain-map", "maps without BPF_F_LINK as before"),
    Test::new("cookie-testmod", "the cookie during reg()").not_on(NO_COOKIE),
    Test::new("cookie-tcp", "the cookie of a tcp congestion control").not_on(NO_COOKIE),
    Test::new("cookie-update", "the cookie is kept over link_update").not_on(NO_COOKIE),
    Test::new("reattach-20", "attach and detach one map twenty times")
        .not_on(NO_COOKIE)
        .on(
            RFC,
            Wrong("every attach takes a new image page of the map's eight: -E2BIG"),
        ),
    Test::new("kallsyms-live", "kallsyms has exactly the live trampolines")
        .not_on(NO_COOKIE)
        .on(
            RFC,
            Harmed("the map's ksyms outlive the link, older ones are lost"),
        ),
    Test::new(
        "allocation-failures",
        "every allocation of link_create fails once",
    )
    .not_on(NO_COOKIE)
    .on(
        RFC,
        Harmed("a walk that fails early frees ksyms that are in kallsyms"),
    ),
    Test::new(
        "two-links-cookie",
        "two links of one map: which cookie does the first read?",
    )
    .on(
        RFC,
        Wrong("the second link rewrites the map's only kvalue: A reads B's cookie"),
    ),
    Test::new(
        "failing-attach",
        "a second attach of the map fails: what happens to the first?",
    )
    .on(
        RFC,
        Broken("the failing attach frees all image pages of the map, the first link's too"),
    ),
    Test::new(
        "failing-reg",
        "the same with a reg() that calls in before it fails, and a failing update()",
    )
    .on(RFC, Broken("as failing-attach")),
    Test::new(
        "update-with-socket",
        "link_update while a socket uses the old map",
    )
    .on(
        RFC,
        Broken("the old map's images are freed at once, the socket still calls them"),
    ),
    Test::new(
        "update-to-same-map",
        "link_update to the map that is attached already",
    )
    .bug(Harmed(
        "tcp adds an entry to the list that it is already on: lookups do not end",
    ))
    .on(RFC, Broken("as stock, and the map's images are freed")),
    Test::new(
        "socket-outlives-link",
        "a socket goes on when link, map and programs are closed",
    )
    .on(
        RFC,
        Wrong("the socket's struct is the map's: the next link rewrites it"),
    ),
    Test::new(
        "sleeping-program",
        "a program sleeps while the last reference goes",
    )
    .bug(Broken(
        "map_free does not wait for RCU Tasks Trace: it returns into a freed image",
    )),
    Test::new(
        "race-lab-ops",
        "two threads attach and destroy one map 200 times each, several links allowed",
    )
    .on(
        RFC,
        Harmed("two links share image pages and ksyms of the map"),
    ),
    Test::new("race-tcp", "the same where the second attach fails").on(
        RFC,
        Harmed("the failing attach frees the other's images and ksyms"),
    ),
    Test::new(
        "unpin-returns-first",
        "unlink of a pin with the last reference returns before the link is gone",
    )
    // the second link_create that fails frees the first link's images, and with them kallsyms' entries
    .not_on(&[RFC]),
    Test::new(
        "refused-update",
        "what kallsyms shows of a link_update that is refused",
    )
    .not_on(&[STOCK, RFC, FIXES, STOCK_7_3, FIXES_7_3]),
    Test::new("race-scx", "the same with a sched_ext scheduler").on(RFC, Harmed("as race-tcp")),
    Test::new("bpftool-link", "what bpftool shows of a struct_ops link"),
    Test::new(
        "selftests",
        "the tree's own selftests for struct_ops and tcp congestion control",
    ),
    Test::new("selftests-hid", "the tree's own selftests for HID-BPF").not_on(&[RFC, LINK_OWNED]),
    Test::new(
        "scx-minimal",
        "a minimal sched_ext scheduler attaches, runs, detaches",
    ),
    Test::new(
        "scx-stale-link",
        "closing the link of a failed scheduler must not disable the next one",
    )
    .bug_elsewhere(Wrong(
        "bpf_scx_unreg() disables whatever scheduler is enabled",
    ))
    // there every scheduler is an object of its own, and unreg finds its own
    .on(STOCK_7_3, Ok),
    Test::new(
        "scx-tracer-next-root",
        "a tracer that is tied to no map does not act on the next root scheduler",
    )
    // it is meant: no patch is for it
    .not_on(&[STOCK, RFC, LINK_OWNED, FIXES, FIXES_7_3])
    .on(
        STOCK_7_3,
        Wrong("scx_prog_sched() falls back to the root scheduler, as its comment says"),
    ),
    Test::new(
        "assoc-failed-update",
        "a map_update that fails leaves the programs of a running map alone",
    )
    .not_on(&[STOCK, RFC, LINK_OWNED, FIXES])
    .on(
        STOCK_7_3,
        Wrong("map_update ties programs to the map before it knows that the map is good"),
    ),
    Test::new(
        "hid-refused-attach",
        "a HID program that was refused once can be attached later",
    )
    .stock_and_fixes(Wrong("hid_bpf_reg() leaves ops->hdev set when it fails")),
    Test::new(
        "hid-failing-attach",
        "the same, after each allocation of the attach has failed",
    )
    .stock_and_fixes(Wrong("as hid-refused-attach")),
    Test::new(
        "hid-sleeping-program",
        "a HID program sleeps while its device goes and its link is closed",
    )
    .stock_and_fixes(Broken(
        "the link forgets the device before anybody waits for the program",
    )),
    Test::new(
        "hid-late-attach",
        "a HID program is attached to a device that has been destroyed",
    )
    .stock_and_fixes(Broken(
        "hid_bpf_reg() waits on an srcu_struct that was cleaned up",
    )),
    Test::new(
        "hid-detach-in-probe",
        "a fixup is detached while a probe is on its way to it",
    )
    .stock_and_fixes(Broken("rdesc_ops is read twice, and NULL the second time"))
    // a probe that is nobody's attach does not call it any more
    .not_on(&[STOCK_7_3, FIXES_7_3]),
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
    "scx-tracer-next-root",
];

pub fn needs_modules(test: &Test) -> bool {
    !WITHOUT_MODULES.contains(&test.name)
}

/// The tests of one kernel, cut into boots: what is predicted to go well shares
/// a VM, everything else has its own.
pub fn boots(kernel: Patched, only: &[String]) -> Vec<Vec<&'static Test>> {
    let (together, alone): (Vec<_>, Vec<_>) = TESTS
        .iter()
        .filter(|test| only.is_empty() || only.iter().any(|name| name == test.name))
        .filter_map(|test| Some((test, test.prediction(kernel)?)))
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
    use crate::build::Part;

    fn kernel(base: Base, series: Series) -> Patched {
        Patched {
            base,
            series,
            part: Part::Whole,
        }
    }

    #[test]
    fn names_are_unique_and_all_kernels_have_tests() {
        let mut names: Vec<_> = TESTS.iter().map(|test| test.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        for (base, series) in KERNELS {
            assert!(!boots(kernel(base, series), &[]).is_empty());
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
        let rfc = kernel(Base::V6_12, Series::Rfc);
        for boot in boots(rfc, &[]) {
            let harms = boot.iter().any(|test| test.prediction(rfc) != Some(Ok));
            assert!(!harms || boot.len() == 1);
        }
    }

    #[test]
    fn fixes_mend_everything() {
        for base in [Base::V6_12, Base::V7_3] {
            let of = kernel(base, Series::Fixes);
            let all_ok = |test: &Test| test.prediction(of).is_none_or(|p| p == Ok);
            assert!(TESTS.iter().all(all_ok));
        }
    }

    #[test]
    fn one_test_can_be_chosen() {
        let chosen = boots(kernel(Base::V6_12, Series::Rfc), &["failing-attach".into()]);
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0][0].name, "failing-attach");
    }
}
