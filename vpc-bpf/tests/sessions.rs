//! The session tables as this process sees them. Needs root, as everything with BPF does.

use bytemuck::Pod;
use std::{collections::BTreeSet, thread};
use vpc_bpf::{Loaded, Loader, SessionTable, Sizes};
use vpc_common::{
    Be16, maps,
    session::{Session, SessionKey, V4, V6},
};

const ROOM: u32 = 20_000;

fn loaded() -> Loaded {
    Loader::new(Sizes { sessions: ROOM, local_ports: 16, endpoints: 64, ..Sizes::default() })
        .load()
        .expect("needs root")
}

/// Keys that differ in the words that heads have, or in the addresses only.
fn key<A: Copy>(number: u32, address: impl Fn(u32) -> A) -> SessionKey<A>
where
    SessionKey<A>: Pod,
{
    let port = Be16::new(if number.is_multiple_of(2) { 80 } else { number as u16 });
    SessionKey {
        slot: 1,
        protocol: 6,
        state: 0,
        local_port: port,
        remote_port: port,
        local: address(1),
        remote: address(number),
    }
}

fn numbered(number: u32) -> Session {
    Session { sent_packets: number, ..Session::default() }
}

fn fills_and_empties<A: Copy + 'static>(table: &SessionTable<A>, address: impl Fn(u32) -> A + Copy)
where
    SessionKey<A>: Pod,
{
    assert_eq!(table.room(), ROOM);
    for number in 0..ROOM {
        table.set(&key(number, address), &numbered(number)).expect("there is room for as many as were asked for");
    }
    for number in 0..ROOM {
        assert_eq!(table.get(&key(number, address)), Some(numbered(number)), "session {number}");
    }
    assert_eq!(table.get(&key(ROOM, address)), None);
    let seen: BTreeSet<u32> = table.entries().iter().map(|(_, session)| session.sent_packets).collect();
    assert_eq!(seen.len(), ROOM as usize);

    table.set(&key(7, address), &numbered(70_000)).expect("in its place");
    assert_eq!(table.get(&key(7, address)), Some(numbered(70_000)));
    assert!(table.delete(&key(7, address)) && !table.delete(&key(7, address)));
    assert_eq!(table.get(&key(7, address)), None);
    assert_eq!(table.entries().len(), ROOM as usize - 1);

    let removed = table.sweep(|_, session| session.sent_packets >= ROOM / 2, || {});
    assert_eq!(removed, ROOM as usize / 2 - 1);
    assert_eq!(table.entries().len(), ROOM as usize / 2);
}

#[test]
fn a_table_has_room_for_what_was_asked_for() {
    let loaded = loaded();
    fills_and_empties::<V4>(&loaded.sessions(maps::SESSIONS_V4).unwrap(), |number| [number]);
    fills_and_empties::<V6>(&loaded.sessions(maps::SESSIONS_V6).unwrap(), |number| [1, 2, 3, number]);
}

#[test]
fn the_places_of_what_is_removed_are_free_again() {
    let loaded = loaded();
    let table: SessionTable<V4> = loaded.sessions(maps::SESSIONS_V4).unwrap();
    let key = |number| key(number, |number| [number]);
    let mut full = 0;
    while table.set(&key(full), &Session::default()).is_ok() {
        full += 1;
    }
    assert!(full > ROOM, "{full}");
    table.sweep(|_, _| false, || {});
    assert_eq!(table.entries().len(), 0);
    for number in 0..ROOM {
        table.set(&key(number), &Session::default()).expect("a place is free");
    }
    let all: Vec<_> = table.entries().into_iter().map(|(key, _)| key).collect();
    assert_eq!(table.delete_all(&all), ROOM as usize);
    for number in ROOM..2 * ROOM {
        table.set(&key(number), &Session::default()).expect("a place is free");
    }
    table.clear();
    assert_eq!(table.entries().len(), 0);
}

#[test]
fn many_may_write_at_once() {
    const WRITERS: u32 = 4;
    const EACH: u32 = ROOM / WRITERS / 2;
    let loaded = loaded();
    let table: SessionTable<V6> = loaded.sessions(maps::SESSIONS_V6).unwrap();
    let key = |number| key(number, |number| [number; 4]);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let table = &table;
            scope.spawn(move || {
                for number in writer * EACH..(writer + 1) * EACH {
                    table.set(&key(number), &numbered(number)).expect("there is room");
                }
            });
        }
        scope.spawn(|| {
            let thirds: Vec<_> = (0..WRITERS * EACH).filter(|number| number.is_multiple_of(3)).map(key).collect();
            let mut left = thirds.len();
            while left > 0 {
                left -= table.delete_all(&thirds);
            }
        });
        for _ in 0..20 {
            for (found, session) in table.entries() {
                assert_eq!(found.remote, [session.sent_packets; 4], "a key with the session of another");
            }
            table.sweep(|_, _| true, || {});
        }
    });
    let expected = (0..WRITERS * EACH).filter(|number: &u32| !number.is_multiple_of(3)).count();
    assert_eq!(table.entries().len(), expected);
}
