//! Flows that stay on the node: both ports have a session, and most packets are looked up and counted in their sender's
//! only, see `vpc_datapath::neighbour`.

use bytemuck::Pod;
use vpc_bpf::{Table, TableError};
use vpc_common::session::{Session, SessionKey, decided};

/// The key of the other port's session, if the flow stays on the node.
pub fn other_key<A>(key: &SessionKey<A>, session: &Session) -> Option<SessionKey<A>>
where
    A: Copy,
{
    let stays = session.decided & decided::EGRESS != 0 && session.way.is_local();
    stays.then_some(SessionKey {
        slot: session.target,
        local_port: key.remote_port,
        remote_port: key.local_port,
        local: key.remote,
        remote: key.local,
        ..*key
    })
}

/// A session with what the other port's session has seen alone: packets, and what their sender expects next.
///
/// # Errors
/// Where the map cannot be read.
pub fn completed<A>(
    table: &Table<SessionKey<A>, Session>,
    key: &SessionKey<A>,
    session: &Session,
) -> Result<Session, TableError>
where
    A: Copy + 'static,
    SessionKey<A>: Pod,
{
    let other = match other_key(key, session) {
        Some(key) => table.get(&key)?,
        None => None,
    };
    Ok(other.map_or(*session, |other| joined(session, &other)))
}

fn joined(session: &Session, other: &Session) -> Session {
    let later = |own: u32, others: u32| if others.wrapping_sub(own) as i32 > 0 { others } else { own };
    Session {
        received_packets: later(session.received_packets, other.sent_packets),
        received_bytes: session.received_bytes.max(other.sent_bytes),
        peer_expects: later(session.peer_expects, other.guest_expects),
        ..*session
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpc_common::{Be16, session::Way};

    #[test]
    fn the_other_port_sees_the_flow_from_its_end() {
        let key = SessionKey {
            slot: 3,
            protocol: 6,
            reserved: 0,
            local_port: Be16::new(1_000),
            remote_port: Be16::new(80),
            local: [1],
            remote: [2],
        };
        let way = Way::LOCAL.with(Way::ROUTED);
        let session = Session { decided: decided::EGRESS, target: 7, way, ..Session::default() };
        let other = other_key(&key, &session).unwrap();
        assert_eq!((other.slot, other.local, other.remote), (7, [2], [1]));
        assert_eq!((other.local_port, other.remote_port), (Be16::new(80), Be16::new(1_000)));
        assert_eq!(other_key(&key, &Session { decided: 0, ..session }), None);
        let leaves = Session { way: Way::TUNNEL, ..session };
        assert_eq!(other_key(&key, &leaves), None);
    }

    #[test]
    fn the_other_session_knows_what_its_workload_has_sent() {
        let session = Session { received_packets: u32::MAX, received_bytes: 10, ..Session::default() };
        let other = Session { sent_packets: 4, sent_bytes: 500, guest_expects: 900, ..Session::default() };
        let whole = joined(&session, &other);
        assert_eq!((whole.received_packets, whole.received_bytes), (4, 500), "the count of packets wraps");
        assert_eq!(whole.peer_expects, 900);
        let younger = Session { sent_packets: u32::MAX - 1, sent_bytes: 1, ..Session::default() };
        let whole = joined(&session, &younger);
        assert_eq!((whole.received_packets, whole.received_bytes), (u32::MAX, 10));
    }
}
