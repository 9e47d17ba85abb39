//! The agent's program: arguments, log, run.

use clap::{CommandFactory, Parser};
use std::{io::IsTerminal, process::ExitCode};
use tracing_subscriber::EnvFilter;
use vpc_agent::args::{Arguments, Command, LogFormat, Run};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => {
            log(arguments.log_format);
            run(arguments)
        }
        Command::Generate(arguments) => {
            log(LogFormat::Text);
            arguments.run(Arguments::command()).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Run) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(vpc_agent::agent::run(arguments));
    // A compilation that is under way is of no use any more.
    runtime.shutdown_background();
    result
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("VPC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
