//! Packets: descriptions, their bytes, and comparison.

mod compare;
mod layer;
mod serialise;

pub use compare::{difference, show};
pub use layer::*;
pub use serialise::{Serialised, serialise};

use anyhow::Result;
use std::net::IpAddr;
use vpc_common::Mac;

/// What names in a description mean.
pub trait Names {
    /// The MAC of that name, or the MAC itself.
    ///
    /// # Errors
    /// Nothing has that name.
    fn mac(&self, name: &str) -> Result<Mac>;
    /// The address of that name and family, or the address itself.
    ///
    /// # Errors
    /// Nothing has that name.
    fn address(&self, name: &str, family: AddressFamily) -> Result<IpAddr>;
    /// The layers that a tunnel stands for.
    ///
    /// # Errors
    /// It names what is not there.
    fn tunnel(&self, tunnel: &Tunnel) -> Result<Vec<Layer>>;
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}
