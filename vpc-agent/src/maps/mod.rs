//! The maps: what they hold, what they should hold, and the ordered way from one to the other.

pub mod apply;
pub mod image;
pub mod locate;
pub mod outside;
pub mod plan;
pub mod tables;

pub use apply::apply;
pub use image::{Image, Wanted};
pub use plan::{Plan, plan};
pub use tables::Tables;
