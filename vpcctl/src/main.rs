//! The operator's command line.
//!
//! Exit codes: 0 done, 1 the answer is no (problems in a file), 2 wrong usage or a file that cannot be read.
#![forbid(unsafe_code)]

mod output;
mod verbs;

use clap::Parser;
use std::process::ExitCode;

/// Looks into and checks vpc-dataplane.
#[derive(Debug, Parser)]
#[command(name = "vpcctl", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    output: output::Options,
    #[command(subcommand)]
    verb: verbs::Verb,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.verb.run(&arguments.output) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vpcctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
