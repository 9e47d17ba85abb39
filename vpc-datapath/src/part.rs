//! Parts of the pipelines that stand by themselves: a part and its caller share the packet, the scratch, and what the
//! part's name says. So the kernel's verifier can look at each of them once, instead of once for every state in which
//! it may be reached: see [`Packet::part`].

use crate::{
    Packet, Scratch, Stage, Tables, decide, external,
    family::Family,
    flood, fragment, policy,
    respond::{Trouble, icmp},
    session::{self, Decision, Known, Origin},
};
use vpc_common::{DropReason, port::UNDERLAY_SLOT};

/// A part. All of them are off the way of an established flow's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// [`decide::egress`].
    DecideEgress,
    /// [`decide::ingress`].
    DecideIngress(Origin),
    /// [`session::record`].
    Record(Decision, Known),
    /// [`policy::judge`], of `scratch.question`.
    Judge,
    /// [`icmp::error`].
    Trouble(Trouble),
    /// [`fragment::send`], for `scratch.path_mtu`.
    Fragment,
    /// [`flood::to_nodes`], with the number of local members.
    FloodNodes(u32),
    /// [`external::hairpin`].
    Hairpin,
}

impl Part {
    /// Runs it, for the port in the flow's slot; for what belongs to none, in the name of the gateway.
    ///
    /// # Errors
    /// The end of the packet's way.
    #[inline(always)]
    pub fn run<F: Family, P: Packet, T: Tables>(self, packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
        let port = match scratch.flow.slot {
            UNDERLAY_SLOT => &tables.outlet().ok_or(DropReason::NoGateway)?.router,
            slot => tables.port(slot).ok_or(DropReason::UnknownPort)?,
        };
        match self {
            Self::DecideEgress => decide::egress::<F, P, T>(packet, tables, scratch, port),
            Self::DecideIngress(origin) => decide::ingress::<F, P, T>(packet, tables, scratch, port, origin),
            Self::Record(decision, known) => {
                session::record::<F, T>(tables, scratch, port, decision, known, packet.length())
            }
            Self::Judge => policy::judge(tables, scratch),
            Self::Trouble(trouble) => icmp::error::<F, P, T>(packet, tables, scratch, port, trouble),
            Self::FloodNodes(first) => flood::to_nodes::<P, T>(packet, tables, scratch, port, first),
            Self::Fragment => fragment::send::<P, T>(packet, tables, scratch),
            Self::Hairpin => Err(external::hairpin::<F, P, T>(packet, tables, scratch).unwrap_or_else(|end| end)),
        }
    }
}
