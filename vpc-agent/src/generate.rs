//! Man pages and completions, from the description of the arguments itself.

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use std::{io, path::PathBuf};

/// Arguments of `generate`.
#[derive(Clone, Debug, Args)]
pub struct Generate {
    /// What to make.
    kind: Kind,
    /// Where; the directory is there.
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Man pages.
    Man,
    /// Completions for bash, zsh and fish.
    Completions,
}

impl Generate {
    /// Writes the files of a program.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn run(&self, mut program: Command) -> io::Result<()> {
        match self.kind {
            Kind::Man => clap_mangen::generate_to(program, &self.directory),
            Kind::Completions => {
                let name = program.get_name().to_owned();
                for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                    clap_complete::generate_to(shell, &mut program, &name, &self.directory)?;
                }
                Ok(())
            }
        }
    }
}
