//! Every case in the kernel, and whether it agrees with the host build byte for byte. Needs root.

use vpc_cases::{
    case, check,
    fabric::Fabric,
    host::Host,
    kernel::{Kernel, inside, release},
};

#[test]
fn every_case_ends_as_described_and_as_on_the_host() {
    let release = release().unwrap();
    let (mut cases, mut failed) = (0, Vec::new());
    for (name, file) in case::files().unwrap() {
        let result = inside(|| {
            let fabric = Fabric::new(&file)?;
            let mut kernel = Kernel::new(&fabric)?;
            let devices = kernel.devices().clone();
            let mut failed = Vec::new();
            let mut cases = 0;
            for case in file.cases.iter().filter(|case| case.host_only.is_none() && case.linux <= release) {
                cases += 1;
                let host = check::run(&file, case, &mut Host::default(), &fabric.made_up_devices());
                match (host, check::run(&file, case, &mut kernel, &devices)) {
                    (Ok(host), Ok(kernel)) => {
                        failed.extend(kernel.failures.iter().map(|text| format!("{name}: {}: {text}", case.name)));
                        for (number, (host, kernel)) in host.records.iter().zip(&kernel.records).enumerate() {
                            let texts = check::disagreements(host, kernel);
                            failed.extend(texts.iter().map(|text| {
                                format!(
                                    "{name}: {}: packet {}, host and kernel disagree: {text}",
                                    case.name,
                                    number + 1
                                )
                            }));
                        }
                    }
                    (Err(error), _) | (_, Err(error)) => failed.push(format!("{name}: {}: {error:#}", case.name)),
                }
            }
            Ok((cases, failed))
        });
        match result {
            Ok((more, texts)) => {
                cases += more;
                failed.extend(texts);
            }
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    println!("{cases} cases");
    assert!(cases > 0 && failed.is_empty(), "{}\n{} failures", failed.join("\n"), failed.len());
}
