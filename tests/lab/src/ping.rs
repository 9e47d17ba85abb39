//! `ping` and what it says.

use crate::{background::Background, netns::Netns};
use anyhow::{Context, Result, bail};
use std::{net::IpAddr, path::PathBuf, process::Command};

/// What a run of `ping` found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pings {
    /// Echo requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Round trips; none without replies.
    pub round_trip_ms: Option<RoundTrip>,
}

/// Round trips, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The longest.
    pub max: f64,
}

impl Pings {
    /// Requests without reply.
    pub fn lost(&self) -> u32 {
        self.sent - self.received
    }
    /// From what `ping` prints at its end.
    ///
    /// # Errors
    /// The text is none of ping.
    pub fn parse(text: &str) -> Result<Self> {
        let summary = text
            .lines()
            .find(|line| line.contains("packets transmitted"))
            .with_context(|| format!("no summary in the output of ping:\n{text}"))?;
        let number = |word: &str| -> Result<u32> {
            let part = summary.split(", ").find(|part| part.contains(word)).context("an unknown summary of ping")?;
            Ok(part.split(' ').next().unwrap_or_default().parse()?)
        };
        let round_trip_ms = text.lines().find(|line| line.starts_with("rtt ")).and_then(|line| {
            let mut values = line.split(" = ").nth(1)?.split('/').map_while(|value| value.parse().ok());
            Some(RoundTrip { min: values.next()?, mean: values.next()?, max: values.next()? })
        });
        Ok(Self { sent: number("transmitted")?, received: number("received")?, round_trip_ms })
    }
}

/// How to ping.
#[derive(Clone, Copy, Debug)]
pub struct PingOptions {
    /// How many requests.
    pub count: u32,
    /// Seconds between two.
    pub interval: f64,
    /// Bytes after the ICMP header.
    pub payload: u32,
    /// How long to wait for the last reply, seconds.
    pub patience: f64,
    /// Whether the sender's kernel may fragment.
    pub fragmentation: Fragmentation,
}

/// Values of `ping -M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragmentation {
    /// DF is set; the path's MTU is not looked at: `-M probe`.
    Probe,
    /// DF is set, the kernel learns the path's MTU: `-M do`.
    Forbidden,
    /// DF is not set: `-M dont`.
    Allowed,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self { count: 3, interval: 0.05, payload: 56, patience: 1.0, fragmentation: Fragmentation::Forbidden }
    }
}

impl PingOptions {
    fn command(self, netns: &Netns, to: IpAddr) -> Command {
        let mode = match self.fragmentation {
            Fragmentation::Probe => "probe",
            Fragmentation::Forbidden => "do",
            Fragmentation::Allowed => "dont",
        };
        let mut command = netns.command("ping");
        command.args(["-n", "-M", mode, "-W", &self.patience.to_string()]);
        command.args(["-c", &self.count.to_string(), "-i", &self.interval.to_string()]);
        command.args(["-s", &self.payload.to_string(), &to.to_string()]);
        command
    }
}

/// Pings and counts, whatever comes back.
///
/// # Errors
/// `ping` cannot be run.
pub fn ping(netns: &Netns, to: IpAddr, options: PingOptions) -> Result<Pings> {
    let result = crate::command::any_output(&mut options.command(netns, to))?;
    let text = String::from_utf8_lossy(&result.stdout);
    if result.status.code() == Some(2) && !text.contains("packets transmitted") {
        bail!("ping {to}: {}", String::from_utf8_lossy(&result.stderr));
    }
    Pings::parse(&text)
}

/// A ping that runs until [`BackgroundPing::stop`].
pub struct BackgroundPing(Background);

impl BackgroundPing {
    /// Starts it: a request each `interval` seconds.
    ///
    /// # Errors
    /// `ping` cannot be started.
    pub fn start(netns: &Netns, to: IpAddr, interval: f64, log: PathBuf) -> Result<Self> {
        let _no_old_one = std::fs::remove_file(&log);
        let options = PingOptions { count: 1_000_000, interval, ..PingOptions::default() };
        Background::start(&options.command(netns, to), log).map(Self)
    }

    /// Stops it. A request that was just sent then is not counted.
    ///
    /// # Errors
    /// `ping` printed no summary.
    pub fn stop(mut self) -> Result<Pings> {
        let text = self.0.interrupt()?;
        let mut pings = Pings::parse(&text)?;
        if pings.lost() > 0 && !text.contains(&format!("icmp_seq={} ", pings.sent)) {
            pings.sent -= 1;
        }
        Ok(pings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let text = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\n--- 10.0.0.2 ping statistics ---\n\
                    5 packets transmitted, 4 received, +1 errors, 20% packet loss, time 200ms\n\
                    rtt min/avg/max/mdev = 0.031/0.042/0.060/0.011 ms\n";
        let pings = Pings::parse(text).unwrap();
        assert_eq!((pings.sent, pings.received, pings.lost()), (5, 4, 1));
        assert_eq!(pings.round_trip_ms, Some(RoundTrip { min: 0.031, mean: 0.042, max: 0.060 }));
    }

    #[test]
    fn nothing_came_back() {
        let pings = Pings::parse("3 packets transmitted, 0 received, 100% packet loss, time 100ms\n").unwrap();
        assert_eq!(pings, Pings { sent: 3, received: 0, round_trip_ms: None });
    }
}
