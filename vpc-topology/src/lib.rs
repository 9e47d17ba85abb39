//! YAML topology to validated model to the state that one node needs. Pure: no I/O, no clock.

pub mod compile;
