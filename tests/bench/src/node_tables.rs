//! The product's maps as an agent would fill them on a node with one guest, so that its programs can run without one.

use crate::{abi::NOWHERE, flows::Family};
use anyhow::{Context, Result, anyhow};
use std::fmt::Write as _;
use vpc_bpf::{Loaded, Loader, Sizes};
use vpc_common::{
    Be16, Ip, Mac, Vni,
    counters::Counters,
    limits::{OVERHEAD_V4, VXLAN_PORT},
    locate::{LocateBucket, LocateEntry, LocateKey},
    maps,
    node::Node,
    port::{Port, flags},
    session::{Session, SessionKey, V4, V6},
    vtep::{NextHop, Vtep, VtepId},
    wire::{Ipv4, OuterV4, Udp, Vxlan, protocol},
};
use vpc_topology::{
    Limits, Slots, compile,
    compile::{Desired, DesiredPort},
    load,
};

/// Peers of the guest, on another node.
pub const PEERS: u8 = 250;
const NODE: &str = "hv1";
const MTU: u32 = 1_500;

/// The product's programs on a node with one guest, whose peers are all on another node in another subnet.
pub struct TestNode {
    /// Programs and maps.
    pub loaded: Loaded,
    record: Port,
    /// The guest's slot.
    pub slot: u16,
    /// The guest's MAC.
    pub mac: Mac,
    /// The guest's network.
    pub vni: Vni,
    /// The guest's VPC.
    pub vpc: Vni,
    /// The guest's route table.
    pub route_table: u32,
    /// This node's VTEP.
    pub vtep: Ip,
    /// The other node's VTEP.
    pub remote_vtep: Ip,
}

/// The guest's addresses.
pub const LOCAL: [&str; 2] = ["10.0.1.10", "fd00:1:0:1::10"];

/// Address of a peer, by number from 1 to [`PEERS`]: IPv4, then IPv6.
pub fn peer(number: u8) -> [String; 2] {
    [format!("10.0.2.{}", u16::from(number) + 1), format!("fd00:1:0:2::{:x}", u16::from(number) + 0x100)]
}

impl TestNode {
    /// Loads the programs and fills their maps, with room for so many sessions. The guest is behind interface `ifindex`;
    /// what goes to the other node is sent to an interface that does not exist.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn new(ifindex: u32, sessions: u32) -> Result<Self> {
        let desired = desired(&topology("")?)?;
        let (slot, port) = guest(&desired)?;
        let loaded = Loader::new(Sizes { sessions, ..Sizes::default() }).load()?;
        let remote = desired.vteps.first().context("a second node")?;
        // Both families' tables are filled at once, which is more than a port may have.
        let record = Port {
            epoch: 1,
            ifindex,
            mtu: MTU,
            flags: port.record.flags | flags::XDP_DELIVERY,
            session_quota: u32::MAX,
            vpc_quota: u32::MAX,
            ..port.record
        };
        loaded.table::<u32, Port>(maps::PORTS)?.set(&u32::from(slot), &record)?;
        loaded.table::<u32, [u32; 2]>(maps::PORT_DEVICES)?.set(&u32::from(slot), &[ifindex, 0])?;
        let node = Node {
            vtep: desired.node.vtep,
            flags: desired.node.flags,
            id: u32::from(desired.node.id),
            ..Node::default()
        };
        loaded.table::<u32, Node>(maps::NODE)?.set(&0, &node)?;
        loaded.table(maps::ENDPOINTS)?.set_all(&desired.endpoints)?;
        loaded.table(maps::MACS)?.set_all(&desired.macs)?;
        loaded.table(maps::ROUTES)?.set_all(&desired.routes)?;
        loaded.table(maps::SOURCES)?.set_all(&desired.sources)?;
        loaded.table(maps::FLOOD)?.set_all(&desired.flood)?;
        loaded.table(maps::HOSTS)?.set_all(&desired.hosts)?;
        loaded.table(maps::SUBJECTS)?.set_all(&desired.subjects)?;
        loaded.table(maps::IDENTITIES)?.set_all(&desired.identities)?;
        loaded.table(maps::RULES)?.set_all(&desired.rules)?;
        loaded.table(maps::VTEP_IDS)?.set(&remote.address, &VtepId { node: u32::from(remote.id) })?;
        let vtep = vtep(desired.node.vtep, remote.address);
        loaded.table::<u32, Vtep>(maps::VTEPS)?.set(&u32::from(remote.id), &vtep)?;
        for key in [LocateKey::interface(ifindex), LocateKey::endpoint(record.l2_vni, record.mac)] {
            locate(&loaded, key, slot)?;
        }
        Ok(Self {
            loaded,
            slot,
            mac: record.mac,
            vni: record.l2_vni,
            vpc: record.vpc,
            route_table: record.route_table,
            vtep: desired.node.vtep,
            remote_vtep: remote.address,
            record,
        })
    }

    /// Writes a security group of so many rules, each way, beside those that are there. The peers are allowed: by one rule of at
    /// most 250, else each by its own. Returns the guest as a member, or, of no rules, as a member of no group.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn member(&self, rules: usize) -> Result<Port> {
        let group = if rules == 0 { String::new() } else { security_group(rules)? };
        let desired = desired(&topology(&group)?)?;
        let (_, port) = guest(&desired)?;
        self.loaded.table(maps::HOSTS)?.set_all(&desired.hosts)?;
        self.loaded.table(maps::SUBJECTS)?.set_all(&desired.subjects)?;
        self.loaded.table(maps::IDENTITIES)?.set_all(&desired.identities)?;
        self.loaded.table(maps::RULES)?.set_all(&desired.rules)?;
        let (ingress_rules, egress_rules) = (port.record.ingress_rules, port.record.egress_rules);
        Ok(Port { ingress_rules, egress_rules, ..self.record })
    }

    /// Puts this guest in the place of the one that was there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn replace_guest(&self, guest: &Port) -> Result<()> {
        Ok(self.loaded.table::<u32, Port>(maps::PORTS)?.set(&u32::from(self.slot), guest)?)
    }

    /// Removes all sessions of a family.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_sessions(&self, family: Family) -> Result<()> {
        match family {
            Family::V4 => self.forget::<V4>(maps::SESSIONS_V4),
            Family::V6 => self.forget::<V6>(maps::SESSIONS_V6),
        }
    }

    fn forget<A>(&self, name: &str) -> Result<()>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        Ok(self.loaded.table::<SessionKey<A>, Session>(name)?.delete_all(&self.session_keys(name)?)?)
    }

    fn session_keys<A>(&self, name: &str) -> Result<Vec<SessionKey<A>>>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let mut all = Vec::new();
        self.loaded.table::<SessionKey<A>, Session>(name)?.for_each_batch(|keys, _| all.extend_from_slice(keys))?;
        Ok(all)
    }

    /// How many sessions there are in a family's table.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn sessions(&self, family: Family) -> Result<usize> {
        Ok(match family {
            Family::V4 => self.session_keys::<V4>(maps::SESSIONS_V4)?.len(),
            Family::V6 => self.session_keys::<V6>(maps::SESSIONS_V6)?.len(),
        })
    }

    /// The guest's counters, over all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Counters> {
        let per_cpu = self.loaded.per_cpu::<Counters>(maps::COUNTERS)?.get(u32::from(self.slot))?;
        Ok(per_cpu.iter().fold(Counters::default(), |mut sum, one| {
            sum.egress.forwarded += one.egress.forwarded;
            sum.egress.dropped += one.egress.dropped;
            sum.ingress.forwarded += one.ingress.forwarded;
            sum.ingress.dropped += one.ingress.dropped;
            sum
        }))
    }
}

fn guest(desired: &Desired) -> Result<(u16, &DesiredPort)> {
    desired.ports.iter().find(|(_, port)| port.name == "guest").map(|(slot, port)| (*slot, port)).context("the guest")
}

fn desired(text: &str) -> Result<Desired> {
    let topology = load(text, "bench.yaml").map_err(|problems| anyhow!("{problems}"))?;
    Ok(compile(&topology, NODE, &Slots::new(), &Limits::default())?)
}

/// A group `bench` of so many rules in each direction.
fn security_group(rules: usize) -> Result<String> {
    let mut list = String::new();
    let own = if rules > usize::from(PEERS) { usize::from(PEERS) } else { 1 };
    if own == 1 {
        list.push_str("{protocol: udp, cidr_blocks: [10.0.2.0/24, \"fd00:1:0:2::/64\"]}");
    } else {
        for number in 1..=PEERS {
            let [v4, v6] = peer(number);
            write!(list, "{{protocol: udp, cidr_blocks: [{v4}/32, \"{v6}/128\"]}}, ")?;
        }
    }
    for number in own..rules {
        let port = 1 + number % 60_000;
        write!(
            list,
            ", {{protocol: tcp, ports: [{port}], cidr_blocks: [172.{}.{}.0/24]}}",
            16 + number / 256,
            number % 256
        )?;
    }
    let list = list.replace(", , ", ", ");
    Ok(format!("security_groups:\n  - {{name: bench, vpc: prod, ingress: [{list}], egress: [{list}]}}\n"))
}

/// The topology; the guest is in the group `bench` of `groups`, where there is one.
fn topology(groups: &str) -> Result<String> {
    let mut text = String::from(
        "version: 1\n\
         nodes:\n\
         \x20 - {name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1}\n\
         \x20 - {name: hv2, id: 2, vtep: 192.0.2.12, uplink: eth1}\n\
         vpcs:\n\
         \x20 - {name: prod, vni: 5001, cidr_blocks: [10.0.0.0/8, \"fd00:1::/56\"]}\n\
         subnets:\n\
         \x20 - {name: near, vpc: prod, cidr_blocks: [10.0.1.0/24, \"fd00:1:0:1::/64\"]}\n\
         \x20 - {name: far, vpc: prod, cidr_blocks: [10.0.2.0/24, \"fd00:1:0:2::/64\"]}\n",
    );
    text.push_str(groups);
    text.push_str("ports:\n");
    let member = if groups.is_empty() { "" } else { ", security_groups: [bench]" };
    let [v4, v6] = LOCAL;
    writeln!(
        text,
        "  - {{name: guest, subnet: near, node: hv1, device: tap-guest, mac: \"02:00:00:00:01:10\", \
         private_ips: [{v4}, \"{v6}\"]{member}}}"
    )?;
    for number in 1..=PEERS {
        let [v4, v6] = peer(number);
        writeln!(
            text,
            "  - {{name: peer-{number}, subnet: far, node: hv2, device: tap-{number}, \
             mac: \"02:00:00:00:02:{number:02x}\", private_ips: [{v4}, \"{v6}\"]}}"
        )?;
    }
    Ok(text)
}

/// The other node, over IPv4.
fn vtep(own: Ip, address: Ip) -> Vtep {
    let ip = Ipv4 {
        version_ihl: 0x45,
        fragment: Be16::new(Ipv4::DF),
        ttl: 64,
        protocol: protocol::UDP,
        source: own.low(),
        destination: address.low(),
        ..Ipv4::default()
    };
    let udp = Udp { destination: Be16::new(VXLAN_PORT), ..Udp::default() };
    let outer = OuterV4 { ip, udp, vxlan: Vxlan { flags: Vxlan::I, ..Vxlan::default() } };
    let mut header = [0; 56];
    header[..size_of::<OuterV4>()].copy_from_slice(bytemuck::bytes_of(&outer));
    let next_hop =
        NextHop { ifindex: NOWHERE, destination: Mac::new([2, 0, 0, 0, 0, 2]), source: Mac::new([2, 0, 0, 0, 0, 1]) };
    Vtep {
        mtu: MTU as u16,
        overhead: OVERHEAD_V4 as u16,
        next_hop_count: 1,
        tos_mask: 0xff,
        header,
        next_hops: [next_hop; 4],
        address,
        reserved2: [0; 12],
    }
}

fn locate(loaded: &Loaded, key: LocateKey, slot: u16) -> Result<()> {
    let table = loaded.table::<u32, LocateBucket>(maps::LOCATE)?;
    let [index, _] = key.buckets();
    let mut bucket = table.get(&index)?.context("a bucket")?;
    let free = bucket.0.iter_mut().find(|entry| entry.slot == 0).context("a free way of a bucket")?;
    *free = LocateEntry::new(key, slot);
    Ok(table.set(&index, &bucket)?)
}
