//! Which dataplane runs, and why: for the status.

/// The choice that was made at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The mode that was asked for.
    pub configured: &'static str,
    /// The dataplane that runs.
    pub dataplane: &'static str,
    /// Why this one.
    pub reason: String,
    /// Settings that have no effect in it, a sentence each.
    pub notes: Vec<String>,
}
