//! Nodes, underlays and guests in network namespaces, for tests, the demo and benchmarks.
