//! `cargo xtask completions`: completions for bash, zsh and fish.

use anyhow::Result;

/// The verb.
pub fn run_verb() -> Result<()> {
    crate::man::generate("completions")
}
