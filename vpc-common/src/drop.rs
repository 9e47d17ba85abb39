//! Why a packet was dropped. The one list that the datapath, the CLI, the metrics and the documentation share.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a packet was dropped: number, name and meaning. Numbers are never reused.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        pub enum DropReason { $($(#[doc = $doc])+ $name = $number,)+ }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name, as counters, logs and tests show it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
            /// One sentence for the operator.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+),)+ }
            }
            /// The reason of that number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than the headers that it announces.
    Truncated = 1, "truncated";
    /// The interface belongs to no port of the running topology.
    UnknownPort = 2, "unknown_port";
    /// The source MAC is not the port's own.
    SourceMac = 3, "source_mac";
    /// The source IPv4 or IPv6 address is neither the port's own nor in its allowed address pairs.
    SourceAddress = 4, "source_address";
    /// The destination address is not the port's and the port does not route for others.
    DestinationAddress = 5, "destination_address";
    /// The frame carries a VLAN tag and the port is no trunk.
    Vlan = 6, "vlan";
    /// The EtherType is neither IP nor ARP and the port does not allow other protocols.
    EtherType = 7, "ether_type";
    /// An ARP packet whose sender is not the port's MAC and address, or that claims the gateway's address.
    ArpSpoof = 8, "arp_spoof";
    /// A malformed ARP packet.
    ArpMalformed = 9, "arp_malformed";
    /// A neighbour discovery message that breaks RFC 4861: hop limit not 255, checksum, length, options, fragment.
    NdMalformed = 10, "nd_malformed";
    /// A neighbour discovery message whose target or link-layer address is not the port's own.
    NdSpoof = 11, "nd_spoof";
    /// A router advertisement or redirect from a guest (RFC 7113).
    RaGuard = 12, "ra_guard";
    /// A DHCP server's message from a guest.
    DhcpServer = 13, "dhcp_server";
    /// An IP header with a bad version, length or header chain.
    IpHeader = 14, "ip_header";
    /// An IPv4 header whose checksum is wrong.
    IpChecksum = 15, "ip_checksum";
    /// IPv4 options or an IPv6 routing header.
    IpOptions = 16, "ip_options";
    /// A source or destination that must never be on a wire (RFC 1812 §5.3.7), or that is not unicast where it must be.
    Martian = 17, "martian";
    /// TTL or hop limit zero on arrival, or expired where no answer may be sent.
    TtlExpired = 18, "ttl_expired";
    /// No route, or no endpoint at that address, and no answer may be sent.
    Unreachable = 19, "unreachable";
    /// The route is a blackhole.
    Blackhole = 20, "blackhole";
    /// Larger than the path allows and no answer may be sent.
    TooBig = 21, "too_big";
    /// An answer was due but the port's limit of generated ICMP was reached.
    IcmpRate = 22, "icmp_rate";
    /// A packet to the router's own address that is not an echo request.
    RouterService = 23, "router_service";
    /// No endpoint with that MAC in the subnet.
    UnknownMac = 24, "unknown_mac";
    /// The outer header breaks RFC 7348: the I flag is not set.
    VxlanFlags = 25, "vxlan_flags";
    /// The outer source is not a VTEP of the topology.
    UnknownVtep = 26, "unknown_vtep";
    /// The VNI is unknown, or has no port of that MAC on this node.
    UnknownVni = 27, "unknown_vni";
    /// The outer packet is a fragment.
    OuterFragment = 28, "outer_fragment";
    /// Outer congestion mark on an inner packet that does not understand it (RFC 6040 §4.2).
    EcnMark = 29, "ecn_mark";
    /// The outer header is malformed.
    OuterHeader = 30, "outer_header";
    /// No usable next hop in the underlay towards the VTEP.
    NoUnderlay = 31, "no_underlay";
    /// The port exists but has no interface on this node.
    PortDown = 32, "port_down";
    /// The kernel could not make room in the packet.
    NoRoom = 33, "no_room";
    /// A broadcast or multicast beyond the port's rate.
    FloodRate = 34, "flood_rate";
    /// A directed broadcast (RFC 2644).
    DirectedBroadcast = 35, "directed_broadcast";
    /// A fragment that RFC 1858, RFC 5722 or RFC 7112 forbids.
    BadFragment = 36, "bad_fragment";
    /// No security group or policy group allows the flow.
    SecurityGroup = 37, "security_group";
    /// A network ACL denies the packet.
    NetworkAcl = 38, "network_acl";
    /// A packet that belongs to no flow and cannot open one: TCP without SYN, an echo reply without request.
    NoSession = 39, "no_session";
    /// The port or its VPC has as many sessions, or half-open ones, as it may have.
    SessionQuota = 40, "session_quota";
    /// A fragment that came before its datagram's first one.
    EarlyFragment = 41, "early_fragment";
    /// To an internet gateway from an address that has no elastic IP.
    NoElasticIp = 42, "no_elastic_ip";
    /// The NAT gateway has no port left for the flow on this node.
    NatExhausted = 43, "nat_exhausted";
    /// From outside to an external address and port for which nobody stands.
    NoMapping = 44, "no_mapping";
    /// An external source address of which its sender is not the owner.
    ExternalSource = 45, "external_source";
    /// No gateway can be reached.
    NoGateway = 46, "no_gateway";
    /// A NAT gateway does not translate the protocol.
    NatProtocol = 47, "nat_protocol";
    /// A liveness probe (S-BFD) that breaks RFC 5880 or RFC 7880, or asks for what is not here.
    LivenessProbe = 48, "liveness_probe";
    /// To the outside, or from there, with an IPv6 address that is not global: unique local, link-local.
    NotGlobal = 49, "not_global";
    /// From outside, by an internet gateway that lets replies in only.
    EgressOnly = 50, "egress_only";
    /// The NAT gateway's egress allow list does not have the flow.
    EgressAllow = 51, "egress_allow";
    /// A frame on the offload device that no program of ours has sent there.
    OffloadStray = 52, "offload_stray";
    /// The flow goes by the offload device, which is gone: its next packet is decided anew.
    NoOffload = 53, "no_offload";
}

/// Room for counters of drop reasons: every number is below it.
pub const DROP_REASONS: usize = 64;

const _: () = {
    let mut i = 0;
    while i < DropReason::ALL.len() {
        assert!(DropReason::ALL[i] as usize == i + 1 && i + 1 < DROP_REASONS);
        i += 1;
    }
};
