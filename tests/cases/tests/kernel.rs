//! Every case in the kernel, and whether it agrees with the host build byte for byte. Needs root.

use anyhow::Result;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use vpc_bpf::Loaded;
use vpc_cases::{
    case::{self, CaseFile},
    check,
    fabric::Fabric,
    host::Host,
    kernel::{Kernel, inside, load, release},
};

/// What came of the cases of a file, or of many.
#[derive(Default)]
struct Outcome {
    cases: usize,
    failures: Vec<String>,
}

/// Runs the cases of a file that this kernel can run, on the host and in the kernel.
fn run(name: &str, file: &CaseFile, loaded: &Loaded, release: (u32, u32)) -> Result<Outcome> {
    let fabric = Fabric::new(file)?;
    let mut kernel = Kernel::new(&fabric, loaded)?;
    let devices = kernel.devices().clone();
    let mut outcome = Outcome::default();
    for case in file.cases.iter().filter(|case| case.host_only.is_none() && case.linux <= release) {
        outcome.cases += 1;
        let failures = &mut outcome.failures;
        let host = check::run(file, case, &mut Host::default(), &fabric.made_up_devices());
        match (host, check::run(file, case, &mut kernel, &devices)) {
            (Ok(host), Ok(kernel)) => {
                failures.extend(kernel.failures.iter().map(|text| format!("{name}: {}: {text}", case.name)));
                for (number, (host, kernel)) in host.records.iter().zip(&kernel.records).enumerate() {
                    failures.extend(check::disagreements(host, kernel).iter().map(|text| {
                        format!("{name}: {}: packet {}, host and kernel disagree: {text}", case.name, number + 1)
                    }));
                }
            }
            (Err(error), _) | (_, Err(error)) => failures.push(format!("{name}: {}: {error:#}", case.name)),
        }
    }
    Ok(outcome)
}

/// Runs the cases of the next file that nobody has taken, until all are taken. Each file has a network namespace of its
/// own, the programs are the same for all.
fn run_next(files: &[(String, CaseFile)], next: &AtomicUsize, release: (u32, u32)) -> Result<Outcome> {
    let loaded = load()?;
    let mut sum = Outcome::default();
    while let Some((name, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
        match inside(|| run(name, file, &loaded, release)) {
            Ok(outcome) => {
                sum.cases += outcome.cases;
                sum.failures.extend(outcome.failures);
            }
            Err(error) => sum.failures.push(format!("{name}: {error:#}")),
        }
    }
    Ok(sum)
}

#[test]
fn every_case_ends_as_described_and_as_on_the_host() {
    let (release, files, next) = (release().unwrap(), case::files().unwrap(), AtomicUsize::new(0));
    let workers = thread::available_parallelism().unwrap().get();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let working: Vec<_> = (0..workers).map(|_| scope.spawn(|| run_next(&files, &next, release))).collect();
        working.into_iter().map(|worker| worker.join().unwrap().unwrap()).collect()
    });
    let cases: usize = outcomes.iter().map(|outcome| outcome.cases).sum();
    let failures: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.failures).collect();
    println!("{cases} cases");
    assert!(cases > 0 && failures.is_empty(), "{}\n{} failures", failures.join("\n"), failures.len());
}
