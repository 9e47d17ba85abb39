//! The kernel object, its loader, and the bpf() calls that aya lacks.
