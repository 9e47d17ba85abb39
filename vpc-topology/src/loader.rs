//! Loads one version of a file after the other, and reads of each only what changed.
//!
//! Reading takes most of the time of loading. An edit of ports is read alone where the rest of the file cannot
//! mean anything else because of it; everything is validated either way. What is loaded is the same, span by span, as
//! if the file had been read whole.

use crate::{
    Diagnostics, Limits, Source, Topology,
    diagnostics::Span,
    document::{Broken, Field},
    load_within,
    model::{File, Port},
    parts::part_of_list,
    source::{common_prefix, common_suffix},
};
use std::{ops::Range, sync::Arc};

/// Loads successive versions of a file.
#[derive(Debug)]
pub struct Loader<S> {
    /// The version loaded last, if it was valid.
    last: Option<Last<S>>,
}

/// A valid version of a file. Its text may be large: it is shared, not copied.
#[derive(Debug)]
struct Last<S> {
    source: Arc<S>,
    limits: Limits,
    topology: Topology,
}

impl<S> Default for Loader<S> {
    /// A loader that has seen nothing yet.
    fn default() -> Self {
        Self { last: None }
    }
}

impl<S: Source> Loader<S> {
    /// Reads and validates a version of the file. `name` is the file's name, for messages.
    ///
    /// # Errors
    /// Every problem of the file at once, as [`crate::load`] reports them.
    pub fn load(&mut self, source: &Arc<S>, name: &str, limits: &Limits) -> Result<&Topology, Diagnostics> {
        let topology = match self.last.take() {
            Some(last) if Arc::ptr_eq(&last.source, source) && last.limits == *limits => last.topology,
            Some(last) => match last.edited(&**source) {
                Some(file) => Topology::validated(file, Vec::new(), &Broken::default(), limits)
                    .map_err(|problems| Diagnostics::new(name, source.text(), problems))?,
                None => load_within(&**source, name, limits)?,
            },
            None => load_within(&**source, name, limits)?,
        };
        Ok(&self.last.insert(Last { source: Arc::clone(source), limits: *limits, topology }).topology)
    }
}

impl<S: Source> Last<S> {
    /// The records of another version, if only items of the list of ports differ.
    fn edited(self, source: &S) -> Option<File> {
        let mut file = self.topology.into_file();
        apply(&*self.source, source, &mut file).then_some(file)
    }
}

/// Brings the records of an old text up to date. `false`: the new text must be read whole; the records are no longer
/// to be used.
fn apply(old: &dyn Source, new: &dyn Source, file: &mut File) -> bool {
    let Some(edit) = edit(old, new, &file.ports) else { return false };
    let (old, new) = (old.text(), new.text());
    let part = &new[edit.new.clone()];
    // What follows must stand on a line of its own.
    if edit.old.end < old.len() && !part.ends_with('\n') {
        return false;
    }
    if u32::try_from(new.len()).is_err() {
        return false;
    }
    let Some(ports) = part_of_list(new, edit.new.clone()) else { return false };
    let end = ports.last().map(|port| port.span.end);
    file.make_room(edit.old.end, new.len() as i64 - old.len() as i64);
    if edit.old.end == old.len() {
        // An edit that leaves no port behind it ends the topology somewhere else.
        let Some(end) = end else { return false };
        file.span.end = end;
    }
    file.ports.splice(edit.ports, ports);
    true
}

impl File {
    /// Moves the spans of everything from `at` on.
    pub(crate) fn make_room(&mut self, at: usize, by: i64) {
        if by == 0 {
            return;
        }
        let is_behind = |span: Span| span.start as usize >= at;
        move_behind(&mut self.nodes, by, |node| is_behind(node.span));
        move_behind(&mut self.vpcs, by, |vpc| is_behind(vpc.span));
        move_behind(&mut self.subnets, by, |subnet| is_behind(subnet.span));
        move_behind(&mut self.route_tables, by, |table| is_behind(table.span));
        move_behind(&mut self.internet_gateways, by, |gateway| is_behind(gateway.span));
        move_behind(&mut self.elastic_ips, by, |elastic| is_behind(elastic.span));
        move_behind(&mut self.nat_gateways, by, |gateway| is_behind(gateway.span));
        move_behind(&mut self.peerings, by, |peering| is_behind(peering.span));
        move_behind(&mut self.security_groups, by, |group| is_behind(group.span));
        move_behind(&mut self.policy_groups, by, |group| is_behind(group.span));
        move_behind(&mut self.network_acls, by, |acl| is_behind(acl.span));
        move_behind(&mut self.ports, by, |port| is_behind(port.span));
        if is_behind(self.version.span()) {
            self.version.shift(by);
        }
        if self.span.end as usize > at {
            self.span.end = (i64::from(self.span.end) + by) as u32;
        }
    }
}

fn move_behind<T: Field>(records: &mut [T], by: i64, is_behind: impl Fn(&T) -> bool) {
    records.iter_mut().filter(|record| is_behind(record)).for_each(|record| record.shift(by));
}

/// Which ports an edit touches: whole items of the list, each from the start of its line.
struct Edit {
    ports: Range<usize>,
    old: Range<usize>,
    new: Range<usize>,
}

/// The items around what differs. `None`: more than items of a block list of ports differs.
fn edit(old: &dyn Source, new: &dyn Source, ports: &[Port]) -> Option<Edit> {
    let prefix = common_prefix(old, new);
    let suffix = common_suffix(old, new, prefix);
    let (old, new) = (old.text(), new.text());
    let (old_end, new_end) = (old.len() - suffix, new.len() - suffix);

    // The first item is the one in whose line or behind which the edit starts; the line must still start it.
    let first = ports.partition_point(|port| (port.span.start as usize) < prefix).checked_sub(1)?;
    let start = item_start(old, &ports[first])?;
    if start >= prefix || prefix < ports[first].span.start as usize {
        return None;
    }
    // The first item that the edit leaves alone, line start and all, ends it; without one, the file does.
    let mut after = ports.partition_point(|port| (port.span.start as usize) < old_end);
    while after < ports.len() && item_start(old, &ports[after])? < old_end {
        after += 1;
    }
    let end = match ports.get(after) {
        Some(port) => item_start(old, port)?,
        None => old.len(),
    };
    let new_end = end - old_end + new_end;
    Some(Edit { ports: first..after, old: start..end, new: start..new_end })
}

/// Where the line of an item starts, if the item is the first thing on it: `  - {…}` or `  - name: …`.
fn item_start(text: &str, port: &Port) -> Option<usize> {
    let at = port.span.start as usize;
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let indicator = text[start..at].trim_start_matches(' ').strip_prefix('-')?;
    (!indicator.is_empty() && indicator.bytes().all(|byte| byte == b' ')).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Reader;

    const FLOW: &str = include_str!("../../examples/peering.yaml");
    const BLOCK_STYLE: &str = include_str!("../../examples/appliance.yaml");

    /// Whether a replacement is read alone. Either way the outcome is that of reading all.
    fn alone(base: &str, from: &str, to: &str) -> bool {
        assert!(base.contains(from));
        let edited = base.replacen(from, to, 1);
        let mut file = crate::load(base, "").unwrap().into_file();
        let alone = apply(&base, &edited, &mut file);
        let whole = Reader::new(&edited).document::<File>().0;
        assert!(!alone || whole.is_some_and(|whole| whole == file), "spans and all");
        alone
    }

    #[test]
    fn edits_of_ports_are_read_alone() {
        assert!(alone(FLOW, "subnet: prod-a, node: hv1", "subnet: prod-a, node: hv2"));
        assert!(alone(FLOW, "name: tool-1", "name: tool-one"));
        assert!(alone(FLOW, "name: app-1", "name: app-one"));
        assert!(alone(FLOW, "  - {name: tool-1", "  # new\n\n  - {name: tool-1"));
        assert!(alone(BLOCK_STYLE, "[10.0.1.20]", "[10.0.1.20, 10.0.1.21]"));
        let more = "10.0.1.10]}\n  - {name: new, subnet: test-a, node: hv2, device: tap-new, mac: \"02:00:00:01:00:0b\", private_ips: [10.0.1.11]}\n";
        let last = "private_ips: [10.0.1.10]}\n";
        let (before, _) = FLOW.rsplit_once(last).unwrap();
        let mut file = crate::load(FLOW, "").unwrap().into_file();
        let edited = format!("{before}private_ips: [{more}");
        assert!(apply(&FLOW, &edited, &mut file), "a port behind the last one");
        assert_eq!(file.ports.len(), 4);
    }

    #[test]
    fn other_edits_are_not() {
        assert!(!alone(FLOW, "vni: 5001", "vni: 5009"));
        assert!(!alone(FLOW, "ports:\n", "ports: # all of them\n"));
        assert!(!alone(FLOW, "  - {name: app-1", "    - {name: app-1"));
        assert!(!alone(FLOW, "private_ips: [10.1.1.10]}", "private_ips: [10.1.1.10]"));
        assert!(!alone(FLOW, "private_ips: [10.1.1.10]}", "private_ips: [10.1.1.10]}\nnodes: []"));
        assert!(!alone(FLOW, "private_ips: [10.1.1.10]}", "private_ips: [10.1.1.10]}\r# "));
    }
}
