//! `traceroute` and what it says.

use crate::{command::output, netns::Netns};
use anyhow::Result;
use std::net::IpAddr;

/// The hops towards an address, in order; none where nobody answered.
///
/// # Errors
/// `traceroute` fails.
pub fn traceroute(netns: &Netns, to: IpAddr) -> Result<Vec<Option<IpAddr>>> {
    let mut command = netns.command("traceroute");
    command.args(["-n", "-q", "1", "-w", "1", "-m", "5", &to.to_string()]);
    Ok(parse(&output(&mut command)?))
}

fn parse(text: &str) -> Vec<Option<IpAddr>> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next()?.parse::<u32>().ok()?;
            Some(words.next().and_then(|word| word.parse().ok()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read() {
        let text = "traceroute to 10.0.2.5 (10.0.2.5), 5 hops max, 60 byte packets\n \
                    1  10.0.1.1  0.5 ms\n 2  *\n 3  10.0.2.5  0.4 ms\n";
        let hop = |text: &str| Some(text.parse().unwrap());
        assert_eq!(parse(text), [hop("10.0.1.1"), None, hop("10.0.2.5")]);
    }
}
