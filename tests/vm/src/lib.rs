//! The whole path on kernels other than this machine's.
//!
//! A [`machine::Machine`] boots a kernel under QEMU with a root file system of this repository's programs and the tools
//! that they are tested with ([`image::Image`]). Inside, `vpc-vm-scenario` builds two hypervisors in network namespaces,
//! runs a real agent on each and sends between their guests ([`scenario`]). The same scenario runs on this machine's
//! kernel as an ordinary test.

pub mod image;
pub mod machine;
pub mod scenario;

/// Begins every line on the console that is the scenario's.
pub const MARK: &str = "VM ";
/// Follows [`MARK`] on the last line where everything went well.
pub const PASSED: &str = "PASSED";
/// Follows [`MARK`] on the last line otherwise.
pub const FAILED: &str = "FAILED";
