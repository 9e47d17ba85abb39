//! Two guests and one veth: what this machine can do at all.

use super::{CLIENT, GUEST_MTU, Generator, Path, SERVER, Wire};
use crate::flows::Macs;
use anyhow::{Context, Result};
use vpc_common::Mac;
use vpc_lab::{Lab, Netns};

const CLIENT_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x01, 0x10]);
const SERVER_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x02, 0x10]);

/// Two guests.
pub struct Bare {
    client: Netns,
    server: Netns,
}

impl Bare {
    /// The veth is the wire here.
    ///
    /// # Errors
    /// The kernel refuses something, or no ping arrives.
    pub fn new(lab: &Lab, wire: Wire) -> Result<Self> {
        let rig = Self { client: Netns::new(lab, "bare-client")?, server: Netns::new(lab, "bare-server")? };
        rig.client.ip(&format!(
            "link add eth0 address {CLIENT_MAC} mtu {GUEST_MTU} type veth peer name eth0 address {SERVER_MAC} mtu \
             {GUEST_MTU} netns {}",
            rig.server.name()
        ))?;
        for (netns, own, other, mac) in
            [(&rig.client, CLIENT, SERVER, SERVER_MAC), (&rig.server, SERVER, CLIENT, CLIENT_MAC)]
        {
            netns.ip_batch(&[
                "link set eth0 up".to_owned(),
                format!("addr add {own}/32 dev eth0"),
                format!("route add {other}/32 dev eth0"),
                format!("neigh replace {other} lladdr {mac} dev eth0 nud permanent"),
            ])?;
            netns.run(&format!("ethtool -K eth0 {}", wire.features()))?;
        }
        rig.client.run(&format!("ping -c 1 -W 2 {SERVER}")).context("a veth carries no ping")?;
        Ok(rig)
    }
}

impl Path for Bare {
    fn name(&self) -> &'static str {
        "bare veth"
    }
    fn client(&self) -> &Netns {
        &self.client
    }
    fn server(&self) -> &Netns {
        &self.server
    }
    fn macs(&self) -> Macs {
        Macs { destination: SERVER_MAC, source: CLIENT_MAC }
    }
    fn generator(&self, _state: Generator) -> Result<()> {
        // GRO is on at both ends already.
        Ok(())
    }
    fn forget(&self) -> Result<()> {
        // There is none.
        Ok(())
    }
}
