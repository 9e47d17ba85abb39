//! What changes between two states.
