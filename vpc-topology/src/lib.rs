//! YAML topology to validated model to the state that one node needs.
