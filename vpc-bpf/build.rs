//! Compiles the kernel programs into an object that the library embeds.

use std::{error::Error, path::Path};
use vpc_ebpf_build::{Programs, compile};

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    compile(&Programs {
        repository: package.parent().ok_or("the package has no parent directory")?,
        directory: "vpc-dataplane-ebpf",
        parts: &["vpc-common", "vpc-datapath"],
        binary: "vpc",
        object: "vpc-dataplane.o",
    })?;
    Ok(())
}
