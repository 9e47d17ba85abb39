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
        ("tcx", "port") => programs::PORT,
        ("tcx", "tunnel") => programs::TUNNEL,
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
