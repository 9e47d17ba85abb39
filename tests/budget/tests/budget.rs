//! The programs against what is recorded of them.

use std::{env, fs, path::Path};
use vpc_verifier_budget::{excesses, format, measure, parse};

#[test]
fn no_program_has_grown() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded.txt");
    let measured = measure().unwrap();
    println!("{}", format(&measured));
    if env::var_os("RECORD_BUDGET").is_some() {
        fs::write(&path, format(&measured)).unwrap();
    }
    let recorded = parse(&fs::read_to_string(&path).unwrap_or_default()).unwrap();
    let excesses = excesses(&recorded, &measured);
    assert!(excesses.is_empty(), "{excesses:#?}\nIf that is meant: cargo xtask budget --record");
    // Half of what the kernel allows (BPF_COMPLEXITY_LIMIT_INSNS, MAX_BPF_STACK).
    assert!(measured.values().all(|used| used.instructions < 500_000 && used.stack <= 512), "{measured:#?}");
}
