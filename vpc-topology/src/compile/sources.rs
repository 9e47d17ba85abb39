//! Which addresses a port may send from, and be sent to.

use super::{DesiredPort, Scope, endpoints::has_link_local};
use crate::model::{Cidr, Port};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::{Be32, Ip, port::SourceKey};

/// The prefixes of all local ports.
pub(super) fn sources(scope: &Scope<'_>, ports: &BTreeMap<u16, DesiredPort>) -> Vec<(SourceKey, u32)> {
    let prefixes = prefixes(scope);
    let mut entries: Vec<_> = ports
        .iter()
        .flat_map(|(slot, port)| {
            let own = prefixes.get(port.name.as_str()).into_iter().flatten();
            own.map(|(prefix_len, address)| {
                (SourceKey { prefix_len: 32 + prefix_len, slot: Be32::new((*slot).into()), address: *address }, 0)
            })
        })
        .collect();
    entries.sort_unstable();
    entries
}

/// The number of prefixes of all local ports.
pub(super) fn count(scope: &Scope<'_>) -> usize {
    let workloads = scope.subnets.values().flatten().map(|port| match port.of(scope.file) {
        // Own addresses differ from each other: they need not be collected to be counted.
        port if port.few().allowed_address_pairs.is_empty() => {
            port.private_ips.len() + usize::from(has_link_local(port))
        }
        port => of_port(port).len(),
    });
    workloads.sum::<usize>() + routers(scope).map(|(_, prefixes)| prefixes.len()).sum::<usize>()
}

type Prefixes = BTreeSet<(u32, Ip)>;

fn prefixes<'t>(scope: &Scope<'t>) -> BTreeMap<std::borrow::Cow<'t, str>, Prefixes> {
    let workloads = scope.subnets.values().flatten().map(|port| {
        let port = port.of(scope.file);
        (std::borrow::Cow::Borrowed(&*port.name.value), of_port(port))
    });
    workloads.chain(routers(scope).map(|(name, prefixes)| (name.into(), prefixes))).collect()
}

/// A port's own addresses and its allowed address pairs.
fn of_port(port: &Port) -> Prefixes {
    let own = port.private_ips.iter().map(|address| Cidr::host(address.value.0));
    let pairs = port.few().allowed_address_pairs.iter().map(|pair| pair.value.0);
    let mut prefixes: Prefixes = own.chain(pairs).map(prefix).collect();
    if has_link_local(port) {
        prefixes.insert((u128::BITS, port.mac.value.0.link_local()));
    }
    prefixes
}

/// A router takes what the ports of its subnets may send.
fn routers(scope: &Scope<'_>) -> impl Iterator<Item = (String, Prefixes)> {
    scope.routers.values().filter_map(|router| {
        let name = format!("router/{}", router.subnets.first()?.of(scope.file).name.value);
        let blocks = router.subnets.iter().flat_map(|subnet| &subnet.of(scope.file).cidr_blocks);
        Some((name, blocks.map(|block| prefix(block.value)).collect()))
    })
}

fn prefix(block: Cidr) -> (u32, Ip) {
    let (address, prefix_len) = block.mapped();
    (prefix_len, address)
}
