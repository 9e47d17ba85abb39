//! A loader's outcome is that of reading the whole file, whatever the edits were.

use proptest::{collection::vec, prelude::*, sample::select};
use std::sync::Arc;
use vpc_topology::{Limits, Loader, load};

const BASES: [&str; 5] = [
    include_str!("../../examples/peering.yaml"),
    include_str!("../../examples/appliance.yaml"),
    include_str!("../../examples/security-groups.yaml"),
    include_str!("../../examples/plain-vtep.yaml"),
    include_str!("../../examples/gateway.yaml"),
];

/// Pieces that edits insert: fragments of ports, and what breaks the structure around them.
const PIECES: [&str; 18] = [
    "",
    "\n",
    " ",
    "  ",
    "#",
    "- ",
    "\n  - ",
    "}",
    "{",
    "]\n",
    "\"",
    "\nnodes: []\n",
    "\n---\n",
    "hv2",
    "10.0.1.77",
    "02:00:00:00:77:77",
    "\n  - {name: new, subnet: front, node: hv1, device: tap-new, mac: \"02:00:00:07:07:07\", private_ips: [10.0.1.7]}",
    "\n  - name: newer\n    subnet: prod-a\n    node: hv2\n    device: tap-n\n    mac: \"02:00:00:07:07:08\"\n    private_ips: [10.0.1.8]\n",
];

/// Where, how much is removed, and what is put there.
type Edit = (usize, usize, &'static str);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    vec((0..2_000_usize, select(vec![0_usize, 0, 1, 2, 5, 9, 120]), select(PIECES.to_vec())), 1..5)
}

fn edited(text: &str, (at, removed, piece): Edit) -> String {
    // Most edits fall behind `ports:`, where they may be read alone.
    let ports = text.find("ports:").unwrap_or_default();
    let at = (ports.saturating_sub(40) + at % (text.len() - ports + 40).max(1)).min(text.len());
    let end = (at + removed).min(text.len());
    format!("{}{piece}{}", &text[..at], &text[end..])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn same_as_whole(base in 0..BASES.len(), edits in edits()) {
        let mut loader = Loader::default();
        let mut text = Arc::new(BASES[base].to_owned());
        loader.load(&text, "a.yaml", &Limits::default()).unwrap();
        for edit in edits {
            let next = Arc::new(edited(&text, edit));
            match (loader.load(&next, "a.yaml", &Limits::default()), load(&next, "a.yaml")) {
                (Ok(a), Ok(b)) => prop_assert_eq!(a.file(), b.file()),
                (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
                (a, b) => prop_assert!(false, "alone: {:?}\nwhole: {:?}\n{}", a, b, next),
            }
            // What is refused is corrected: the next edit starts from a valid text again.
            if load(&next, "").is_ok() {
                text = next;
            }
            let _ = loader.load(&text, "a.yaml", &Limits::default());
        }
    }
}
