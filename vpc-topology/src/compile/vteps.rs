//! The nodes of the fabric.

use super::{DesiredNode, DesiredVtep, ReceiveMode, Scope};
use crate::model::{self, Dscp};
use vpc_common::node::flags;

/// What the topology says of the node itself.
pub(super) fn this(scope: &Scope<'_>) -> DesiredNode {
    let node = scope.node.of(scope.file);
    DesiredNode {
        name: node.name.to_string(),
        id: node.id.value.0,
        vtep: node.vtep.value.0.into(),
        flags: match node.dscp.map(|dscp| dscp.value).unwrap_or_default() {
            Dscp::Uniform => flags::DSCP_UNIFORM,
            Dscp::Pipe => 0,
        },
        uplinks: node.uplink.iter().map(|uplink| uplink.to_string()).collect(),
        receive_mode: match node.receive_mode.map(|mode| mode.value).unwrap_or_default() {
            model::ReceiveMode::Auto => ReceiveMode::Auto,
            model::ReceiveMode::Xdp => ReceiveMode::Xdp,
            model::ReceiveMode::Tc => ReceiveMode::Tc,
        },
    }
}

/// All other nodes, by id.
pub(super) fn others(scope: &Scope<'_>) -> Vec<DesiredVtep> {
    let own_id = scope.node.of(scope.file).id.value;
    let others = scope.file.nodes.iter().filter(|node| node.id.value != own_id);
    let mut vteps: Vec<_> = others
        .map(|node| DesiredVtep { id: node.id.value.0, name: node.name.to_string(), address: node.vtep.value.0.into() })
        .collect();
    vteps.sort_unstable_by_key(|vtep| vtep.id);
    vteps
}
