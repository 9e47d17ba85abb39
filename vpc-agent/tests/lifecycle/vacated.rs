//! Slots that get another port, or the same one again: nothing that was opened before is there any more.

use crate::sandbox::{Sandbox, TOPOLOGY};
use nix::sys::signal::Signal;
use std::fs;
use vpc_agent::{bpffs, maps::tables::Sessions};
use vpc_bpf::Table;
use vpc_common::{
    Be16, maps,
    nat::{ExternalPort, NatIn, NatOut, NatOutKey},
    session::{Session, SessionKey, V4, state},
};

/// What traffic leaves of a slot.
struct Left {
    sessions: Sessions<V4>,
    nat_in: Table<ExternalPort, NatIn>,
    nat_out: Table<NatOutKey, NatOut>,
}

impl Left {
    fn open(sandbox: &Sandbox) -> Self {
        let pinned = |name: &str| bpffs::maps(sandbox.bpffs()).join(name);
        Self {
            sessions: Table::open(&pinned(maps::SESSIONS_V4)).expect("the sessions"),
            nat_in: Table::open(&pinned(maps::NAT_IN)).expect("the mappings"),
            nat_out: Table::open(&pinned(maps::NAT_OUT)).expect("what leads to them"),
        }
    }

    /// As if a guest in slot 1 had opened a flow through a NAT gateway.
    fn fill(&self) {
        let last_used = vpc_agent::sweeper::tick();
        let external = ExternalPort { address: [9], protocol: 6, reserved: 0, port: Be16::new(2_000) };
        let mapping = NatIn { slot: 1, last_used, ..NatIn::default() };
        let (out, value) = mapping.way_out(&external);
        self.nat_in.set(&external, &mapping).expect("write a mapping");
        self.nat_out.set(&out, &value).expect("write what leads to it");
        let key = SessionKey { slot: 1, protocol: 6, ..SessionKey::default() };
        let mut session = Session { state: state::ESTABLISHED, last_seen: last_used, ..Session::default() };
        session.set_external([9], Be16::new(2_000));
        self.sessions.set(&key, &session).expect("write a session");
        assert_eq!(self.count(), [1, 1, 1]);
    }

    fn count(&self) -> [usize; 3] {
        let sessions = self.sessions.entries().expect("read").len();
        [sessions, self.nat_in.entries().expect("read").len(), self.nat_out.entries().expect("read").len()]
    }
}

/// Sooner than the sweeper comes by.
#[test]
fn what_one_port_has_opened_is_not_there_for_the_next_in_its_slot() {
    let mut sandbox = Sandbox::new("vacated");
    sandbox.plug("vag-p2");
    sandbox.start();
    let left = Left::open(&sandbox);
    let edit = |sandbox: &Sandbox, text: &str, port: Option<&str>| {
        fs::write(sandbox.topology(), text).expect("write");
        sandbox.eventually("the ports are those of the file", |status| {
            let names = status.attachments.iter().filter(|row| row.role == "port").map(|row| row.name.as_str());
            names.eq(port)
        });
    };
    let (here, elsewhere) = (TOPOLOGY, TOPOLOGY.replace("node: hv1, device: vag-p1", "node: hv2, device: vag-p1"));
    let other = TOPOLOGY.replace(
        "name: web-1, subnet: web, node: hv1, device: vag-p1",
        "name: web-9, subnet: web, node: hv1, device: vag-p2",
    );
    // Another port at once.
    left.fill();
    edit(&sandbox, &other, Some("web-9"));
    assert_eq!(left.count(), [0, 0, 0]);
    // The same port, back from elsewhere.
    left.fill();
    edit(&sandbox, &elsewhere, None);
    assert_eq!(left.count(), [1, 1, 1], "that is for the sweeper, which has time");
    edit(&sandbox, here, Some("web-1"));
    assert_eq!(left.count(), [0, 0, 0]);
    // An agent that starts does not know what was there before.
    left.fill();
    edit(&sandbox, &elsewhere, None);
    sandbox.end(Signal::SIGKILL);
    fs::write(sandbox.topology(), here).expect("write");
    sandbox.start();
    sandbox.eventually("the port is there", |status| status.attachments.iter().any(|row| row.name == "web-1"));
    assert_eq!(left.count(), [0, 0, 0]);
}
