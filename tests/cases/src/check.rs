//! Runs cases and says where reality differs from what is expected.

use crate::{
    case::{Case, CaseFile, Decided, Expect, ExpectedSession, Hook, Leaving, PortDelta, Send, State, Step},
    fabric::{Devices, Fabric},
    outcome::{Outcome, Seen, Sessions},
    packet::{self, Serialised},
    runner::{Arrival, Runner},
};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use vpc_common::{DropReason, Ip, offload::Mark, port::UNDERLAY_SLOT, session::decided};
use vpc_datapath::verdict::End;

/// What one packet of a case did.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was seen of it.
    pub outcome: Outcome,
    /// By how much the counters moved, by slot.
    pub moved: BTreeMap<u16, PortDelta>,
    /// The sessions afterwards.
    pub sessions: Sessions,
    /// Names of the interfaces.
    pub devices: Devices,
}

impl Record {
    /// The reason why it was dropped.
    pub fn drop_reason(&self) -> Option<DropReason> {
        match self.outcome.verdict {
            Seen::Whole(End::Drop(reason)) => Some(reason),
            _ => None,
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What its packets did.
    pub records: Vec<Record>,
    /// Where that differs from what is expected.
    pub failures: Vec<String>,
}

/// Runs a case and compares what happens with what is expected.
///
/// # Errors
/// The case does not make sense, or the runner fails.
pub fn run(file: &CaseFile, case: &Case, runner: &mut impl Runner, devices: &Devices) -> Result<Report> {
    let mut fabric = Fabric::new(file)?;
    runner.start(&fabric.state(devices)?)?;
    let mut report = Report::default();
    for (number, step) in case.steps().enumerate() {
        match step {
            Step::Send(send) => {
                let (record, failures) = arrive(&fabric, &send, runner, devices)
                    .with_context(|| format!("step {} of {:?}", number + 1, case.name))?;
                report.failures.extend(failures.into_iter().map(|text| format!("step {}: {text}", number + 1)));
                report.records.push(record);
            }
            Step::Wait(milliseconds) => runner.wait(milliseconds)?,
            Step::Edit(edit) => {
                fabric = fabric.edited(&edit.replace, &edit.with)?;
                runner.change(&fabric.state(devices)?)?;
            }
            Step::Machine(machine) => {
                fabric = fabric.on(&machine);
                runner.change(&fabric.state(devices)?)?;
            }
            Step::Mapping(mapping) => {
                let (key, entry) = fabric.mapping(&mapping)?;
                runner.map(&key, &entry, mapping.led)?;
            }
            Step::Exhaust(exhaust) => runner.exhaust(fabric.slot(&exhaust.port)?, exhaust.bucket)?,
        }
    }
    Ok(report)
}

fn arrive(fabric: &Fabric, send: &Send, runner: &mut impl Runner, devices: &Devices) -> Result<(Record, Vec<String>)> {
    let bytes = packet::serialise(&send.packet, fabric)?.bytes;
    let ifindex = match (send.hook, &send.from) {
        (Hook::Port | Hook::PortXdp | Hook::Wire, Some(from)) => {
            devices.index(fabric.device_of(from).unwrap_or(from))?
        }
        (Hook::Port | Hook::PortXdp | Hook::Wire, None) => anyhow::bail!("`from` is missing: which port sends it?"),
        (Hook::External, _) => devices.index(fabric.external().context("the node is no gateway")?)?,
        _ => 0,
    };
    let mark = match (send.hook, &send.from) {
        (Hook::Offload, Some(from)) if from == "outside" => Mark::of(UNDERLAY_SLOT).bits(),
        (Hook::Offload, Some(from)) => Mark::of(fabric.slot(from)?).bits(),
        _ => 0,
    };
    let before = runner.counts()?;
    let arrival = Arrival {
        hook: send.hook,
        ifindex,
        bytes: &bytes,
        mark,
        gso_size: send.gso_size,
        offload: send.offload,
        copies: send.expect.copies.len(),
    };
    let outcome = runner.run(&arrival)?;
    let after = runner.counts()?;
    let record =
        Record { outcome, moved: after.since(&before), sessions: runner.sessions()?, devices: devices.clone() };
    let judge = Judge { fabric, send, arrived: &bytes, record: &record };
    let mut failures = judge.failures()?;
    if let Some((slot, _)) = after.0.iter().find(|(_, counts)| !counts.balance()) {
        failures.push(format!("the counters of {} do not balance (K1)", fabric.slot_name(*slot)));
    }
    Ok((record, failures))
}

/// Compares one packet's record with what is expected.
struct Judge<'a> {
    fabric: &'a Fabric,
    send: &'a Send,
    arrived: &'a [u8],
    record: &'a Record,
}

impl Judge<'_> {
    fn failures(&self) -> Result<Vec<String>> {
        let expect = &self.send.expect;
        let mut failures = Vec::new();
        let (class, verdict) = self.verdict();
        match self.record.outcome.verdict {
            Seen::Whole(_) if verdict != expect.verdict => {
                failures.push(format!("expected {:?}, got {verdict:?}", expect.verdict));
            }
            Seen::Class(seen) if seen != class => {
                failures.push(format!("expected {:?}, the kernel's return value says {seen:?}", expect.verdict));
            }
            _ => {}
        }
        match (&expect.packet, &self.record.outcome.packet) {
            (Some(leaving), Some(actual)) => {
                let difference = packet::difference(&self.leaving(leaving)?, actual);
                failures.extend(difference.map(|text| format!("the packet: {text}")));
            }
            (None, Some(actual)) => {
                failures.push(format!("a packet leaves that is not described:\n{}", packet::show(actual, actual)));
            }
            (Some(_), None) => failures.push("no packet leaves".to_owned()),
            (None, None) => {}
        }
        failures.extend(self.copies(expect)?);
        failures.extend(self.counters(expect));
        failures.extend(self.sessions(expect));
        Ok(failures)
    }

    /// The class that is expected, and the verdict that was seen, in the words of case files.
    fn verdict(&self) -> (crate::outcome::Class, String) {
        use crate::outcome::Class;
        let class = match self.send.expect.verdict.split(' ').next() {
            Some("drop" | "replicated") => Class::Ended,
            Some("punt") => Class::Passed,
            _ => Class::Redirected,
        };
        let text = match self.record.outcome.verdict {
            Seen::Whole(End::Drop(reason)) => format!("drop {}", reason.name()),
            Seen::Whole(End::Transmit(index)) => format!("transmit {}", self.record.devices.name(index)),
            Seen::Whole(End::Deliver(slot)) => format!("deliver {}", self.fabric.slot_name(slot)),
            Seen::Whole(End::Answer) => "answer".to_owned(),
            Seen::Whole(End::Punt) => "punt".to_owned(),
            Seen::Whole(End::Replicated) => "replicated".to_owned(),
            Seen::Whole(End::Offload(_)) => "offload".to_owned(),
            Seen::Class(class) => format!("{class:?}"),
        };
        (class, text)
    }

    fn leaving(&self, leaving: &Leaving) -> Result<Serialised> {
        match leaving {
            Leaving::Unchanged(_) => Ok(Serialised { bytes: self.arrived.to_vec(), hashed_ports: Vec::new() }),
            Leaving::Layers(layers) => packet::serialise(layers, self.fabric),
        }
    }

    fn copies(&self, expect: &Expect) -> Result<Vec<String>> {
        let mut failures = Vec::new();
        let mut expected: BTreeMap<u32, Vec<Serialised>> = BTreeMap::new();
        for copy in &expect.copies {
            let device = self.fabric.device_of(&copy.to).unwrap_or(&copy.to);
            let index = self.record.devices.index(device)?;
            expected.entry(index).or_default().push(self.leaving(&copy.packet)?);
        }
        let none = Vec::new();
        let nothing = Vec::new();
        for index in expected.keys().chain(self.record.outcome.copies.keys()) {
            let wanted = expected.get(index).unwrap_or(&none);
            let sent = self.record.outcome.copies.get(index).unwrap_or(&nothing);
            let name = self.record.devices.name(*index);
            if wanted.len() != sent.len() {
                let heads: String = sent.iter().map(|bytes| format!("\n{}", packet::show(bytes, bytes))).collect();
                failures.push(format!("expected {} copies on {name}, got {}{heads}", wanted.len(), sent.len()));
                continue;
            }
            for (number, (wanted, sent)) in wanted.iter().zip(sent).enumerate() {
                let difference = packet::difference(wanted, sent);
                failures.extend(difference.map(|text| format!("copy {} on {name}: {text}", number + 1)));
            }
        }
        failures.dedup();
        Ok(failures)
    }

    fn counters(&self, expect: &Expect) -> Vec<String> {
        let Some(expected) = &expect.counters else { return Vec::new() };
        let moved: BTreeMap<String, PortDelta> =
            self.record.moved.iter().map(|(slot, delta)| (self.fabric.slot_name(*slot), delta.clone())).collect();
        if *expected == moved { Vec::new() } else { vec![format!("counters: expected {expected:?}, got {moved:?}")] }
    }

    fn sessions(&self, expect: &Expect) -> Vec<String> {
        let Some(expected) = &expect.sessions else { return Vec::new() };
        let end = |address: Ip, port: vpc_common::Be16| format!("{address} {}", port.get());
        let actual: Vec<ExpectedSession> = self
            .record
            .sessions
            .iter()
            .map(|(key, session)| ExpectedSession {
                port: self.fabric.slot_name(key.slot),
                protocol: key.protocol,
                local: end(key.local, key.local_port),
                remote: end(key.remote, key.remote_port),
                decided: [(decided::EGRESS, Decided::Egress), (decided::INGRESS, Decided::Ingress)]
                    .into_iter()
                    .filter(|(bit, _)| session.decided & bit != 0)
                    .map(|(_, direction)| direction)
                    .collect(),
                state: State::of(session.state),
            })
            .collect();
        let same = expected.len() == actual.len()
            && expected.iter().all(|expected| actual.iter().any(|session| expected.is(session)));
        if same { Vec::new() } else { vec![format!("sessions: expected {expected:?}, got {actual:?}")] }
    }
}

/// Where two runners differ over the same packet.
pub fn disagreements(host: &Record, kernel: &Record) -> Vec<String> {
    let mut texts = Vec::new();
    if host.outcome.verdict.class() != kernel.outcome.verdict.class() {
        texts.push(format!("verdict: host {:?}, kernel {:?}", host.outcome.verdict, kernel.outcome.verdict));
    }
    let same = |host: &[u8], kernel: &[u8]| {
        packet::difference(&Serialised { bytes: host.to_vec(), hashed_ports: Vec::new() }, kernel)
    };
    match (&host.outcome.packet, &kernel.outcome.packet) {
        (Some(host), Some(kernel)) => {
            texts.extend(same(host, kernel).map(|text| format!("packet, host as expected: {text}")));
        }
        (None, None) => {}
        (host, kernel) => texts.push(format!("packet: host {}, kernel {}", host.is_some(), kernel.is_some())),
    }
    let by_name = |record: &Record| -> BTreeMap<String, Vec<Vec<u8>>> {
        let copies = record.outcome.copies.iter();
        copies.map(|(index, copies)| (record.devices.name(*index), copies.clone())).collect()
    };
    if by_name(host) != by_name(kernel) {
        texts.push("copies differ".to_owned());
    }
    if host.moved != kernel.moved {
        texts.push(format!("counters: host {:?}, kernel {:?}", host.moved, kernel.moved));
    }
    if host.sessions != kernel.sessions {
        texts.push(format!("sessions: host {:?}, kernel {:?}", host.sessions, kernel.sessions));
    }
    texts
}
