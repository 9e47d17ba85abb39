//! How verbs speak to people.

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};
use vpc_topology::diagnostics::Style;

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Options {
    /// When to use colours. `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    color: Colour,
    /// Form of what is printed; a table for people is not meant to be parsed
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORM", default_value = "table", global = true)]
    form: Form,
    /// Run directory of the agent that is asked
    #[arg(long, value_name = "DIR", default_value = vpc_agent::control::RUN_DIR, global = true)]
    pub run_dir: PathBuf,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Options {
    /// Prints an answer: as it is for programs, or what `table` makes of it for people.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn show<T: Serialize>(&self, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let mut text = match self.form {
            Form::Table => table(value),
            Form::Json => serde_json::to_string_pretty(value)?,
            Form::Yaml => serde_yaml::to_string(value)?,
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(print(&text)?)
    }

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

/// A table without lines, as wide as the terminal where there is one.
pub fn table<R: Into<comfy_table::Row>>(headings: &[&str], rows: impl IntoIterator<Item = R>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings.iter().map(|heading| heading.to_uppercase()));
    // Piped into another program, each row stays one line.
    table.set_content_arrangement(ContentArrangement::Disabled);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Bytes in the unit that suits them.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
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
