//! Build, set-up, test and benchmark verbs of this repository.

fn main() {}
