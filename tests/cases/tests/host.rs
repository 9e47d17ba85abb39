//! Every case on the host build of the packet code.

use vpc_cases::{case, check, fabric::Fabric, host::Host};

#[test]
fn every_case_ends_as_described() {
    let (mut cases, mut failed) = (0, Vec::new());
    for (name, file) in case::files().unwrap() {
        let devices = Fabric::new(&file).unwrap().made_up_devices();
        for case in &file.cases {
            cases += 1;
            let mut host = Host::default();
            match check::run(&file, case, &mut host, &devices) {
                Ok(report) => {
                    failed.extend(report.failures.iter().map(|text| format!("{name}: {}: {text}", case.name)))
                }
                Err(error) => failed.push(format!("{name}: {}: {error:#}", case.name)),
            }
        }
    }
    println!("{cases} cases");
    assert!(cases > 0 && failed.is_empty(), "{}\n{} failures", failed.join("\n"), failed.len());
}
