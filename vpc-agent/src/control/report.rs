//! What the agent reports. Field names are stable: programs read them.

use serde::{Deserialize, Serialize};

/// `vpcctl status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// Where everything is pinned.
    pub pins: String,
    /// The topology in force.
    pub topology: TopologyStatus,
    /// What is wrong now; empty where all is well.
    pub problems: Vec<String>,
    /// Interfaces with programs.
    pub attachments: Vec<Attachment>,
    /// The other nodes.
    pub vteps: Vec<VtepRow>,
    /// The gateways; empty where nothing leads outside.
    #[serde(default)]
    pub gateways: Vec<GatewayRow>,
    /// Memory.
    pub maps: Vec<MapRow>,
}

/// Which topology is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopologyStatus {
    /// The file that is watched.
    pub file: String,
    /// `file`: what the file says; `last_good`: the file is bad, an older content is in force; `none`: nothing was
    /// ever good.
    pub state: String,
    /// How many topologies were put into force since the agent started.
    pub generation: u64,
    /// Every problem of the file, rendered; empty where it is good.
    pub errors: String,
}

/// An interface with a program, or that should have one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// `port`, `uplink`, `external`, `tunnel` or `offload`.
    pub role: String,
    /// Name of the port; the interface's own for the others.
    pub name: String,
    /// Name of the interface; empty for a port without one.
    pub device: String,
    /// Its index; 0 while it is not there.
    pub ifindex: u32,
    /// `tcx`, `clsact`, `xdp`, `absent` or `failed`.
    pub mode: String,
    /// Why so, and how frames are delivered.
    pub reason: String,
    /// MTU of the guest's end, or of the uplink.
    pub mtu: u32,
    /// TC programs of others that see frames before ours does.
    pub before: Vec<ForeignProgram>,
}

/// A program that the agent did not attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignProgram {
    /// Its id; 0 for a filter without one.
    pub id: u32,
    /// Its name, at most 15 bytes; that of the filter, or the filter's kind, where it hangs on one.
    pub name: String,
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VtepRow {
    /// Its name.
    pub node: String,
    /// Its id.
    pub id: u16,
    /// Its VTEP address.
    pub address: String,
    /// Largest inner packet, bytes; none where it cannot be reached.
    pub mtu: Option<u16>,
    /// Its ways.
    pub next_hops: Vec<NextHopRow>,
}

/// A gateway, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayRow {
    /// Its name.
    pub node: String,
    /// Its id.
    pub id: u16,
    /// `alive`, `returning`, `silent`, `out_of_service` or `unknown`; `this` for this node's own.
    pub state: String,
    /// Whether packets are sent to it.
    pub used: bool,
    /// How long it may be silent, milliseconds; 0 for this node's own.
    pub detection_ms: u64,
    /// Questions since the agent started.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
    /// How often it went out of use.
    pub failures: u64,
    /// From the last question to its answer, microseconds.
    pub round_trip_us: u64,
    /// On a gateway: external addresses on the same segment for which it speaks; none where they share no segment.
    pub speaks_for: Option<usize>,
}

/// One way to another node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NextHopRow {
    /// The uplink.
    pub uplink: String,
    /// The next hop's address.
    pub address: String,
    /// Its MAC; empty where it is not known.
    pub mac: String,
    /// `used`, `unresolved`, `link_down`, `not_ethernet` or `surplus`.
    pub state: String,
    /// Which part of the flows takes it, as `2/3`; empty where none does.
    pub share: String,
}

/// A map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MapRow {
    /// Its name.
    pub name: String,
    /// Most entries.
    pub max_entries: u32,
    /// Entries in use, where the agent keeps count.
    pub entries: Option<usize>,
    /// Bytes of kernel memory.
    pub bytes: u64,
}

/// `vpcctl get KIND`: rows of text under headings, and the same for programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Headings; also the fields' names for programs.
    pub columns: Vec<String>,
    /// Rows, one value per column.
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// `vpcctl drops`: counters of one port, or of the node where the port is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortDrops {
    /// Name of the port; `-` for what could not be attributed to one.
    pub port: String,
    /// Name of the reason.
    pub reason: String,
    /// Frames.
    pub packets: u64,
    /// One sentence.
    pub description: String,
}

/// `vpcctl sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Name of the port.
    pub port: String,
    /// Name of its VPC.
    pub vpc: String,
    /// `tcp`, `udp`, `icmp`, `icmp6` or the number.
    pub protocol: String,
    /// The guest's address and port.
    pub local: String,
    /// The peer's address and port.
    pub remote: String,
    /// The external address and port that stand for the guest's; empty where none do.
    pub external: String,
    /// What happens to what the guest sends.
    pub egress: String,
    /// Node that the peer's packets come from; empty where none came.
    pub ingress: String,
    /// `syn-sent`, `syn-received`, `established`, `closing`, `closed`; of what has no states `one-way`, `two-way`.
    pub state: String,
    /// `guest` or `peer`.
    pub opened_by: String,
    /// The rule that allowed it.
    pub rule: String,
    /// `current`, or `stale` where it will be decided again.
    pub decision: String,
    /// Seconds since the last packet.
    pub idle_seconds: u64,
    /// Frames that the guest sent; wraps at 2^32.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that the guest was sent; wraps at 2^32.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// `vpcctl sessions flush`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// How many sessions were removed.
    pub sessions: usize,
}

/// `vpcctl nat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatReport {
    /// The mappings of this node.
    pub mappings: Vec<NatRow>,
    /// What is used of this node's slice of each NAT gateway, by protocol.
    pub slices: Vec<NatSliceRow>,
}

/// A mapping: an external address and port that stand for a guest's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatRow {
    /// Name of the port; empty where it has moved to another node.
    pub port: String,
    /// Name of its VPC.
    pub vpc: String,
    /// Name of the NAT gateway.
    pub nat_gateway: String,
    /// `tcp`, `udp` or `icmp`, whose ports are the identifiers of queries.
    pub protocol: String,
    /// The guest's address and port.
    pub internal: String,
    /// The address and port that peers see.
    pub external: String,
    /// Sessions that use it; of one that has moved they are not known here.
    pub sessions: usize,
    /// The node to which the guest has moved with its state, which this node sends after it.
    pub moved_to: Option<String>,
    /// Seconds until its external port may be another's; none while a session uses it.
    pub expires_in_seconds: Option<u64>,
}

/// A slice: the ports of a NAT gateway's address that this node gives out, for one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSliceRow {
    /// Name of the NAT gateway.
    pub nat_gateway: String,
    /// Name of its VPC.
    pub vpc: String,
    /// The external address.
    pub address: String,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// First port of the slice.
    pub first_port: u16,
    /// Last port of the slice.
    pub last_port: u16,
    /// Ports with a mapping.
    pub used: usize,
    /// Ports that are port forwards, and so never given out.
    pub forwarded: usize,
    /// Ports that new mappings can have.
    pub available: usize,
}

/// `vpcctl plan -f`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// One line per change; empty where there is none.
    pub changes: Vec<String>,
    /// Writes to the maps that it would take.
    pub writes: usize,
}
