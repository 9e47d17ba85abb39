//! The same rules for everybody: the one that allows the traffic comes last.

use std::fmt::Write as _;

/// What guests may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Everything; nothing is tracked where that can be chosen.
    None,
    /// So many rules, in both directions.
    Some(usize),
}

/// How nftables is given them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One by one.
    List,
    /// Address and port in a hashed set, of which the last rule is not.
    Set,
}

/// A rule that does not match: address and port.
fn other(number: usize) -> (String, usize) {
    let [_, high, middle, low] = (number as u32).to_be_bytes();
    (format!("10.{}.{middle}.{low}", 200 + u32::from(high)), 1_000 + number % 50_000)
}

/// The rules of a security group of ours: a list in YAML.
pub fn of_group(count: usize) -> String {
    let mut text = String::from("[");
    for number in 0..count - 1 {
        let (address, port) = other(number);
        let _always = write!(text, "{{protocol: udp, ports: [{port}], cidr_blocks: [{address}/32]}}, ");
    }
    text + "{protocol: all, cidr_blocks: [10.0.0.0/16, 198.51.100.0/24]}]"
}

/// A ruleset for `nft -f`: connection tracking, these rules for new connections in the forward hook, and `more` chains.
pub fn of_nftables(count: usize, form: Form, more: &str) -> String {
    let mut text = String::from("flush ruleset\ntable inet filter {\n");
    if form == Form::Set {
        text += "set others { type ipv4_addr . inet_service; elements = { ";
        for number in 0..count - 1 {
            let (address, port) = other(number);
            let _always = write!(text, "{address} . {port}, ");
        }
        text += "} }\n";
    }
    text += "chain forward { type filter hook forward priority 0; policy drop;\n\
             ct state established,related accept\nct state invalid drop\n";
    match form {
        Form::List => {
            for number in 0..count - 1 {
                let (address, port) = other(number);
                let _always = writeln!(text, "ip saddr {address} udp dport {port} accept");
            }
        }
        Form::Set => text += "ip saddr . udp dport @others accept\n",
    }
    text + "ip saddr 10.0.0.0/16 accept\n}\n" + more + "}\n"
}

/// The same rules as flows of an OpenFlow table, for new connections; what they allow goes on by `then`.
pub fn of_open_flow(count: usize, table: u8, then: &str) -> String {
    let mut text = String::new();
    for number in 0..count - 1 {
        let (address, port) = other(number);
        let priority = 1 + count - number;
        let _always =
            writeln!(text, "table={table},priority={priority},udp,nw_src={address},tp_dst={port},actions={then}");
    }
    text + &format!("table={table},priority=1,ip,nw_src=10.0.0.0/16,actions={then}\n")
}

#[cfg(test)]
mod tests {
    use super::{Form, of_group, of_nftables, of_open_flow};

    #[test]
    fn there_are_as_many_rules_as_asked_for() {
        assert_eq!(of_group(20).matches("protocol").count(), 20);
        assert_eq!(of_nftables(20, Form::List, "").matches(" accept\n").count(), 21, "and one for what stands");
        let set = of_nftables(20, Form::Set, "");
        assert_eq!((set.matches(" . 10").count(), set.matches(" accept\n").count()), (19, 3));
        assert_eq!(of_open_flow(20, 1, "drop").lines().count(), 20);
    }
}
