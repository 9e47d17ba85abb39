//! Compilation: a validated topology to the state that one node needs.

mod desired;

pub use desired::*;
