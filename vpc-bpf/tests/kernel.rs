//! The library against the running kernel. Needs root, as everything with BPF does.

use nix::sched::{CloneFlags, unshare};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use vpc_bpf::{
    FeatureQuery, Hook, Link, Loader, Sizes, TestRun, XdpFeatures, program_info, tcx_ingress_programs, test_run,
};
use vpc_common::{
    Be32, Ip, Vni,
    counters::Counters,
    endpoint::{Endpoint, EndpointKey},
    maps,
    nat::{ExternalPort, NatIn},
    port::{Port, SourceKey},
    session::{Session, SessionKey, V4},
};

/// A private bpffs and network namespace for the calling thread.
struct Sandbox {
    directory: PathBuf,
}

impl Sandbox {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("vbt-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("make a directory");
        // The thread alone moves: tests run beside each other.
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("needs root");
        run("mount", &["--make-rprivate", "/"]);
        run("mount", &["-t", "bpf", "bpf", directory.to_str().expect("a plain path")]);
        Self { directory }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        run("umount", &[self.directory.to_str().expect("a plain path")]);
        let _ = fs::remove_dir(&self.directory);
    }
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().expect("run").success(), "{program} {arguments:?}");
}

fn small() -> Sizes {
    Sizes {
        local_ports: 16,
        endpoints: 5_000,
        routes: 64,
        sessions: 1_024,
        nat_mappings: 1_024,
        sources: 64,
        flood_members: 64,
        subjects: 64,
        identities: 64,
        rules: 64,
    }
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("an interface")
}

#[test]
fn tables_read_what_was_written() {
    let loaded = Loader::new(small()).load().unwrap();
    let endpoints = loaded.table::<EndpointKey, Endpoint>(maps::ENDPOINTS).unwrap();
    let entries: Vec<_> = (0..4_500)
        .map(|number| {
            let key = EndpointKey { vpc: Vni(7), address: Ip::v4(Be32::new(number)) };
            (key, Endpoint { subnet: number, ..Endpoint::default() })
        })
        .collect();
    endpoints.set_all(&entries).unwrap();
    let mut read = endpoints.entries().unwrap();
    read.sort_by_key(|(key, _)| *key);
    assert_eq!(read.len(), entries.len());
    assert_eq!(read.iter().map(|(_, endpoint)| u64::from(endpoint.subnet)).sum::<u64>(), 4_500 * 4_499 / 2);
    // One key that is gone does not stop the rest.
    endpoints.delete(&entries[3].0).unwrap();
    endpoints.delete_all(&entries.iter().map(|(key, _)| *key).collect::<Vec<_>>()).unwrap();
    assert!(endpoints.entries().unwrap().is_empty());

    let sources = loaded.table::<SourceKey, u32>(maps::SOURCES).unwrap();
    let key = |last| SourceKey { prefix_len: 160, slot: Be32::new(1), address: Ip::v4(Be32::new(last)) };
    sources.set_all(&[(key(1), 0), (key(2), 0)]).unwrap();
    assert_eq!(sources.entries().unwrap().len(), 2);
    assert!(sources.delete(&key(1)).unwrap());
    assert!(!sources.delete(&key(1)).unwrap());

    let counters = loaded.per_cpu::<Counters>(maps::COUNTERS).unwrap();
    assert!(counters.get(3).unwrap().iter().all(|counter| *counter == Counters::default()));
    let ports = loaded.table::<u32, Port>(maps::PORTS).unwrap();
    assert_eq!(ports.entries().unwrap().len(), 17);
    assert!(loaded.table::<u32, u64>(maps::PORTS).unwrap_err().to_string().contains(&size_of::<Port>().to_string()));
}

#[test]
fn programs_run_on_a_made_up_packet() {
    let loaded = Loader::new(small()).load().unwrap();
    for name in [maps::programs::PORT, maps::programs::UPLINK_XDP, maps::programs::UPLINK_TC, maps::programs::TUNNEL] {
        let result = test_run(loaded.program_fd(name).unwrap(), &TestRun { data: &[0; 64], ..TestRun::default() });
        assert!(!result.unwrap().data.is_empty(), "{name}");
        assert!(loaded.program_info(name).unwrap().verified_instructions > 0, "{name}");
    }
}

#[test]
fn pinned_maps_are_reused_only_if_they_agree() {
    let sandbox = Sandbox::new("pins");
    let pins = sandbox.path("vpc/v1");
    let load = |sizes| {
        let mut loaded = Loader::new(sizes).pin_dir(&pins).load().unwrap();
        loaded.fill().unwrap();
        loaded
    };
    let key = EndpointKey { vpc: Vni(7), address: Ip::v4(Be32::new(1)) };
    load(small()).table(maps::ENDPOINTS).unwrap().set(&key, &Endpoint { subnet: 9, ..Endpoint::default() }).unwrap();

    let same = load(small());
    assert_eq!(same.replaced().count(), 0);
    let subnet = |table: vpc_bpf::Table<EndpointKey, Endpoint>| table.get(&key).unwrap().map(|found| found.subnet);
    assert_eq!(subnet(same.table(maps::ENDPOINTS).unwrap()), Some(9));

    let mut larger = load(Sizes { endpoints: 6_000, ..small() });
    let mut replaced: Vec<_> = larger.replaced().collect();
    replaced.sort_unstable();
    assert_eq!(replaced, [maps::ENDPOINTS, maps::MACS]);
    assert_eq!(subnet(larger.table(maps::ENDPOINTS).unwrap()), Some(9));
    let pinned = || vpc_bpf::Table::open(&pins.join(maps::ENDPOINTS)).unwrap();
    assert_eq!(pinned().description().max_entries, 5_000, "the pin stays until the programs are replaced");
    larger.commit().unwrap();
    assert_eq!(pinned().description().max_entries, 6_000);
    assert_eq!(subnet(pinned()), Some(9));
}

#[test]
fn programs_are_verified_once_for_the_same_object_and_maps() {
    let sandbox = Sandbox::new("programs");
    let pins = sandbox.path("vpc/v1");
    let longer = [vpc_bpf::OBJECT, &[0; 8]].concat();
    // The ids of the programs, and what the pins are left as.
    let load = |loader: Loader| {
        let mut loaded = loader.pin_dir(&pins).load().unwrap();
        loaded.fill().unwrap();
        loaded.commit().unwrap();
        let ids: BTreeMap<_, _> =
            loaded.program_names().map(|name| (name.to_owned(), loaded.program_info(name).unwrap().id)).collect();
        ids
    };
    let first = load(Loader::new(small()));
    assert!(first.len() > 5, "{first:?}");
    assert_eq!(load(Loader::new(small())), first);

    let different = |a: &BTreeMap<String, u32>, b: &BTreeMap<String, u32>| a.iter().all(|(name, id)| b[name] != *id);
    let other = load(Loader::new(small()).object(longer));
    assert!(different(&other, &first), "another object has programs of its own");
    let larger = load(Loader::new(Sizes { endpoints: 6_000, ..small() }));
    assert!(different(&larger, &first), "the maps are other ones");
    assert_eq!(load(Loader::new(Sizes { endpoints: 6_000, ..small() })), larger);

    // As a crash in the midst of pinning leaves it.
    let of_object = fs::read_dir(pins.join("programs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(of_object.join(maps::programs::PORT)).unwrap();
    let anew = load(Loader::new(Sizes { endpoints: 6_000, ..small() }));
    assert!(different(&anew, &larger), "one was missing");
    assert_eq!(fs::read_dir(of_object).unwrap().count(), anew.len());
}

#[test]
fn programs_that_run_are_waited_for() {
    let readers = vpc_bpf::Readers::new().unwrap();
    let start = std::time::Instant::now();
    for _ in 0..5 {
        readers.wait().unwrap();
    }
    let taken = start.elapsed();
    println!("five times in {taken:?}");
    // Whatever the machine, no grace period is shorter.
    assert!(taken.as_micros() > 100, "nothing was waited for: {taken:?}");
    assert!(taken.as_secs() < 5, "{taken:?}");
}

#[test]
fn mappings_that_are_made_while_their_table_grows_are_not_lost() {
    type Mappings = vpc_bpf::Table<ExternalPort, NatIn>;
    let sandbox = Sandbox::new("growth-nat");
    let pins = sandbox.path("vpc/v1");
    let load =
        |sessions| Loader::new(Sizes { sessions, nat_mappings: 2_048, ..small() }).pin_dir(&pins).load().unwrap();
    let table = |loaded: &vpc_bpf::Loaded| -> Mappings { loaded.table(maps::NAT_IN).unwrap() };
    let key = |port| ExternalPort { port: vpc_common::Be16::new(port), ..ExternalPort::default() };
    let of = |slot| NatIn { slot, ..NatIn::default() };
    let small_one = load(1_024);
    assert_eq!(small_one.map_size(maps::NAT_OUT).unwrap().0, 1_024, "as many as sessions");
    let old = table(&small_one);
    old.set(&key(1), &of(1)).unwrap();

    let mut large_one = load(4_096);
    assert_eq!(large_one.map_size(maps::NAT_IN).unwrap().0, 2_048, "but not more than the most");
    large_one.fill().unwrap();
    // One that the old programs make, and a port that both have given away: the new programs go by the new table.
    old.set_all(&[(key(2), of(2)), (key(3), of(3))]).unwrap();
    table(&large_one).set(&key(3), &of(4)).unwrap();
    large_one.commit().unwrap();
    let slots = [1, 2, 3].map(|port| table(&large_one).get(&key(port)).unwrap().map(|mapping| mapping.slot));
    assert_eq!(slots, [Some(1), Some(2), Some(4)]);
}

#[test]
fn sessions_that_change_while_their_table_grows_are_not_lost() {
    type Sessions = vpc_bpf::Table<SessionKey<V4>, Session>;
    let sandbox = Sandbox::new("growth");
    let pins = sandbox.path("vpc/v1");
    let load = |sessions| Loader::new(Sizes { sessions, ..small() }).pin_dir(&pins).load().unwrap();
    let table = |loaded: &vpc_bpf::Loaded| -> Sessions { loaded.table(maps::SESSIONS_V4).unwrap() };
    let key = |port| SessionKey { slot: 1, local_port: vpc_common::Be16::new(port), ..SessionKey::default() };
    let seen = |packets| Session { sent_packets: packets, ..Session::default() };
    let small_one = load(1_024);
    let old = table(&small_one);
    old.set_all(&[(key(1), seen(1)), (key(2), seen(1)), (key(3), seen(1))]).unwrap();

    let mut large_one = load(2_048);
    assert_eq!(table(&large_one).entries().unwrap().len(), 0, "empty until it is filled");
    large_one.fill().unwrap();
    // Packets go on by the old table, then by both, then by the new one.
    old.set_all(&[(key(2), seen(2)), (key(3), seen(2)), (key(4), seen(1))]).unwrap();
    table(&large_one).set_all(&[(key(3), seen(7)), (key(5), seen(1))]).unwrap();

    // An agent that dies here leaves both to the next one, which may want yet another size.
    drop(large_one);
    let mut largest = load(4_096);
    largest.fill().unwrap();
    largest.commit().unwrap();
    let mut found: Vec<_> =
        table(&largest).entries().unwrap().into_iter().map(|(key, s)| (key.local_port.get(), s.sent_packets)).collect();
    found.sort_unstable();
    assert_eq!(found, [(1, 1), (2, 2), (3, 2), (4, 1), (5, 1)]);
    assert!(!pins.join("SESSIONS_V4-next").exists());

    // Without a crash: who was there first, who changed meanwhile, who is new.
    let mut again = load(8_192);
    let packets = |loaded: &_, port| table(loaded).get(&key(port)).unwrap().map(|session| session.sent_packets);
    again.fill().unwrap();
    table(&largest).set_all(&[(key(1), seen(9)), (key(6), seen(1)), (key(3), seen(4))]).unwrap();
    // The programs are still to be replaced, and find what there is.
    again.catch_up().unwrap();
    assert_eq!([1, 3, 6].map(|port| packets(&again, port)), [Some(9), Some(4), Some(1)]);
    table(&largest).set_all(&[(key(3), seen(5)), (key(7), seen(1))]).unwrap();
    table(&again).set(&key(2), &seen(8)).unwrap();
    again.commit().unwrap();
    let all = [1, 2, 3, 4, 5, 6, 7].map(|port| packets(&again, port));
    assert_eq!(all, [Some(9), Some(8), Some(5), Some(1), Some(1), Some(1), Some(1)]);
    let pinned: Sessions = vpc_bpf::Table::open(&pins.join(maps::SESSIONS_V4)).unwrap();
    assert_eq!(pinned.description().max_entries, 8_192);
}

/// The object with a program that reads what it never set.
fn broken_object() -> Vec<u8> {
    // `r0 = r9`, which the verifier refuses to read.
    const BROKEN: [u8; 8] = [0xbf, 0x90, 0, 0, 0, 0, 0, 0];
    let object = aya_obj::Object::parse(vpc_bpf::OBJECT).expect("an object");
    let program = &object.programs[maps::programs::UPLINK_TC];
    let function = &object.functions[&program.function_key()];
    let start: Vec<u8> = function.instructions.iter().take(8).flat_map(instruction_bytes).collect();
    let mut bytes = vpc_bpf::OBJECT.to_vec();
    let at = bytes.windows(start.len()).position(|window| window == start).expect("the program's code");
    bytes[at..at + BROKEN.len()].copy_from_slice(&BROKEN);
    bytes
}

fn instruction_bytes(instruction: &aya_obj::generated::bpf_insn) -> [u8; 8] {
    let registers = instruction.dst_reg() | instruction.src_reg() << 4;
    let (offset, immediate) = (instruction.off.to_le_bytes(), instruction.imm.to_le_bytes());
    let [a, b, c, d] = immediate;
    [instruction.code, registers, offset[0], offset[1], a, b, c, d]
}

#[test]
fn a_refused_program_is_named_with_kernel_and_log_and_the_old_ones_stay() {
    let sandbox = Sandbox::new("refused");
    let loader = Loader::new(small()).pin_dir(sandbox.path("vpc/v1"));
    let loaded = loader.load().unwrap();
    let key = EndpointKey { vpc: Vni(7), address: Ip::v4(Be32::new(1)) };
    let endpoints = loaded.table::<EndpointKey, Endpoint>(maps::ENDPOINTS).unwrap();
    endpoints.set(&key, &Endpoint::default()).unwrap();
    let error = loader.object(broken_object()).load().unwrap_err().to_string();
    assert!(error.contains(maps::programs::UPLINK_TC), "{error}");
    assert!(error.contains(&vpc_bpf::kernel_release()), "{error}");
    assert!(error.contains("R9 !read_ok"), "{error}");
    let pinned: vpc_bpf::Table<EndpointKey, Endpoint> =
        vpc_bpf::Table::open(&sandbox.path("vpc/v1").join(maps::ENDPOINTS)).unwrap();
    assert_eq!(pinned.get(&key).unwrap(), Some(Endpoint::default()));
}

#[test]
fn links_survive_and_their_program_is_replaced() {
    let sandbox = Sandbox::new("links");
    run("ip", &["link", "add", "vbt0", "type", "veth", "peer", "name", "vbt1"]);
    let index = ifindex("vbt0");
    let attach = |program, hook, pin: &Path| {
        let loaded = Loader::new(small()).load().unwrap();
        let link = Link::attach(loaded.program_fd(program).unwrap(), index, hook).unwrap();
        link.pin(pin).unwrap();
        loaded.program_info(program).unwrap().id
    };
    let (tc, xdp) = (sandbox.path("tc"), sandbox.path("xdp"));
    let first = attach(maps::programs::PORT, Hook::TcxIngress, &tc);
    attach(maps::programs::UPLINK_XDP, Hook::XdpNative, &xdp);
    assert_eq!(tcx_ingress_programs(index).unwrap(), [first]);

    let loaded = Loader::new(small()).load().unwrap();
    let program = loaded.program_fd(maps::programs::PORT).unwrap();
    let link = Link::open(&tc).unwrap();
    assert_eq!(link.info().unwrap().program, first);
    link.replace(program).unwrap();
    let info = link.info().unwrap();
    assert_eq!((info.program, info.ifindex), (program_info(program).unwrap().id, index));
    assert_eq!(info.hook, Some(Hook::TcxIngress));
    assert_eq!(Link::open(&xdp).unwrap().info().unwrap().hook, Some(Hook::XdpNative));

    // A second XDP program is refused, and a link outlives its interface with no index.
    let program = loaded.program_fd(maps::programs::UPLINK_XDP).unwrap();
    assert!(Link::attach(program, index, Hook::XdpNative).is_err());
    run("ip", &["link", "del", "vbt0"]);
    assert_eq!(link.info().unwrap().ifindex, 0);
}

#[test]
fn features_tell_whether_a_veth_takes_redirected_frames() {
    let _sandbox = Sandbox::new("features");
    run("ip", &["link", "add", "vbt0", "type", "veth", "peer", "name", "vbt1"]);
    let query = FeatureQuery::new().unwrap();
    assert!(query.get(ifindex("vbt0")).unwrap().has(XdpFeatures::BASIC));
    assert!(!query.get(ifindex("vbt0")).unwrap().has(XdpFeatures::NDO_XMIT));
    assert!(query.change_group().is_some());
    run("ethtool", &["-K", "vbt1", "gro", "on"]);
    run("ip", &["link", "set", "vbt0", "up"]);
    run("ip", &["link", "set", "vbt1", "up"]);
    assert!(query.get(ifindex("vbt0")).unwrap().has(XdpFeatures::NDO_XMIT));
    assert_eq!(query.get(9_999).unwrap_err().raw_os_error(), Some(libc::ENODEV));
}
