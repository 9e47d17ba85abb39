//! What the kernel knows of interfaces, routes and neighbours, and the few things that are asked of it.

pub mod events;
pub mod links;
pub mod neighbours;
pub mod offload;
pub mod routes;
pub mod tunnel;

use thiserror::Error;

/// A netlink request failed.
#[derive(Debug, Error)]
#[error("{operation} {object}")]
pub struct NetlinkError {
    /// What was asked.
    pub operation: &'static str,
    /// Of what.
    pub object: String,
    /// What the kernel said.
    #[source]
    pub source: Box<rtnetlink::Error>,
}

impl NetlinkError {
    fn new(operation: &'static str, object: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let object = object.into();
        move |source| Self { operation, object, source: Box::new(source) }
    }
}

/// The number that the kernel answered with, positive, if it answered.
fn error_number(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}
