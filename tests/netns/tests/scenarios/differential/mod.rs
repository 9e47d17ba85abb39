//! The same packets through our router and through Linux's (forwarding, connection tracking, masquerading by nftables),
//! outcome by outcome. Scripts are data, in `tests/differential`; where the two differ a script says so, and why.

mod rig;
mod script;

use anyhow::{Context, Result};
pub use rig::TOPOLOGY;
use rig::{Rig, here, linux};
use script::{End, Outcome, Script, Seen, Step};
use std::{collections::BTreeMap, time::Duration};

/// For what must come: long, since machines are busy.
const PATIENCE: Duration = Duration::from_secs(2);
/// For what must not come. Whatever comes later is noticed by the next step.
const SILENCE: Duration = Duration::from_millis(40);

/// One of the two, and the external ports that it gave out, by protocol and the guest's port.
struct Side {
    name: &'static str,
    rig: Rig,
    external: BTreeMap<(u8, u16), u16>,
}

impl Side {
    fn new(name: &'static str, rig: Rig) -> Self {
        Self { name, rig, external: BTreeMap::new() }
    }

    /// What becomes of a packet.
    fn run(&mut self, step: &Step, expected: Outcome) -> Result<Seen> {
        let bytes = step.bytes(&self.external)?;
        self.rig.send(step.from, &bytes)?;
        let (near, far) = (step.from, step.from.other());
        let first = match expected {
            Outcome::Passes => self.rig.receive(far, PATIENCE)?,
            Outcome::Answers => self.rig.receive(near, PATIENCE)?,
            Outcome::Drops => None,
        };
        let (mut passed, mut answered) = (Vec::new(), Vec::new());
        match expected {
            Outcome::Passes => passed.extend(first),
            _ => answered.extend(first),
        }
        let more = if expected == Outcome::Drops { SILENCE } else { SILENCE / 8 };
        while let Some(frame) = self.rig.receive(far, more)? {
            passed.push(frame);
        }
        while let Some(frame) = self.rig.receive(near, Duration::ZERO)? {
            answered.push(frame);
        }
        if let (End::Guest, Some(packet)) = (step.from, passed.first()) {
            self.external.extend(step.learn(packet));
        }
        script::seen(&passed, &answered, far, &self.external)
    }
}

#[test]
fn linux_does_the_same_but_for_what_is_documented() {
    let scripts = script::all().unwrap();
    let packets: usize = scripts.iter().map(|script| script.steps.len()).sum();
    assert!(packets > 90, "{packets} packets");
    let mut sides = [Side::new("here", here().unwrap()), Side::new("linux", linux().unwrap())];
    let mut failures = Vec::new();
    for script in &scripts {
        run(script, &mut sides, &mut failures).with_context(|| script.name.clone()).unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn run(script: &Script, sides: &mut [Side; 2], failures: &mut Vec<String>) -> Result<()> {
    for (number, step) in script.steps.iter().enumerate() {
        let [expected_here, expected_linux] = step.then.outcomes();
        let [here, linux] = sides;
        let seen = [here.run(step, expected_here)?, linux.run(step, expected_linux)?];
        for ((side, seen), expected) in sides.iter().zip(&seen).zip([expected_here, expected_linux]) {
            if seen.outcome() != expected {
                failures.push(format!("{}, step {}: {} {seen}", script.name, number + 1, side.name));
            }
        }
        if !step.then.is_documented() && seen[0] != seen[1] {
            let [here, linux] = &seen;
            failures.push(format!("{}, step {}:\n  here  {here}\n  linux {linux}", script.name, number + 1));
        }
    }
    Ok(())
}
