//! The verbs of this repository: `cargo xtask <verb>`. One file per verb.

mod bench;
mod budget;
mod build;
mod completions;
mod demo;
mod man;
mod process;
mod setup;
mod test;
mod test_programs;
mod tidy;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set up, build, show and test vpc-dataplane",
    after_help = "Examples:\n  cargo xtask demo            build everything and see it work\n  \
                  cargo xtask demo --keep     the same, and leave it up to play with\n  \
                  cargo xtask test            every check that CI runs\n  \
                  cargo xtask vm              two nodes on Debian's kernels 6.1 and 6.12\n  \
                  cargo xtask setup --check   what this machine has and lacks"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List or install what building, the demo and the tests need
    Setup(setup::Arguments),
    /// Build the kernel programs, the agent and the CLI
    Build(build::Arguments),
    /// Run the main job in network namespaces and show that it works
    Demo(demo::Arguments),
    /// Measure the datapath and the control plane, beside the kernel doing the same
    Bench(bench::Arguments),
    /// Run every check: format, lints, unit tests, packet cases, network scenarios
    Test(test::Arguments),
    /// Boot other kernels and run two nodes with real agents on each
    Vm(vm::Arguments),
    /// Compare what the kernel programs use of the verifier's limits, and packets ask of the maps, with what is recorded
    Budget(budget::Arguments),
    /// Check what the compiler and clippy do not: file length, words, file names, comments on unsafe
    Tidy,
    /// Write the man pages to target/man
    Man,
    /// Write the shell completions to target/completions
    Completions,
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup(arguments) => setup::run_verb(&arguments),
        Verb::Build(arguments) => build::run_verb(&arguments),
        Verb::Demo(arguments) => demo::run_verb(&arguments),
        Verb::Bench(arguments) => bench::run_verb(&arguments),
        Verb::Test(arguments) => test::run_verb(&arguments),
        Verb::Vm(arguments) => vm::run_verb(&arguments),
        Verb::Budget(arguments) => budget::run_verb(&arguments),
        Verb::Tidy => tidy::run_verb(),
        Verb::Man => man::run_verb(),
        Verb::Completions => completions::run_verb(),
    }
}
