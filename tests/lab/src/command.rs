//! Running programs to their end, with errors that say what was run and what it printed.

use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// The command cannot be started, or ends with a code other than 0: then the error quotes all it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let result = any_output(command)?;
    if !result.status.success() {
        bail!(
            "{} ended with {}:\n{}{}",
            describe(command),
            result.status,
            String::from_utf8_lossy(&result.stdout),
            String::from_utf8_lossy(&result.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Runs a command to its end, whatever its exit code.
///
/// # Errors
/// The command cannot be started.
pub fn any_output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", describe(command)))
}

/// `ip` with the given words, in the caller's network namespace.
///
/// # Errors
/// `ip` fails.
pub fn ip(words: &str) -> Result<()> {
    output(Command::new("ip").args(words.split_whitespace())).map(drop)
}

/// Many `ip` commands, one a line, by one process.
///
/// # Errors
/// One of them fails; the later ones are not run.
pub fn ip_batch(mut command: Command, lines: &[String]) -> Result<()> {
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start ip")?;
    let script = lines.join("\n") + "\n";
    child.stdin.take().context("ip has no standard input")?.write_all(script.as_bytes())?;
    let result = child.wait_with_output()?;
    if !result.status.success() {
        bail!("ip -batch failed: {}\n{script}", String::from_utf8_lossy(&result.stderr));
    }
    Ok(())
}

/// The command as one would type it.
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
