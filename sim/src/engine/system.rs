//! The trait an engine walks, and what one step reports. Not an engine: nothing here explores.

/// A finite transition system, deterministic once the action is chosen.
pub trait System: Sync {
    /// A state, cheap to copy.
    type State: Copy + Send + Sync;
    /// What leads from one state to another.
    type Action: Copy + Send + Sync + PartialEq + std::fmt::Debug;

    /// Where every run begins.
    fn initial(&self) -> Self::State;

    /// Appends the actions of `state`, always in the same order.
    fn actions(&self, state: &Self::State, out: &mut Vec<Self::Action>);

    /// Takes one action; the system may merge several steps into it.
    fn apply(&self, state: &mut Self::State, action: Self::Action) -> StepReport;

    /// Appends the packed state: equal bytes if and only if the same state. A system that is
    /// configured to use symmetry encodes one representative of each orbit.
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);

    /// Unpacks what `encode` wrote: the state itself or another one of its orbit.
    fn decode(&self, bytes: &[u8]) -> Self::State;

    /// Judges a state that has no action. Only `violations` and `witnessed` are read.
    fn terminal(&self, state: &Self::State) -> StepReport;
}

/// What an action did, besides changing the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepReport {
    /// Broken invariants.
    pub violations: Violations,
    /// One bit per `sometimes` property that this step witnessed.
    pub witnessed: u64,
    /// Steps of the system merged into this action.
    pub steps: u32,
    /// The successor is counted and stored, but not explored. A state reached once by a fatal
    /// and once by another step counts as two: one dead, one alive.
    pub fatal: bool,
    /// A bound of the model was hit: the successor is no state of the system and is dropped,
    /// and the outcome is incomplete.
    pub overflow: bool,
    /// Index of the label that fired, for coverage.
    pub fired: Option<u16>,
}

/// An invariant and the step that broke it: the key by which findings are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Violation {
    /// Index of the invariant.
    pub invariant: u8,
    /// Index of the step.
    pub label: u16,
}

/// The violations of one step: a set, inline, because almost every step has none.
#[derive(Clone, Copy, Default)]
pub struct Violations {
    len: u8,
    items: [Violation; Violations::MAX],
}

impl Violations {
    /// Most violations that one step may have.
    pub const MAX: usize = 8;

    /// # Panics
    /// If one step breaks more than [`Self::MAX`] invariants: losing one silently would be worse.
    pub fn push(&mut self, violation: Violation) {
        if self.contains(&violation) {
            return;
        }
        let len = usize::from(self.len);
        assert!(
            len < Self::MAX,
            "one step broke more than {} invariants",
            Self::MAX
        );
        self.items[len] = violation;
        self.len += 1;
    }
}

impl std::ops::Deref for Violations {
    type Target = [Violation];

    #[inline]
    fn deref(&self) -> &[Violation] {
        &self.items[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
