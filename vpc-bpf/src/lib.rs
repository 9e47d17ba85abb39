//! Loads the kernel programs and gives typed access to their maps.
//!
//! The object is compiled by `build.rs` and is part of this library: an agent and its programs are always of one
//! version. Everything that talks to `bpf(2)` is here, so the rest of userspace needs no `unsafe` for it.

mod copy;
mod features;
mod filter;
mod frames;
mod generic;
mod handover;
mod link;
mod loader;
mod map;
mod netlink;
mod offloads;
mod program;
mod readers;
mod sizes;
mod syscall;
mod table;
mod test_run;
mod verified;

pub use features::{FeatureQuery, XdpFeatures};
pub use filter::{Filter, Filters, ForeignFilter};
pub use frames::FrameSocket;
pub use link::{Hook, Link, LinkInfo, has_tcx, tcx_ingress_programs};
pub use loader::{LoadError, Loaded, Loader, kernel_release};
pub use map::{MapDescription, memory};
pub use offloads::{RECEIVE_OFFLOADS, TRANSMIT_OFFLOADS, switch_off};
pub use program::{ProgramInfo, program_info, program_info_by_id};
pub use readers::Readers;
pub use sizes::Sizes;
pub use table::{PerCpuTable, Table, TableError};
pub use test_run::{Frames, TestResult, TestRun, test_run};

/// The compiled kernel object.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vpc-dataplane.o"));
