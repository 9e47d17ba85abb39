//! Sessions that an operator has the agent forget.

use crate::sandbox::Sandbox;
use vpc_agent::{
    bpffs,
    control::{Request, SessionFilter, client::ask, report::Flushed},
    maps::tables::Sessions,
};
use vpc_bpf::Table;
use vpc_common::{
    Be16, maps,
    port::Usage,
    session::{Session, SessionKey, V4, state},
};

#[test]
fn flushed_sessions_are_given_back_to_the_quota_of_their_port() {
    let mut sandbox = Sandbox::new("flush");
    sandbox.start();
    let pinned = |name: &str| bpffs::maps(sandbox.bpffs()).join(name);
    let sessions: Sessions<V4> = Table::open(&pinned(maps::SESSIONS_V4)).expect("the sessions");
    let usage: Table<u32, Usage> = Table::open(&pinned(maps::PORT_USAGE)).expect("the counts");
    let now = vpc_agent::sweeper::tick();
    for port in 1..=3 {
        let key = SessionKey { slot: 1, protocol: 6, local_port: Be16::new(port), ..SessionKey::default() };
        let state = if port == 1 { state::OPENING } else { state::ESTABLISHED };
        sessions.set(&key, &Session { state, last_seen: now, ..Session::default() }).expect("write a session");
    }
    // Others of the same port stay: the sweeper has not counted them yet.
    usage.set(&1, &Usage { sessions: 5, half_open: 2 }).expect("write a count");
    let filter = SessionFilter { port: Some("web-1".to_owned()), ..SessionFilter::default() };
    let answer: Flushed = ask(sandbox.run_dir(), Request::FlushSessions(filter)).expect("an answer");
    assert_eq!(answer.sessions, 3);
    assert_eq!(usage.get(&1).expect("read a count"), Some(Usage { sessions: 2, half_open: 1 }));
}
