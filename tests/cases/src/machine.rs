//! What an agent finds on its machine, as a case file states it.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The machine. What is left out is ordinary: one uplink, every port up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machine {
    /// MTU of the underlay, bytes.
    pub underlay_mtu: u16,
    /// Uplinks by which a node is reached; the first one of the topology unless given, none for an unreachable node.
    pub next_hops: BTreeMap<String, Vec<String>>,
    /// MTU of ports; [`Machine::PORT_MTU`] unless given.
    pub port_mtu: BTreeMap<String, u32>,
    /// Ports without an interface.
    pub down: BTreeSet<String>,
    /// Ports whose interface has no carrier.
    pub no_carrier: BTreeSet<String>,
    /// Ports into which XDP must not redirect.
    pub tc_delivery: BTreeSet<String>,
    /// MTU of the external interface.
    pub external_mtu: u32,
    /// Whether the external interface has lost its next hop.
    pub outside_lost: bool,
    /// Whether there is no offload device.
    pub no_offload: bool,
    /// Gateways that cannot be reached now.
    pub dead_gateways: BTreeSet<String>,
    /// Interfaces that belong to no port at first.
    pub spare_devices: Vec<String>,
}

impl Machine {
    /// MTU of a port.
    pub const PORT_MTU: u32 = 1_500;
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            underlay_mtu: 1_500,
            next_hops: BTreeMap::new(),
            port_mtu: BTreeMap::new(),
            down: BTreeSet::new(),
            no_carrier: BTreeSet::new(),
            tc_delivery: BTreeSet::new(),
            external_mtu: 1_500,
            outside_lost: false,
            no_offload: false,
            dead_gateways: BTreeSet::new(),
            spare_devices: Vec::new(),
        }
    }
}
