//! The demo's table: a tick and a figure per line.

use anyhow::Result;

/// What was shown so far.
#[derive(Default)]
pub struct Table {
    passed: u32,
    failed: u32,
}

impl Table {
    /// Runs one line and prints it. Its figure, or what went wrong, stands at the end.
    pub fn line(&mut self, what: &str, work: impl FnOnce() -> Result<String>) {
        match work() {
            Ok(figure) => {
                self.passed += 1;
                println!("  ✓ {what:58} {figure}");
            }
            Err(error) => {
                self.failed += 1;
                println!("  ✗ {what:58} {error:#}");
            }
        }
    }

    /// How many lines failed.
    pub fn failures(&self) -> u32 {
        self.failed
    }

    /// Both counts.
    pub fn summary(&self) -> String {
        format!("{} shown, {} failed", self.passed, self.failed)
    }
}
