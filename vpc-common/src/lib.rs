//! The ABI that the kernel programs and the agent share. It holds layouts and numbers, no logic.
//!
//! *Invariant*: every map key and value is `repr(C)`, has no implicit padding (checked by `bytemuck::Pod`), and its
//! size is asserted. A change of any layout here raises [`ABI_VERSION`], which is part of the pin directory's name.
#![no_std]

pub mod addr;
pub mod bfd;
pub mod counters;
pub mod datagram;
pub mod drop;
pub mod endpoint;
pub mod gateway;
pub mod limits;
pub mod locate;
pub mod maps;
pub mod nat;
pub mod node;
pub mod offload;
pub mod policy;
pub mod port;
pub mod route;
pub mod session;
pub mod vtep;
pub mod wire;

pub use addr::{Be16, Be32, Ip, Mac, Vni};
pub use drop::DropReason;

/// Version of every layout in this crate. Maps of another version are never reused.
pub const ABI_VERSION: u32 = 11;
