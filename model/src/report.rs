//! What a transition broke and reached, as data.
//!
//! Filled by the steps and by [`crate::Machine`]; read by engines and reports. Not here: how it is shown.

use crate::invariant::{Invariant, InvariantSet};
use crate::kernel::CpuId;
use crate::lock::{LockClass, LockOrder, Nested};
use crate::pc::{Pc, StepSet};

/// A broken invariant and the step that broke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Violation {
    /// What was broken.
    pub invariant: Invariant,
    /// By which step; `Idle` for what only a final state shows.
    pub step: Pc,
}

/// An operation of a CPU's plan that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Where it ran.
    pub cpu: CpuId,
    /// How many operations of the plan had begun: itself and those before it.
    pub position: u8,
    /// Its object was there; where it was not, nothing was done but to say so.
    pub met: bool,
}

/// What a transition broke and reached.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Broken invariants, in the order of discovery.
    pub violations: Vec<Violation>,
    /// Invariants whose `sometimes` event happened.
    pub witnessed: InvariantSet,
    /// Steps carried out (more than one where steps were merged).
    pub steps: u32,
    /// Which steps they were.
    pub taken: StepSet,
    /// The operation of a CPU's plan that returned, if one did.
    pub returned: Option<Returned>,
    /// A lock was taken while another one was held.
    nests: bool,
    /// Which locks were taken while which were held.
    nested: LockOrder,
    /// The steps that took them, by the class of the lock that was taken.
    nested_at: [Pc; LockClass::ALL.len()],
    /// The state has no meaning any more.
    pub fatal: bool,
    /// A table of the model was too small: what follows from here is unknown.
    pub overflow: bool,
}

impl Report {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.violations.clear();
        self.witnessed = InvariantSet::default();
        self.steps = 0;
        self.taken = StepSet::default();
        self.returned = None;
        self.nests = false;
        self.nested = LockOrder::default();
        self.fatal = false;
        self.overflow = false;
    }

    /// Whether a lock was taken while another one was held: almost never.
    #[inline]
    pub fn nests(&self) -> bool {
        self.nests
    }

    /// Locks that were taken while others were held.
    pub fn nested(&self) -> impl Iterator<Item = Nested> + use<> {
        let at = self.nested_at;
        self.nested.pairs().map(move |(held, taken)| Nested {
            held,
            taken,
            step: at[taken as usize],
        })
    }

    pub(crate) fn nest(&mut self, nested: Nested) {
        self.nests = true;
        self.nested.add(nested);
        self.nested_at[nested.taken as usize] = nested.step;
    }

    pub(crate) fn violate(&mut self, invariant: Invariant, step: Pc) {
        let violation = Violation { invariant, step };
        if !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }

    pub(crate) fn witness(&mut self, invariant: Invariant) {
        self.witnessed.insert(invariant);
    }
}
