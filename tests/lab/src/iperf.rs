//! `iperf3` and what it says.

use crate::{background::Background, command::any_output, netns::Netns, wait::eventually};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{fs, net::IpAddr, path::Path, time::Duration};

const PORT: u16 = 5201;
const LISTEN: &str = "0A";

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// TCP, as fast as it goes, by that many streams.
    Tcp {
        /// How many connections.
        streams: u32,
    },
    /// UDP of a fixed rate and size.
    Udp {
        /// Bits a second.
        rate: u64,
        /// Bytes per datagram.
        payload: u32,
    },
}

/// What a run of `iperf3` found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Received by the server, bits a second.
    pub bits_per_second: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// UDP datagrams lost on the way. Those that arrived while the server's socket was full do not count: on a busy
    /// machine the server is slow.
    pub lost: u64,
    /// UDP datagrams sent.
    pub packets: u64,
}

impl Throughput {
    /// From what `iperf3 -J` prints.
    ///
    /// # Errors
    /// The text is none of iperf3, or says that it failed.
    pub fn parse(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).with_context(|| format!("iperf3 printed no JSON:\n{text}"))?;
        if let Some(error) = json.get("error").and_then(Value::as_str) {
            bail!("iperf3: {error}");
        }
        let end = &json["end"];
        let sum = if end["sum_received"].is_object() { &end["sum_received"] } else { &end["sum"] };
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let mut bits = sum["bits_per_second"].as_f64().context("iperf3 gives no throughput")?;
        if end["sum"]["lost_percent"].is_number() {
            // Of UDP, some versions give what was sent.
            bits = end["sum"]["bits_per_second"].as_f64().unwrap_or(bits)
                * (1.0 - end["sum"]["lost_percent"].as_f64().unwrap_or(0.0) / 100.0);
        }
        Ok(Self {
            bits_per_second: bits,
            retransmits: count(&end["sum_sent"]["retransmits"]),
            lost: count(&end["sum"]["lost_packets"]),
            packets: count(&end["sum"]["packets"]),
        })
    }

    /// In Gbit/s.
    pub fn gigabits(&self) -> f64 {
        self.bits_per_second / 1e9
    }
}

/// Sends from one namespace to a server in another for so many seconds.
///
/// # Errors
/// iperf3 fails, most often since the server cannot be reached.
pub fn iperf(from: &Netns, server: &Netns, to: IpAddr, load: Load, seconds: u32, logs: &Path) -> Result<Throughput> {
    let mut command = server.command("iperf3");
    command.args(["-s", "-1", "-p", &PORT.to_string()]);
    let process = Background::start(&command, logs.join(format!("{}.iperf3.log", server.name())))?;
    eventually(Duration::from_secs(5), || listening(process.pid(), PORT))?;

    let mut client = from.command("iperf3");
    client.args(["-J", "-c", &to.to_string(), "-p", &PORT.to_string(), "-t", &seconds.to_string()]);
    client.args(["--connect-timeout", "3000"]);
    match load {
        Load::Tcp { streams } => client.args(["-P", &streams.to_string()]),
        Load::Udp { rate, payload } => client.args(["-u", "-b", &rate.to_string(), "-l", &payload.to_string()]),
    };
    let before = server.enter(full_sockets)??;
    let result = any_output(&mut client)?;
    let full = server.enter(full_sockets)?? - before;
    let mut throughput = Throughput::parse(&String::from_utf8_lossy(&result.stdout))?;
    throughput.lost = throughput.lost.saturating_sub(full);
    Ok(throughput)
}

/// Datagrams that the caller's namespace threw away since a socket was full, both families.
fn full_sockets() -> Result<u64> {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp").context("no UDP counters")?;
    let mut udp = v4.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let names = udp.next().context("no UDP counters")?.split(' ');
    let values = udp.next().context("no UDP counters")?.split(' ');
    let four = names.zip(values).find(|(name, _)| *name == "RcvbufErrors").map_or("0", |(_, value)| value);
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6").context("no UDP counters")?;
    let six = v6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors")).unwrap_or("0");
    Ok(four.trim().parse::<u64>()? + six.trim().parse::<u64>()?)
}

/// Whether a TCP socket of that port listens in the process's network namespace.
fn listening(pid: u32, port: u16) -> Result<()> {
    let suffix = format!(":{port:04X}");
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).context("the server ended")?;
        let found = text.lines().skip(1).any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[1].ends_with(&suffix) && words[3] == LISTEN
        });
        if found {
            return Ok(());
        }
    }
    bail!("nothing listens on port {port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_read() {
        let text = r#"{"end": {"sum_sent": {"bits_per_second": 2e9, "retransmits": 3},
                       "sum_received": {"bits_per_second": 1.5e9}}}"#;
        let got = Throughput::parse(text).unwrap();
        assert_eq!((got.bits_per_second, got.retransmits, got.lost), (1.5e9, 3, 0));
    }

    #[test]
    fn udp_is_read() {
        let text =
            r#"{"end": {"sum": {"bits_per_second": 1e8, "lost_packets": 1, "packets": 10, "lost_percent": 10}}}"#;
        let got = Throughput::parse(text).unwrap();
        assert_eq!((got.bits_per_second, got.lost, got.packets), (9e7, 1, 10));
    }

    #[test]
    fn an_error_is_an_error() {
        assert!(Throughput::parse(r#"{"error": "unable to connect to server"}"#).is_err());
    }
}
