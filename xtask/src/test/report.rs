//! Running the steps and summing them up.

use crate::process::{describe, repository, run};
use anyhow::{Context, Result};
use std::{
    io::{self, BufRead, BufReader},
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How long a program of tests may print nothing: far longer than any test takes, and far less than a job may.
const SILENCE: Duration = Duration::from_secs(600);

/// What a step that went to its end did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A check that passed.
    Check,
    /// Tests.
    Tests {
        /// How many passed.
        passed: u32,
        /// How many failed.
        failed: u32,
    },
}

/// The steps so far.
#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
}

struct Line {
    name: &'static str,
    passed: u32,
    failed: u32,
    took: Duration,
}

impl Report {
    /// Runs a step. A failure is noted and does not keep the later ones from running.
    pub fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let (passed, failed) = match step() {
            Ok(Outcome::Check) => (1, 0),
            Ok(Outcome::Tests { passed, failed }) => (passed, failed),
            Err(error) => {
                println!("{error:#}");
                (0, 1)
            }
        };
        self.lines.push(Line { name, passed, failed, took: start.elapsed() });
    }

    /// Whether anything failed.
    pub fn has_failures(&self) -> bool {
        self.lines.iter().any(|line| line.failed > 0)
    }

    /// A line per step, and the sum.
    pub fn print(&self) {
        println!();
        for line in &self.lines {
            let tick = if line.failed == 0 { "✓" } else { "✗" };
            let took = line.took.as_secs_f64();
            println!("{tick} {:32} {:5} passed {:4} failed {took:8.1} s", line.name, line.passed, line.failed);
        }
        let sum = |field: fn(&Line) -> u32| self.lines.iter().map(field).sum::<u32>();
        println!("{} passed, {} failed", sum(|line| line.passed), sum(|line| line.failed));
    }
}

/// Runs a command that either passes or fails.
pub fn check(command: &mut Command) -> Result<Outcome> {
    run(command).map(|()| Outcome::Check)
}

/// Runs programs of tests with their output on the terminal, all of them, and counts.
pub fn tests(commands: impl Iterator<Item = Command>) -> Result<Outcome> {
    let (mut passed, mut failed) = (0, 0);
    for mut command in commands {
        let directory = command.get_current_dir().unwrap_or(repository());
        println!(
            "\n--- {}: {}",
            directory.strip_prefix(repository()).unwrap_or(directory).display(),
            describe(&command)
        );
        let (good, bad) = counted(&mut command, SILENCE)?;
        passed += good;
        failed += bad;
    }
    Ok(Outcome::Tests { passed, failed })
}

/// How many tests of a program passed, and how many failed. One that ends otherwise than with its tests has failed itself,
/// as has one that says nothing for so long that it will never end.
fn counted(command: &mut Command, silence: Duration) -> Result<(u32, u32)> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", describe(command)))?;
    let lines = lines(child.stdout.take().context("no output")?);
    let (mut passed, mut failed) = (0, 0);
    loop {
        match lines.recv_timeout(silence) {
            Ok(line) => {
                let line = line?;
                if let Some((good, bad)) = counts(&line) {
                    passed += good;
                    failed += bad;
                }
                println!("{line}");
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("{} has said nothing for {silence:?} and is killed", describe(command));
                child.kill()?;
                // What it started may hold its output open, so the end of that is not waited for.
                break;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && failed == 0 {
        println!("{} ended with {status}", describe(command));
        failed = 1;
    }
    Ok((passed, failed))
}

/// The lines that a program prints, as they come.
fn lines(output: ChildStdout) -> Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| sender.send(line)));
    lines
}

/// Passed and failed of a line such as `test result: ok. 8 passed; 0 failed; 0 ignored; …`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let (before, _) = rest.split_once(word)?;
        before.trim_end().rsplit(' ').next()?.parse().ok()
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn counts_are_read() {
        assert_eq!(counts("test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured"), Some((5, 2)));
        assert_eq!(counts("test a ... ok"), None);
    }

    #[test]
    fn a_program_that_dies_is_counted() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let good = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'";
        let bad = "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101";
        let commands = [good, "kill -9 $$", bad].map(shell);
        let outcome = tests(commands.into_iter()).expect("a shell");
        assert_eq!(outcome, Outcome::Tests { passed: 4, failed: 3 });
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_counted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; exec sleep 60"]);
        let start = Instant::now();
        assert_eq!(counted(&mut command, Duration::from_millis(300)).expect("a shell"), (3, 1));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failing_step_is_counted() {
        let mut report = Report::default();
        report.run("one", || Ok(Outcome::Tests { passed: 3, failed: 0 }));
        assert!(!report.has_failures());
        report.run("two", || bail!("broken"));
        assert!(report.has_failures());
        assert_eq!(report.lines.iter().map(|line| line.passed).sum::<u32>(), 3);
    }
}
