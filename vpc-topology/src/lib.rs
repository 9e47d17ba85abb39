//! YAML topology to validated model to the state that one node needs. Pure: no I/O, no clock.
//!
//! [`load`] reads and validates a file; [`compile::compile`] makes of it what one node needs; [`diff::Plan`] says how
//! two such states differ.
#![forbid(unsafe_code)]

mod both;
pub mod compile;
pub mod diagnostics;
pub mod diff;
mod document;
mod limits;
mod loader;
pub mod model;
mod parts;
pub mod schema;
mod source;
mod topology;
mod validate;

pub use compile::{CompileError, Slots, compile};
pub use diagnostics::Diagnostics;
pub use limits::Limits;
pub use loader::Loader;
pub use source::Source;
pub use topology::Topology;

/// Reads and validates a topology against the default limits. `name` is the file's name, for messages.
///
/// # Errors
/// Every problem of the file at once, with its place.
pub fn load(text: &str, name: &str) -> Result<Topology, Diagnostics> {
    load_within(&text, name, &Limits::default())
}

/// As [`load`], for maps of other sizes.
///
/// # Errors
/// As [`load`].
pub fn load_within(source: &dyn Source, name: &str, limits: &Limits) -> Result<Topology, Diagnostics> {
    if u32::try_from(source.text().len()).is_err() {
        let problem = diagnostics::Problem::new(diagnostics::Span::default(), "the file is larger than 4 GiB");
        return Err(Diagnostics::new(name, "", vec![problem]));
    }
    Topology::read(source, limits).map_err(|problems| Diagnostics::new(name, source.text(), problems))
}
