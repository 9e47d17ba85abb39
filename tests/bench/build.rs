//! Compiles the benchmark's kernel programs into an object that the binary embeds.

use std::{error::Error, path::Path};
use vpc_ebpf_build::{Programs, compile};

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    compile(&Programs {
        repository: package.ancestors().nth(2).ok_or("the package has no repository above it")?,
        directory: "tests/bench-ebpf",
        parts: &[],
        binary: "vpc-bench",
        object: "vpc-bench.o",
    })?;
    Ok(())
}
