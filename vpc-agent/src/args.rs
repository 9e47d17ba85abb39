//! The command line.

use crate::attach::TcWish;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use vpc_bpf::Sizes;
use vpc_common::limits;

/// Keeps this hypervisor's kernel datapath as the topology wants it.
#[derive(Debug, Parser)]
#[command(name = "vpc-agent", version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run in the foreground until SIGTERM. Packets go on without it.
    #[command(
        args_override_self = true,
        after_help = "Examples:\n  vpc-agent run --node hv1 --topology /etc/vpc/topology.yaml\n  \
                            vpc-agent run --node hv1 --topology topology.yaml --sessions 262144 --log-format json"
    )]
    Run(Run),
    /// Write man pages or completions.
    #[command(hide = true)]
    Generate(crate::generate::Generate),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Name of this node in the topology.
    #[arg(long)]
    pub node: String,
    /// The topology file. It is watched; edits in place and replacement by rename both count.
    #[arg(long, value_name = "FILE")]
    pub topology: PathBuf,
    /// Directory of the control socket, the lock and the last good topology.
    #[arg(long, value_name = "DIR", default_value = crate::control::RUN_DIR)]
    pub run_dir: PathBuf,
    /// Where a BPF file system is, or is mounted if none is there.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// How programs get to TC ingress; for tests of one way on a kernel that has both.
    #[arg(long, value_enum, default_value_t = TcWish::Auto, hide = true)]
    pub attach: TcWish,
    /// Sizes of the maps.
    #[command(flatten)]
    pub sizes: MapSizes,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sizes of the maps. Where one differs from the running map's, a new map is filled from the old one.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Map sizes (entries)")]
pub struct MapSizes {
    /// Local ports, those of routers included.
    #[arg(long, value_name = "N", default_value_t = limits::LOCAL_PORTS, value_parser = clap::value_parser!(u32).range(1..=8_192))]
    pub ports: u32,
    /// Endpoints that the node knows.
    #[arg(long, value_name = "N", default_value_t = limits::ENDPOINTS, value_parser = entries())]
    pub endpoints: u32,
    /// Routes of all tables.
    #[arg(long, value_name = "N", default_value_t = limits::ROUTES, value_parser = entries())]
    pub routes: u32,
    /// Most sessions of each address family.
    #[arg(long, value_name = "N", default_value_t = limits::SESSIONS, value_parser = entries())]
    pub sessions: u32,
    /// Sessions that there is room for at first. When half of that is used the tables grow, up to `--sessions`.
    #[arg(long, value_name = "N", default_value_t = limits::SESSIONS_AT_START, value_parser = entries())]
    pub sessions_at_start: u32,
    /// Most NAT mappings. There is room for as many as for sessions, but not for more than this.
    #[arg(long, value_name = "N", default_value_t = limits::NAT_MAPPINGS, value_parser = entries())]
    pub nat_mappings: u32,
    /// Source prefixes over all local ports.
    #[arg(long, value_name = "N", default_value_t = limits::SOURCES, value_parser = entries())]
    pub sources: u32,
    /// Members of all flood lists.
    #[arg(long, value_name = "N", default_value_t = limits::FLOOD_MEMBERS, value_parser = entries())]
    pub flood_members: u32,
    /// Single addresses that security groups and network ACLs tell apart, over all local ports, and as many blocks.
    #[arg(long, value_name = "N", default_value_t = limits::SUBJECTS, value_parser = entries())]
    pub subjects: u32,
    /// Sets of groups that they tell apart.
    #[arg(long, value_name = "N", default_value_t = limits::IDENTITIES, value_parser = entries())]
    pub identities: u32,
    /// Compiled rules of all local ports.
    #[arg(long, value_name = "N", default_value_t = limits::RULES, value_parser = entries())]
    pub rules: u32,
}

fn entries() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 28)
}

impl From<MapSizes> for Sizes {
    fn from(sizes: MapSizes) -> Self {
        Self {
            local_ports: sizes.ports,
            endpoints: sizes.endpoints,
            routes: sizes.routes,
            sessions: sizes.sessions,
            nat_mappings: sizes.nat_mappings,
            sources: sizes.sources,
            flood_members: sizes.flood_members,
            subjects: sizes.subjects,
            identities: sizes.identities,
            rules: sizes.rules,
        }
    }
}

impl From<MapSizes> for vpc_topology::Limits {
    fn from(sizes: MapSizes) -> Self {
        Self {
            local_ports: sizes.ports,
            endpoints: sizes.endpoints,
            routes: sizes.routes,
            sources: sizes.sources,
            flood_members: sizes.flood_members,
            sessions: sizes.sessions,
            subjects: sizes.subjects,
            identities: sizes.identities,
            rules: sizes.rules,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["vpc-agent", "run", "--node", "hv1", "--topology", "t.yaml"]).is_ok());
        assert!(
            Arguments::try_parse_from(["vpc-agent", "run", "--node", "hv1", "--topology", "t", "--ports", "0"])
                .is_err()
        );
    }
}
