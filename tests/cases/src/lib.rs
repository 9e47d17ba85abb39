//! Packet cases as data: descriptions of packets and of what must become of them, in `tests/packets`, run on the host
//! build of the packet code and, by `BPF_PROG_TEST_RUN`, in the kernel. Both must agree byte for byte.
//!
//! [`case`] is the form of the files, [`packet`] the vocabulary of packets, [`host`] and [`kernel`] the two runners,
//! [`check`] says where reality differs, [`accesses`] what it took of the maps.

pub mod accesses;
pub mod case;
pub mod check;
pub mod fabric;
pub mod fuzz;
pub mod host;
pub mod kernel;
pub mod machine;
pub mod outcome;
pub mod packet;
pub mod runner;
pub mod state;
