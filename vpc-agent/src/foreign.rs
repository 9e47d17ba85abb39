//! TC programs of others on the interfaces that carry ours.
//!
//! When ours is attached it goes to the head of the list, and those of others stay where they are. Someone may put one
//! before it later: that sees frames before the policy does, and may take them away, which an operator must be able to
//! see. It is left in place.

use crate::{
    control::report::{Attachment, ForeignProgram},
    datapath::Datapath,
};
use vpc_bpf::{program_info_by_id, tcx_ingress_programs};
use vpc_common::maps::programs;

/// The programs of others that run before ours on an interface, in their order.
pub(crate) fn before(datapath: &Datapath, row: &Attachment) -> Vec<ForeignProgram> {
    let program = match (row.mode.as_str(), row.role.as_str()) {
        ("clsact", _) => return before_filter(datapath, row.ifindex),
        ("tcx", "port") => programs::PORT,
        ("tcx", "tunnel") => programs::TUNNEL,
        ("tcx", "offload") => programs::OFFLOAD,
        ("tcx", "external") => programs::EXTERNAL,
        ("tcx", _) => programs::UPLINK_TC,
        _ => return Vec::new(),
    };
    // An earlier agent's program that is the same as ours was left attached, under another id.
    let Ok(ours) = datapath.program_info(program) else { return Vec::new() };
    // The interface, or one of the programs, may be gone by now.
    let attached = tcx_ingress_programs(row.ifindex).unwrap_or_default();
    let attached = attached.into_iter().filter_map(|id| program_info_by_id(id).ok());
    let before = attached.take_while(|program| program.tag != ours.tag);
    before.map(|program| ForeignProgram { id: program.id, name: program.name }).collect()
}

/// The same where ours is a filter: those of TCX run before all filters.
fn before_filter(datapath: &Datapath, ifindex: u32) -> Vec<ForeignProgram> {
    // None before Linux 6.6.
    let by_tcx = tcx_ingress_programs(ifindex).unwrap_or_default();
    let by_tcx = by_tcx.into_iter().filter_map(|id| program_info_by_id(id).ok());
    let filters = datapath.attachments.filters_before(ifindex).unwrap_or_default();
    let filters = filters.into_iter().map(|filter| ForeignProgram { id: filter.program, name: filter.name });
    by_tcx.map(|program| ForeignProgram { id: program.id, name: program.name }).chain(filters).collect()
}

/// What an operator reads of it.
pub(crate) fn describe(row: &Attachment) -> Option<String> {
    let names: Vec<_> = row.before.iter().map(|program| format!("`{}` (id {})", program.name, program.id)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} {}: TC programs of others run before ours on {}: {}",
            row.role,
            row.name,
            row.device,
            names.join(", ")
        )
    })
}
