//! The kernel's build of the packet code: the loaded object, run on packets that are made up.

mod namespace;
mod wire;

pub use namespace::inside;

use crate::{
    case::{Bucket, Hook, Led, Offload},
    fabric::{Devices, Fabric},
    outcome::{Class, Counts, FlowKey, Outcome, Seen, Sessions, SlotCounts, timeless},
    runner::{Arrival, Runner},
    state::State,
};
use anyhow::{Context, Result, bail};
use bytemuck::Pod;
use std::{collections::BTreeMap, net::IpAddr, os::fd::BorrowedFd};
use vpc_bpf::{
    Filters, Hook as Attachment, Link, Loaded, Loader, PerCpuTable, Sizes, Table, TestRun, has_tcx, kernel_release,
    test_run,
};
use vpc_common::{
    Ip,
    counters::{Counters, Drops},
    datagram::{Datagram, Share},
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    gateway::{Gateways, Outlet, element},
    locate::LocateBucket,
    maps::{self, programs},
    nat::{ElasticKey, External, ExternalPort, Forward, NatIn, NatOut, NatOutKey, NatSlice},
    node::Node,
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, PortBuckets, SourceKey, Usage},
    route::{Route, RouteKey},
    session::{Session, SessionKey, TICK_SHIFT, V4, V6},
    vtep::{Vtep, VtepId},
};
use vpc_datapath::family::{Address, Family};
use wire::Wire;

/// Slots of the maps: more than any case has ports.
const SLOTS: u32 = 31;
/// More VPCs than any case has: their numbers begin at 0.
const VPC_NUMBERS: u32 = 16;
/// Environment variable for slow machines: milliseconds after which a frame that has not moved any counter is taken to
/// have arrived. 1 where it is not set.
const STILLNESS: &str = "VPC_CASES_STILLNESS_MS";
/// A nanosecond that is far in the future: a bucket filled then earns no tokens.
const NEVER: u64 = u64::MAX / 2;

/// Loads the programs for [`Kernel::new`]: once for many of those, since it takes the verifier seconds.
///
/// # Errors
/// The kernel refuses them.
pub fn load() -> Result<Loaded> {
    Loader::new(sizes()).load().context("load the kernel programs")
}

/// The loaded programs and their maps, in a network namespace with the interfaces of a fabric.
pub struct Kernel<'l> {
    loaded: &'l Loaded,
    devices: Devices,
    wires: BTreeMap<u32, Wire>,
    uplink: u32,
    uplinks: Vec<u32>,
    counters: PerCpuTable<Counters>,
    drops: PerCpuTable<Drops>,
    /// Milliseconds for which counters stand still once a frame has gone its whole way.
    stillness: u32,
    _links: Vec<Link>,
}

const fn sizes() -> Sizes {
    Sizes {
        local_ports: SLOTS,
        endpoints: 1_024,
        routes: 1_024,
        sessions: 1_024,
        nat_mappings: 1_024,
        sources: 1_024,
        flood_members: 1_024,
        subjects: 1_024,
        identities: 1_024,
        rules: 1_024,
    }
}

/// Attaches a program to an interface's TC ingress. Before Linux 6.6 by a filter, which ends with the interface.
fn attach(program: BorrowedFd<'_>, index: u32) -> Result<Option<Link>> {
    let attached = match has_tcx() {
        Ok(false) => Filters::open().and_then(|filters| filters.attach(index, "case", program)).map(|()| None),
        Ok(true) => Link::attach(program, index, Attachment::TcxIngress).map(Some),
        Err(error) => Err(error),
    };
    attached.with_context(|| format!("attach a program to interface {index}"))
}

impl<'l> Kernel<'l> {
    /// Makes the interfaces and attaches the programs. The calling thread is in a namespace of its own: see [`inside`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new(fabric: &Fabric, loaded: &'l Loaded) -> Result<Self> {
        let devices = namespace::make(fabric)?;
        let mut wires = BTreeMap::new();
        for (name, index) in &devices.0 {
            wires.insert(*index, Wire::open(&namespace::peer_of(*index), name)?);
        }
        let mut links = Vec::new();
        let mut uplinks = Vec::new();
        for uplink in fabric.uplinks() {
            let index = devices.index(uplink)?;
            links.extend(attach(loaded.program_fd(programs::UPLINK_TC)?, index)?);
            uplinks.push(index);
        }
        let tunnel = nix::net::if_::if_nametoindex(namespace::TUNNEL).context("find the tunnel device")?;
        let ports = devices.0.values().filter(|index| !uplinks.contains(index)).map(|index| (*index, programs::PORT));
        let offload = nix::net::if_::if_nametoindex(namespace::OFFLOAD_END).context("find the offload device")?;
        for (index, program) in ports.chain([(tunnel, programs::TUNNEL), (offload, programs::OFFLOAD)]) {
            links.extend(attach(loaded.program_fd(program)?, index)?);
        }
        let (counters, drops) = (loaded.per_cpu(maps::COUNTERS)?, loaded.per_cpu(maps::DROPS)?);
        let uplink = *uplinks.first().context("the node has no uplink")?;
        let stillness = std::env::var(STILLNESS).map_or(Ok(1), |text| text.parse()).context(STILLNESS)?;
        Ok(Self { loaded, devices, wires, uplink, uplinks, counters, drops, stillness, _links: links })
    }

    /// The interfaces.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Makes a hash or trie hold exactly those entries.
    fn replace<K: Pod + PartialEq, V: Pod>(&self, name: &str, entries: impl Iterator<Item = (K, V)>) -> Result<()> {
        let table: Table<K, V> = self.loaded.table(name)?;
        for (key, _) in table.entries()? {
            table.delete(&key)?;
        }
        for (key, value) in entries {
            table.set(&key, &value)?;
        }
        Ok(())
    }

    /// Writes every element of an array.
    fn fill<V: Pod>(&self, name: &str, elements: impl Iterator<Item = (u32, V)>) -> Result<()> {
        let table: Table<u32, V> = self.loaded.table(name)?;
        Ok(table.set_all(&elements.collect::<Vec<_>>())?)
    }

    fn forget<A: Address>(&self, name: &str) -> Result<()>
    where
        SessionKey<A>: Pod,
    {
        let table: Table<SessionKey<A>, Session> = self.loaded.table(name)?;
        for (key, _) in table.entries()? {
            table.delete(&key)?;
        }
        Ok(())
    }

    fn sessions_of<A: Address>(&self, name: &str, into: &mut Sessions) -> Result<()>
    where
        SessionKey<A>: Pod,
    {
        let table: Table<SessionKey<A>, Session> = self.loaded.table(name)?;
        into.extend(table.entries()?.iter().map(|(key, session)| {
            let key = FlowKey {
                slot: key.slot,
                protocol: key.protocol,
                local: A::Family::ip(key.local),
                local_port: key.local_port,
                remote: A::Family::ip(key.remote),
                remote_port: key.remote_port,
            };
            (key, timeless(session))
        }));
        Ok(())
    }

    fn test_run(&self, program: &str, arrival: &Arrival<'_>) -> Result<Outcome> {
        let skb = program != programs::UPLINK_XDP && program != programs::PORT_XDP;
        let context = if skb { wire::skb_context(arrival, self.uplink) } else { wire::xdp_context(arrival) };
        let run = TestRun { data: arrival.bytes, context: &context, ..TestRun::default() };
        let result = test_run(self.loaded.program_fd(program)?, &run)
            .with_context(|| format!("run {program} on {} bytes", arrival.bytes.len()))?;
        let class = match (skb, result.verdict) {
            // TC_ACT_UNSPEC: on to the next program, and at last to the host.
            (true, u32::MAX) | (false, 2) => Class::Passed,
            (true, 2) | (false, 1) => Class::Ended,
            (true, 7) | (false, 4) => Class::Redirected,
            (_, other) => bail!("{program} returned {other}"),
        };
        let packet = (class != Class::Ended).then_some(result.data);
        Ok(Outcome { verdict: Seen::Class(class), packet, copies: self.collect(arrival.copies)? })
    }

    /// Sends the packet over a real wire and sees what comes out at the interfaces.
    fn real(&self, wire: u32, arrival: &Arrival<'_>) -> Result<Outcome> {
        let before = self.counts()?;
        let wire = self.wires.get(&wire).context("every interface has a wire")?;
        match arrival.offload {
            Offload::None => wire.send(arrival.bytes)?,
            Offload::Transmit => wire.send_offloaded(arrival.bytes, arrival.gso_size as u16)?,
        }
        let moved = self.counts_after(&before)?.since(&before);
        let directions: Vec<_> = moved.values().flat_map(|delta| [&delta.egress, &delta.ingress]).collect();
        let sent = directions.iter().any(|delta| delta.forwarded + delta.answered > 0);
        // A frame that was redirected comes out like a copy. Where copies are expected, it is taken for one.
        let redirected = sent && arrival.copies == 0;
        let mut copies = self.collect(if redirected { 1 } else { arrival.copies })?;
        let first = if redirected { copies.pop_first() } else { None };
        let packet = first.and_then(|(_, frames)| frames.into_iter().next());
        let class = match &packet {
            Some(_) => Class::Redirected,
            None if sent || directions.iter().any(|delta| delta.dropped > 0) => Class::Ended,
            None => Class::Passed,
        };
        Ok(Outcome { verdict: Seen::Class(class), packet, copies })
    }

    /// The counters once they have moved and stand still.
    fn counts_after(&self, before: &Counts) -> Result<Counts> {
        let (mut last, mut still) = (before.clone(), 0);
        for round in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let now = self.counts()?;
            still = if now == last { still + 1 } else { 0 };
            if still >= self.stillness && now != *before && round > 2 {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    fn collect(&self, expected: usize) -> Result<BTreeMap<u32, Vec<Vec<u8>>>> {
        let mut copies: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for round in 0..200 {
            for (index, wire) in &self.wires {
                let tunnel_only = self.uplinks.contains(index);
                let frames = wire.receive(if tunnel_only { wire::Wanted::Tunnel } else { wire::Wanted::All })?;
                if !frames.is_empty() {
                    copies.entry(*index).or_default().extend(frames);
                }
            }
            if copies.values().map(Vec::len).sum::<usize>() >= expected && round > 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_micros(if round == 0 { 50 } else { 1_000 }));
        }
        Ok(copies)
    }

    /// Changes every datagram of which fragments have come. Of the array, which has room for those of every VPC that there
    /// can be, only what a case can reach is read.
    fn each_datagram(&self, change: impl Fn(&mut Datagram)) -> Result<()> {
        let table: Table<u32, Datagram> = self.loaded.table(maps::DATAGRAMS)?;
        let shares = (0..=SLOTS as u16).map(Share::of_port).chain((0..VPC_NUMBERS).map(Share::of_vpc));
        for index in shares.flat_map(Share::elements) {
            if let Some(mut datagram) = table.get(&index)?
                && datagram.direction != 0
            {
                change(&mut datagram);
                table.set(&index, &datagram)?;
            }
        }
        Ok(())
    }

    /// Makes sessions older: the kernel's clock cannot be moved.
    fn age<A>(&self, name: &str, milliseconds: u64) -> Result<()>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let table: Table<SessionKey<A>, Session> = self.loaded.table(name)?;
        let ticks = (milliseconds * 1_000_000).div_ceil(1 << TICK_SHIFT) as u16;
        for (key, mut session) in table.entries()? {
            session.last_seen = session.last_seen.wrapping_sub(ticks);
            if session.way.is_local() {
                session.source_port = vpc_common::Be16::from_raw(session.source_port.raw().wrapping_sub(ticks));
            }
            table.set(&key, &session)?;
        }
        Ok(())
    }

    fn each_bucket(&self, change: impl Fn(u16, &mut PortBuckets)) -> Result<()> {
        let table: Table<u32, PortBuckets> = self.loaded.table(maps::PORT_BUCKETS)?;
        for slot in 0..=SLOTS {
            let mut buckets = table.get(&slot)?.unwrap_or_default();
            change(slot as u16, &mut buckets);
            table.set(&slot, &buckets)?;
        }
        Ok(())
    }
}

impl Runner for Kernel<'_> {
    fn start(&mut self, state: &State) -> Result<()> {
        self.change(state)?;
        self.forget::<V4>(maps::SESSIONS_V4)?;
        self.forget::<V6>(maps::SESSIONS_V6)?;
        self.replace::<ExternalPort, NatIn>(maps::NAT_IN, std::iter::empty())?;
        self.replace::<NatOutKey, NatOut>(maps::NAT_OUT, std::iter::empty())?;
        self.each_bucket(|_, buckets| *buckets = PortBuckets::default())?;
        self.each_datagram(|datagram| *datagram = Datagram::default())?;
        let (ports, vpcs) = (self.loaded.table(maps::PORT_USAGE)?, self.loaded.table(maps::VPC_USAGE)?);
        for slot in 0..=SLOTS {
            ports.set(&slot, &Usage::default())?;
            vpcs.set(&slot, &Usage::default())?;
            self.counters.set(slot, &Counters::default())?;
            self.drops.set(slot, &Drops([0; vpc_common::drop::DROP_REASONS]))?;
        }
        Ok(())
    }

    fn change(&mut self, state: &State) -> Result<()> {
        let port = |slot: u32| state.ports.get(&(slot as u16)).copied().unwrap_or_default();
        self.fill::<Node>(maps::NODE, [(0, state.node)].into_iter())?;
        self.fill::<LocateBucket>(maps::LOCATE, state.buckets())?;
        self.fill::<Port>(maps::PORTS, (0..=SLOTS).map(|slot| (slot, port(slot))))?;
        // The second word would be the descriptor of a program to run there.
        let devices: Table<u32, [u32; 2]> = self.loaded.table(maps::PORT_DEVICES)?;
        for slot in 0..=SLOTS {
            match state.devices.get(&(slot as u16)) {
                Some(index) => devices.set(&slot, &[*index, 0])?,
                None => {
                    devices.delete(&slot)?;
                }
            }
        }
        self.replace::<SourceKey, u32>(maps::SOURCES, state.sources.iter().copied())?;
        self.replace::<RouteKey, Route>(maps::ROUTES, state.routes.iter().copied())?;
        self.replace::<HostKey, Subject>(maps::HOSTS, state.hosts.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<SubjectKey, Subject>(maps::SUBJECTS, state.subjects.iter().copied())?;
        self.replace::<IdentityKey, Subject>(maps::IDENTITIES, state.identities.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<RuleKey, RuleVerdict>(maps::RULES, state.rules.iter().copied())?;
        self.replace::<EndpointKey, Endpoint>(maps::ENDPOINTS, state.endpoints.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<MacKey, MacEntry>(maps::MACS, state.macs.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<Ip, VtepId>(maps::VTEP_IDS, state.vtep_ids.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<FloodKey, FloodMember>(maps::FLOOD, state.flood.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<V4, External>(maps::EXTERNALS, state.externals.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<ElasticKey, V4>(maps::ELASTIC_IPS, state.elastic_ips.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<u32, NatSlice>(maps::NAT_GATEWAYS, state.slices.iter().map(|(k, v)| (*k, *v)))?;
        self.replace::<ExternalPort, Forward>(maps::FORWARDS, state.forwards.iter().map(|(k, v)| (*k, *v)))?;
        self.fill::<Gateways>(
            maps::GATEWAYS,
            [(element::FABRIC, state.gateways), (element::SEGMENT, state.segment)].into_iter(),
        )?;
        self.fill::<Outlet>(maps::OUTLET, [(0, state.outlet)].into_iter())?;
        let vteps: Table<u32, Vtep> = self.loaded.table(maps::VTEPS)?;
        for index in 0..64_u16 {
            let vtep = state.vteps.get(&index).copied().unwrap_or_else(bytemuck::Zeroable::zeroed);
            vteps.set(&index.into(), &vtep)?;
        }
        Ok(())
    }

    fn run(&mut self, arrival: &Arrival<'_>) -> Result<Outcome> {
        // What earlier packets left behind is no copy of this one.
        let _old = self.collect(0)?;
        match arrival.hook {
            Hook::Port => self.test_run(programs::PORT, arrival),
            Hook::PortXdp => self.test_run(programs::PORT_XDP, arrival),
            Hook::UplinkXdp => self.test_run(programs::UPLINK_XDP, arrival),
            Hook::UplinkTc => self.test_run(programs::UPLINK_TC, arrival),
            Hook::Offload => self.test_run(programs::OFFLOAD, arrival),
            Hook::External => self.test_run(programs::EXTERNAL, arrival),
            Hook::Tunnel => self.real(self.uplink, arrival),
            Hook::Wire => self.real(arrival.ifindex, arrival),
        }
    }

    fn wait(&mut self, milliseconds: u64) -> Result<()> {
        let back = milliseconds * 1_000_000;
        self.each_bucket(|_, buckets| {
            for bucket in [&mut buckets.icmp, &mut buckets.flood, &mut buckets.nat] {
                let filled = if bucket.filled_ns == NEVER { now() } else { bucket.filled_ns };
                bucket.filled_ns = filled.saturating_sub(back);
            }
        })?;
        self.age::<V4>(maps::SESSIONS_V4, milliseconds)?;
        self.age::<V6>(maps::SESSIONS_V6, milliseconds)?;
        self.each_datagram(|datagram| datagram.seen_ns = datagram.seen_ns.saturating_sub(back))
    }

    fn exhaust(&mut self, slot: u16, bucket: Bucket) -> Result<()> {
        self.each_bucket(|this, buckets| {
            if this == slot {
                let bucket = match bucket {
                    Bucket::Icmp => &mut buckets.icmp,
                    Bucket::Flood => &mut buckets.flood,
                    Bucket::Nat => &mut buckets.nat,
                };
                (bucket.tokens, bucket.filled_ns) = (0, NEVER);
            }
        })
    }

    fn map(&mut self, key: &ExternalPort, mapping: &NatIn, led: Led) -> Result<()> {
        self.loaded.table::<ExternalPort, NatIn>(maps::NAT_IN)?.set(key, mapping)?;
        if let Some((key, value)) = led.way_out(key, mapping) {
            self.loaded.table::<NatOutKey, NatOut>(maps::NAT_OUT)?.set(&key, &value)?;
        }
        Ok(())
    }

    fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for slot in 0..=SLOTS {
            let mut sum = SlotCounts::default();
            for (counters, drops) in self.counters.get(slot)?.iter().zip(self.drops.get(slot)?) {
                sum.add(counters, &drops);
            }
            counts.0.insert(slot as u16, sum);
        }
        Ok(counts)
    }

    fn sessions(&self) -> Result<Sessions> {
        let mut sessions = Sessions::new();
        self.sessions_of::<V4>(maps::SESSIONS_V4, &mut sessions)?;
        self.sessions_of::<V6>(maps::SESSIONS_V6, &mut sessions)?;
        Ok(sessions)
    }
}

/// Major and minor version of the running kernel.
///
/// # Errors
/// It is not called by numbers.
pub fn release() -> Result<(u32, u32)> {
    let text = kernel_release();
    let mut numbers = text.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("what kernel is {text}?"),
    }
}

/// The kernel's monotonic clock, ns.
fn now() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// The address as `ip` wants it, with the length of a host's prefix.
pub(crate) fn host_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
