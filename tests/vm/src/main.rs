//! What runs inside the machine.

use std::{process::ExitCode, time::Instant};
use vpc_vm_tests::{MARK, PASSED, scenario};

fn main() -> ExitCode {
    let start = Instant::now();
    let result = scenario::Attach::from_arguments().and_then(|attach| {
        scenario::run(attach, &mut |name, figure| {
            println!("{MARK}{:6.1} s  {name}: {figure}", start.elapsed().as_secs_f64());
        })
    });
    match result {
        Ok(()) => {
            println!("{MARK}{PASSED}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
