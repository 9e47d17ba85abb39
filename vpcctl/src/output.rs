//! How verbs speak to people.

use clap::{Args, ValueEnum};
use std::io::{self, IsTerminal, Write};
use vpc_topology::diagnostics::Style;

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Options {
    /// When to use colours. `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    color: Colour,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Options {
    /// The style for what goes to standard error.
    pub fn error_style(&self) -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self.color {
            Colour::Always => Style::Coloured,
            Colour::Auto if wanted && io::stderr().is_terminal() => Style::Coloured,
            Colour::Auto | Colour::Never => Style::Plain,
        }
    }
}

/// Writes to standard output. A reader that has gone away, as `head` does, is no error.
///
/// # Errors
/// Standard output cannot be written to.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
