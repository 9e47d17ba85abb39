//! How much of the kernel's limits the programs use: instructions that the verifier walks (1,000,000 at most, and each
//! costs time at every start) and bytes of stack (512 over a chain of calls).

mod stack;

use anyhow::{Context, Result};
use std::{collections::BTreeMap, fmt::Write};
use vpc_bpf::{Loader, Sizes};

/// What one program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Instructions that the verifier walked.
    pub instructions: u32,
    /// Bytes of stack of the hungriest of its functions.
    pub stack: u32,
}

/// Programs by name.
pub type Budget = BTreeMap<String, Use>;

/// How much more than recorded is let pass: compilers differ a little.
const TOLERANCE_PERCENT: u32 = 5;

/// Loads the programs and measures them.
///
/// # Errors
/// The kernel refuses them.
pub fn measure() -> Result<Budget> {
    let sizes = Sizes { endpoints: 1_024, routes: 1_024, sessions: 1_024, ..Sizes::default() };
    let loaded = Loader::new(sizes).load().context("the kernel refuses the programs")?;
    let stacks = stack::of_object(vpc_bpf::OBJECT)?;
    let mut budget = Budget::new();
    for name in loaded.program_names() {
        let instructions = loaded.program_info(name)?.verified_instructions;
        let stack = *stacks.get(name).with_context(|| format!("program {name} is not in the object"))?;
        budget.insert(name.to_owned(), Use { instructions, stack });
    }
    Ok(budget)
}

/// A budget as it is recorded: a line per program.
pub fn format(budget: &Budget) -> String {
    let mut text = "# program instructions stack\n".to_owned();
    for (name, used) in budget {
        // Writing to a string does not fail.
        let _written = writeln!(text, "{name} {} {}", used.instructions, used.stack);
    }
    text
}

/// The inverse of [`format()`].
///
/// # Errors
/// A line is none of a budget.
pub fn parse(text: &str) -> Result<Budget> {
    let mut budget = Budget::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut next = || words.next().with_context(|| format!("too short: {line}"));
        let name = next()?.to_owned();
        budget.insert(name, Use { instructions: next()?.parse()?, stack: next()?.parse()? });
    }
    Ok(budget)
}

/// What is over the recorded budget, a text each. A program that is not recorded is over it.
pub fn excesses(recorded: &Budget, measured: &Budget) -> Vec<String> {
    let mut excesses = Vec::new();
    for (name, now) in measured {
        let Some(before) = recorded.get(name) else {
            excesses.push(format!("{name} is not recorded: {now:?}"));
            continue;
        };
        let allowed = before.instructions + before.instructions * TOLERANCE_PERCENT / 100;
        if now.instructions > allowed {
            excesses.push(format!("{name}: {} instructions, recorded {}", now.instructions, before.instructions));
        }
        if now.stack > before.stack {
            excesses.push(format!("{name}: {} bytes of stack, recorded {}", now.stack, before.stack));
        }
    }
    excesses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(instructions: u32, stack: u32) -> Budget {
        Budget::from([("p".to_owned(), Use { instructions, stack })])
    }

    #[test]
    fn growth_is_seen_and_noise_is_not() {
        assert!(excesses(&one(1_000, 100), &one(1_050, 100)).is_empty());
        assert_eq!(excesses(&one(1_000, 100), &one(1_051, 100)).len(), 1);
        assert_eq!(excesses(&one(1_000, 100), &one(900, 104)).len(), 1);
        assert_eq!(excesses(&Budget::new(), &one(1, 1)).len(), 1);
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(parse(&format(&one(5, 6))).unwrap(), one(5, 6));
        assert!(parse("p 1\n").is_err());
    }
}
