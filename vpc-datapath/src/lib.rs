//! Packet logic of the VPC router, free of I/O.
