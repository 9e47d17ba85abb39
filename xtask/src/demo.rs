//! `cargo xtask demo`
use anyhow::Result;
/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave it up and say how to enter a guest
    #[arg(long)]
    keep: bool,
}
/// The verb.
pub fn run_verb(_arguments: &Arguments) -> Result<()> {
    Ok(())
}
