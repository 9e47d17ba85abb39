//! Edits of topologies: none panics, whatever is wrong shows at its place, what is valid compiles for every node, and a
//! loader that has seen the version before says the same as one that reads the whole.

use std::sync::Arc;
use vpc_topology::{Limits, Loader, Slots, compile, load};

const BASES: [&str; 4] = [
    "",
    include_str!("../../../../examples/peering.yaml"),
    include_str!("../../../../examples/appliance.yaml"),
    include_str!("../../../../examples/plain-vtep.yaml"),
];

/// Puts pieces of the input into a text: where, how much goes, how much comes, and what.
fn edited(base: &str, mut input: &[u8]) -> String {
    let mut text = base.as_bytes().to_vec();
    while let [high, low, removed, added, rest @ ..] = input {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % (text.len() + 1);
        let end = (at + usize::from(*removed)).min(text.len());
        let (piece, rest) = rest.split_at(usize::from(*added).min(rest.len()));
        text.splice(at..end, piece.iter().copied());
        input = rest;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads the topology that an input makes of an example.
///
/// # Panics
/// What must not be is.
pub fn run(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else { return };
    let base = BASES[usize::from(*choice) % BASES.len()];
    let text = Arc::new(edited(base, input));
    let whole = load(&text, "topology.yaml");
    let mut loader = Loader::default();
    if !base.is_empty() {
        loader.load(&Arc::new(base.to_owned()), "topology.yaml", &Limits::default()).expect("an example is valid");
    }
    match (loader.load(&text, "topology.yaml", &Limits::default()), &whole) {
        (Ok(alone), Ok(whole)) => assert_eq!(alone.file(), whole.file()),
        (Err(alone), Err(whole)) => assert_eq!(alone.to_string(), whole.to_string()),
        (alone, whole) => panic!("alone: {alone:?}\nwhole: {whole:?}"),
    }
    match whole {
        Ok(topology) => {
            for node in &topology.file().nodes {
                // Plain VTEPs have nothing to compile, which is no panic either.
                let _compiled_or_refused = compile(&topology, &node.name.value, &Slots::default(), &Limits::default());
            }
        }
        Err(problems) => assert!(!problems.problems().is_empty()),
    }
}
