//! Listens on the control socket.

use super::{Answer, Envelope, Request, SOCKET, VERSION};
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

/// Longest request: the text of a topology.
const LONGEST_REQUEST: u64 = 256 << 20;

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Takes the answer.
    pub answer: oneshot::Sender<Answer>,
}

/// Listens in a run directory. Only root can connect.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(run_dir: &Path, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let path = run_dir.join(SOCKET);
    // The lock is ours: a socket that is there belongs to an agent that is gone.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, calls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept on the control socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn serve(mut stream: UnixStream, calls: mpsc::Sender<Call>) {
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == 0) {
        return;
    }
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(LONGEST_REQUEST));
    let mut line = String::new();
    while lines.read_line(&mut line).await.is_ok_and(|length| length > 0) {
        let answer = match serde_json::from_str::<Envelope>(&line) {
            Ok(Envelope { version: VERSION, request }) => ask(request, &calls).await,
            Ok(Envelope { version, .. }) => {
                Answer::Error(format!("this agent speaks version {VERSION} of the control protocol, not {version}"))
            }
            Err(error) => Answer::Error(format!("not understood: {error}")),
        };
        let Ok(mut bytes) = serde_json::to_vec(&answer) else { return };
        bytes.push(b'\n');
        if write.write_all(&bytes).await.is_err() {
            return;
        }
        line.clear();
    }
}

async fn ask(request: Request, calls: &mpsc::Sender<Call>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let ending = || Answer::Error("the agent is ending".to_owned());
    if calls.send(Call { request, answer }).await.is_err() {
        return ending();
    }
    answered.await.unwrap_or_else(|_| ending())
}
