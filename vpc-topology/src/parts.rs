//! Reads a large list of ports by parts.
//!
//! The list of ports is what makes a file large. A part of it that begins with an item's line is a list of its own, so
//! it is read alone: plainly where it is written plainly ([`Reader::plain_items`]), by the YAML parser where not, and on
//! all CPUs at once. What is left of the file without the items is a topology too, and small.
//!
//! Only what is beyond doubt is accepted. A file that is written otherwise, or in which anything is wrong, is read whole
//! by the YAML parser, which tells every problem.

use crate::{
    Source,
    document::{Field, Reader},
    model::{File, Pool, Port},
};
use std::{num::NonZero, ops::Range, sync::mpsc, thread};

/// What stands before a part of the list of ports to make it a topology of its own.
const HEADER: &str = "version: 1\nports:\n";
/// Where the list of ports begins.
const KEY: &str = "ports:";
/// Bytes of a part, about.
const PART: usize = 1 << 18;

/// Reads a file by parts. `None`: it must be read whole.
pub(crate) fn read(source: &dyn Source) -> Option<File> {
    read_in(source, PART)
}

fn read_in(source: &dyn Source, size: usize) -> Option<File> {
    let text = source.text();
    let items = items(text)?;
    // The key is one of the topology itself, and its value begins here, if what comes before is a topology so far: in
    // the midst of quotes or of a flow collection it would be none.
    Reader::new(&text[..items.start]).document::<File>().0?;
    let rest = [&text[..items.start], &text[items.end..]].concat();
    let (file, problems, _) = Reader::new(&rest).document::<File>();
    let mut file = file.filter(|file| problems.is_empty() && file.ports.is_empty())?;
    if items.end < text.len() && file.span.end as usize <= items.start {
        // Behind the items is nothing of the topology, and yet something.
        return None;
    }
    file.make_room(items.start, items.len() as i64);
    let parts = parts(text, items.clone(), size)?;
    source.pass(0..text.len());
    file.ports = ports(source, &parts)?;
    source.pass(0..text.len());
    if items.end == text.len() {
        file.span.end = file.ports.last()?.span.end;
    }
    Some(file)
}

/// The lines of the items of the list of ports, if it is a block list.
fn items(text: &str) -> Option<Range<usize>> {
    let key = if text.starts_with(KEY) { 0 } else { text.find(&format!("\n{KEY}"))? + 1 };
    let start = key + text[key..].find('\n')? + 1;
    if !text[key + KEY.len()..start].trim_matches(' ').eq("\n") {
        return None;
    }
    let mut end = start;
    for line in text[start..].split_inclusive('\n') {
        if !is_part_of_list(line) {
            break;
        }
        end += line.len();
    }
    (start < end).then_some(start..end)
}

/// Whether a line cannot end the list: no key of the topology, no end of a document.
pub(crate) fn is_part_of_list(line: &str) -> bool {
    line.starts_with(['\n', ' ', '#']) || line.is_empty() || line.starts_with("- ")
}

fn ports(source: &dyn Source, parts: &[Range<usize>]) -> Option<Vec<Port>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let read = |first: usize| {
            // One part may wait to be taken: what parts are read into is used again for the next ones.
            let (sender, receiver) = mpsc::sync_channel(1);
            scope.spawn(move || {
                for part in parts.iter().skip(first).step_by(threads) {
                    let read = part_of_list(source.text(), part.clone());
                    source.pass(part.clone());
                    // Nobody takes it: another part could not be read.
                    if sender.send(read).is_err() {
                        break;
                    }
                }
            });
            receiver
        };
        let readers: Vec<_> = (0..threads).map(read).collect();
        let (mut ports, mut names) = (Vec::new(), Pool::default());
        for reader in readers.iter().cycle().take(parts.len()) {
            let mut part = reader.recv().ok().flatten()?;
            part.iter_mut().for_each(|port| port.share_names(&mut names));
            ports.extend(part);
        }
        Some(ports)
    })
}

/// Cuts the list before lines that look like the first one of an item, into parts of about that size. `None`: it does not
/// begin with such a line. A tab stands before its hyphen, say, and the parser takes that alone, but not with items behind it.
fn parts(text: &str, items: Range<usize>, size: usize) -> Option<Vec<Range<usize>>> {
    let list = &text[items.clone()];
    let first = list.lines().find(|line| !is_blank(line)).unwrap_or_default();
    let indent = first.len() - first.trim_start_matches(' ').len();
    if !first[indent..].starts_with('-') {
        return None;
    }
    let item = format!("\n{}- ", " ".repeat(indent));
    let mut parts = Vec::with_capacity(list.len() / size + 1);
    let mut start = items.start;
    while start < items.end {
        let least = text.floor_char_boundary((start + size).min(items.end));
        let end = text[least..items.end].find(&item).map_or(items.end, |at| least + at + 1);
        parts.push(start..end);
        start = end;
    }
    Some(parts)
}

fn is_blank(line: &str) -> bool {
    let content = line.trim_start_matches(' ');
    content.is_empty() || content.starts_with('#')
}

/// Reads items alone. `None`: they are no items, or there is something wrong with them.
pub(crate) fn part_of_list(text: &str, part: Range<usize>) -> Option<Vec<Port>> {
    let (offset, part) = (part.start, &text[part]);
    if let Some(ports) = Reader::plain_items(part, offset as u32) {
        return Some(ports);
    }
    // A lone carriage return would be a line break that `lines` does not know.
    if part.contains('\r') || !part.lines().all(is_part_of_list) {
        return None;
    }
    let (read, problems, _) = Reader::new(&format!("{HEADER}{part}")).document::<File>();
    let mut file = read.filter(|_| problems.is_empty())?;
    file.shift(offset as i64 - HEADER.len() as i64);
    Some(file.ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*, sample::select};

    const BASES: [&str; 5] = [
        include_str!("../../examples/peering.yaml"),
        include_str!("../../examples/appliance.yaml"),
        include_str!("../../examples/security-groups.yaml"),
        include_str!("../../examples/plain-vtep.yaml"),
        include_str!("../../examples/gateway.yaml"),
    ];

    /// What edits insert: what may be in a list of ports, and what breaks the structure around it.
    const PIECES: [&str; 30] = [
        "",
        "\n",
        " ",
        "  ",
        "#",
        "# no",
        "- ",
        "\n  - ",
        "\n- ",
        "}",
        "{",
        "]\n",
        "\"",
        "'",
        "\\",
        "\r",
        "\t",
        "&a ",
        "*a",
        "|\n",
        ">",
        "? ",
        ": ",
        "\nnodes: []\n",
        "\nports:\n",
        "\n---\n",
        "\n...\n",
        "\n%YAML 1.2\n",
        "\u{feff}",
        "\n  - name: new\n    subnet: a\n    node: hv2\n    mac: 02:00:00:07:07:08\n    private_ips: [10.0.1.8]\n",
    ];

    fn whole(text: &str) -> Option<File> {
        let (file, problems, _) = Reader::new(text).document::<File>();
        file.filter(|_| problems.is_empty())
    }

    #[test]
    fn examples_are_read_by_parts() {
        for text in BASES {
            let file = whole(text);
            assert!(file.is_some());
            for size in [1, 100, PART] {
                assert!(read_in(&text, size) == file, "{text}");
            }
        }
    }

    #[test]
    fn the_list_may_be_anywhere() {
        let (before, ports) = BASES[0].split_once("ports:\n").unwrap();
        let (first, second) = before.split_once("vpcs:\n").unwrap();
        let text = format!("{first}ports:\n{ports}vpcs:\n{second}");
        assert!(read_in(&text, 100) == whole(&text) && whole(&text).is_some());
    }

    #[test]
    fn what_only_looks_like_the_list_is_not_cut() {
        // In quotes, in a flow collection, in another document.
        for text in
            ["version: 1\nx: \"\nports:\n  - {a: b}\n\"\n", "{version: 1, x: [\nports:\n- ]}\n", "--- |\nports:\n- a\n"]
        {
            assert!(read_in(&text, PART).is_none(), "{text}");
        }
    }

    #[test]
    fn items_must_stand_below_each_other() {
        for between in ["\t", "&a "] {
            let text = BASES[3].replacen("ports:\n  - ", &format!("ports:\n  {between}- "), 1);
            assert!(text != BASES[3] && whole(&text).is_none() && read_in(&text, 1).is_none(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

        /// What is read by parts is what the parser reads, span by span; what it refuses is not accepted.
        #[test]
        fn same_as_whole(
            base in select(BASES.to_vec()),
            edits in vec((0..4_000_usize, select(vec![0_usize, 0, 1, 2, 5]), select(PIECES.to_vec())), 0..4),
            size in select(vec![1_usize, 60, 400]),
        ) {
            let mut text = base.to_owned();
            for (at, removed, piece) in edits {
                let at = text.floor_char_boundary(at % (text.len() + 1));
                let end = text.ceil_char_boundary((at + removed).min(text.len()));
                text.replace_range(at..end, piece);
            }
            if let Some(file) = read_in(&text, size) {
                prop_assert!(Some(file) == whole(&text), "{}", text);
            }
        }
    }
}
