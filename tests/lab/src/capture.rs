//! What an interface sees, by `tcpdump`.

use crate::{background::Background, netns::Netns, wait::eventually};
use anyhow::{Result, bail};
use std::{path::Path, time::Duration};

/// A running capture.
pub struct Capture(Background);

impl Capture {
    /// Starts to capture what comes in at an interface and matches the filter, and waits until it is on.
    ///
    /// # Errors
    /// `tcpdump` does not start.
    pub fn incoming(netns: &Netns, interface: &str, filter: &str, logs: &Path) -> Result<Self> {
        Self::start(netns, interface, &["-Q", "in"], filter, logs)
    }

    /// The same in both directions.
    ///
    /// # Errors
    /// `tcpdump` does not start.
    pub fn both(netns: &Netns, interface: &str, filter: &str, logs: &Path) -> Result<Self> {
        Self::start(netns, interface, &[], filter, logs)
    }

    fn start(netns: &Netns, interface: &str, more: &[&str], filter: &str, logs: &Path) -> Result<Self> {
        let mut command = netns.command("tcpdump");
        command
            .args(["-nn", "-l", "-v", "-e", "--immediate-mode", "-Z", "root", "-i", interface])
            .args(more)
            .arg(filter);
        let log = logs.join(format!("{}.{interface}.tcpdump", netns.name()));
        let _no_old_one = std::fs::remove_file(&log);
        let capture = Self(Background::start(&command, log)?);
        eventually(Duration::from_secs(5), || {
            if capture.0.output().contains("listening on") {
                return Ok(());
            }
            bail!("tcpdump does not start: {}", capture.0.output())
        })?;
        Ok(capture)
    }

    /// Ends the capture and returns one text per packet, as tcpdump prints it.
    ///
    /// # Errors
    /// `tcpdump` does not end.
    pub fn stop(mut self) -> Result<Vec<String>> {
        // What is still between the kernel and tcpdump.
        std::thread::sleep(Duration::from_millis(50));
        Ok(packets(&self.0.interrupt()?))
    }
}

/// A packet begins with its time; the lines that belong to it are indented.
fn packets(text: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in text.lines() {
        if is_time(line.as_bytes()) {
            packets.push(line.to_owned());
        } else if line.starts_with(char::is_whitespace)
            && let Some(last) = packets.last_mut()
        {
            last.push_str(line);
        }
    }
    packets
}

/// `12:00:00.000001`, which the addresses of an inner frame are not.
fn is_time(line: &[u8]) -> bool {
    line.len() > 15 && line[2] == b':' && line[5] == b':' && line[8] == b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        let text = "tcpdump: listening on eth0\n12:00:00.000001 aa > bb, IPv4\n    10.0.0.1 > 10.0.0.2: ICMP\n\
                    12:00:00.000002 ARP\n02:00:00:00:03:10 > 02:00:00:00:03:11, an inner frame\n2 packets captured\n";
        assert_eq!(packets(text).len(), 2);
        assert!(packets(text)[0].ends_with("ICMP"));
    }
}
