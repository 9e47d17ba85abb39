//! Traffic tools that the benchmark runs inside of guests: `vpc-bench load …`. Each prints one line of JSON.

mod bulk;
mod connections;
mod datagrams;
mod requests;

use anyhow::Result;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;

/// What to do.
#[derive(Subcommand)]
pub enum Load {
    /// Count UDP datagrams until none comes any more
    Sink {
        /// Port to listen at.
        port: u16,
    },
    /// Send small UDP datagrams as fast as it goes
    Blast {
        /// To whom.
        to: SocketAddrV4,
        /// For how long.
        milliseconds: u64,
    },
    /// Receive TCP as fast as it goes, until a connection is closed
    Drain {
        /// Port to listen at.
        port: u16,
        /// How many connections to wait for.
        streams: usize,
        /// Whether to sleep.
        #[arg(value_enum)]
        wait: Wait,
    },
    /// Send TCP as fast as it goes
    Pour {
        /// To whom.
        to: SocketAddrV4,
        /// For how long.
        milliseconds: u64,
        /// Over how many connections.
        streams: usize,
        /// Whether to sleep.
        #[arg(value_enum)]
        wait: Wait,
    },
    /// Give back what comes, over TCP, to one client
    Serve {
        /// Port to listen at.
        port: u16,
        /// Whether to sleep.
        #[arg(value_enum)]
        wait: Wait,
    },
    /// Ask a server again and again, and take the time
    Ask {
        /// Whom.
        to: SocketAddrV4,
        /// For how long.
        milliseconds: u64,
        /// Whether to sleep.
        #[arg(value_enum)]
        wait: Wait,
    },
    /// Answer one request on each of many TCP connections, until nobody comes any more
    Answer {
        /// Port to listen at.
        port: u16,
        /// Whether to sleep.
        #[arg(value_enum)]
        wait: Wait,
    },
    /// Connect to a server again and again
    Connect {
        /// Whom.
        to: SocketAddrV4,
        /// For how long.
        milliseconds: u64,
        /// Whether to sleep.
        #[arg(value_enum)]
        wait: Wait,
    },
}

/// How a program waits for bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Wait {
    /// It never sleeps: waking a virtual CPU costs more than the packet.
    Busy,
    /// It sleeps in the kernel, as most programs do.
    Blocking,
}

impl Wait {
    /// As the command line has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Blocking => "blocking",
        }
    }
}

/// What a sink saw, or a blast sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Datagrams {
    /// How many.
    pub count: u64,
    /// A second.
    pub rate: f64,
}

/// What bulk TCP carried.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bulk {
    /// Gbit/s.
    pub gigabits: f64,
}

/// What a client found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latencies {
    /// How many answers.
    pub count: usize,
    /// Median, µs.
    pub p50: f64,
    /// 99th percentile, µs.
    pub p99: f64,
    /// 99.9th percentile, µs.
    pub p999: f64,
}

/// What one who connects again and again found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Connections {
    /// How many connections.
    pub count: usize,
    /// A second.
    pub rate: f64,
    /// Median of a connection with its request and answer, µs.
    pub p50: f64,
    /// 99th percentile, µs.
    pub p99: f64,
}

/// Does it.
///
/// # Errors
/// A socket call fails.
pub fn run(load: &Load) -> Result<()> {
    let line = match *load {
        Load::Sink { port } => serde_json::to_string(&datagrams::sink(port)?)?,
        Load::Blast { to, milliseconds } => serde_json::to_string(&datagrams::blast(to, milliseconds)?)?,
        Load::Drain { port, streams, wait } => serde_json::to_string(&bulk::drain(port, streams, wait)?)?,
        Load::Pour { to, milliseconds, streams, wait } => {
            bulk::pour(to, milliseconds, streams, wait)?;
            String::new()
        }
        Load::Serve { port, wait } => {
            requests::serve(port, wait)?;
            String::new()
        }
        Load::Answer { port, wait } => {
            connections::serve(port, wait)?;
            String::new()
        }
        Load::Connect { to, milliseconds, wait } => {
            serde_json::to_string(&connections::connect_again(to, milliseconds, wait)?)?
        }
        Load::Ask { to, milliseconds, wait } => serde_json::to_string(&requests::ask(to, milliseconds, wait)?)?,
    };
    println!("{line}");
    Ok(())
}
