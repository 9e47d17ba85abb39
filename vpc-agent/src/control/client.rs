//! The other end of the control socket: what `vpcctl` uses.

use super::{Answer, Envelope, Request, SOCKET, VERSION};
use serde::de::DeserializeOwned;
use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The agent could not be asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no vpc-agent answers at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("ask the vpc-agent")]
    Exchange(#[source] io::Error),
    /// The answer cannot be read.
    #[error("read the answer of the vpc-agent")]
    Answer(#[source] serde_json::Error),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent whose run directory that is.
///
/// # Errors
/// Where none answers, or it refuses.
pub fn ask<T: DeserializeOwned>(run_dir: &Path, request: Request) -> Result<T, ClientError> {
    let path = run_dir.join(SOCKET);
    let mut stream = UnixStream::connect(&path).map_err(|source| ClientError::Connect { path, source })?;
    let envelope = Envelope { version: VERSION, request };
    let mut line = serde_json::to_vec(&envelope).map_err(ClientError::Answer)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(ClientError::Exchange)?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).map_err(ClientError::Exchange)?;
    match serde_json::from_str(&text).map_err(ClientError::Answer)? {
        Answer::Ok(value) => serde_json::from_value(value).map_err(ClientError::Answer),
        Answer::Error(message) => Err(ClientError::Refused(message)),
    }
}
