//! Tells the service manager how the agent is: `sd_notify(3)`, never waiting for it.

use crate::control::report::TopologyStatus;
use std::{
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The status in one line. A rejected file counts as a problem, which the agent's own status shows apart from the others.
pub fn status_line(topology: &TopologyStatus, ports: usize, problems: usize) -> String {
    let counted = |count, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let problems = problems + usize::from(!topology.errors.is_empty());
    format!("topology: {}, {}, {}", topology.state, counted(ports, "port"), counted(problems, "problem"))
}

/// The service manager's socket.
#[derive(Debug)]
pub struct ServiceManager {
    /// None where no service manager wants to know.
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The service manager that the environment names.
    pub fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|path| {
            connect(&path).inspect_err(|error| tracing::warn!(%error, "reach the service manager")).ok()
        });
        let microseconds = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let own = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        Self { socket, watchdog: microseconds.filter(|_| own).map(Duration::from_micros) }
    }

    /// The agent works; `status` is one line for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Another status.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// The agent is alive. Said only to who asked for it.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// The agent is ending.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        // One that does not read its socket must not stop the agent: the message is lost then.
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(message.as_bytes())) {
            tracing::debug!(%error, message, "tell the service manager");
        }
    }
}

fn connect(path: &OsString) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{ServiceManager, TopologyStatus, connect, status_line};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_rejected_file_is_counted_among_the_problems() {
        let mut topology = TopologyStatus { state: "file".to_owned(), ..TopologyStatus::default() };
        assert_eq!(status_line(&topology, 2, 0), "topology: file, 2 ports, 0 problems");
        (topology.state, topology.errors) = ("last_good".to_owned(), "error: no such VPC".to_owned());
        assert_eq!(status_line(&topology, 1, 0), "topology: last_good, 1 port, 1 problem");
    }

    #[test]
    fn a_service_manager_that_does_not_read_stops_nobody() {
        let path = std::env::temp_dir().join(format!("vag-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = connect(&path.clone().into_os_string()).unwrap();
        let notifier = ServiceManager { socket: Some(socket), watchdog: None };
        notifier.ready("well");
        for _ in 0..10_000 {
            notifier.status("still well");
        }
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=well");
        std::fs::remove_file(path).unwrap();
    }
}
