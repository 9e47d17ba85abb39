//! What a program on an interface is for, as it is written into names of pins and filters.

use vpc_bpf::Hook;

/// What a link is for. Its pin's name is made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// A port, by its uid.
    Port(u64),
    /// The same in packet-rate mode: XDP in front of the port's own program.
    PortXdp(u64),
    /// The tunnel device.
    Tunnel,
    /// The far end of the offload device.
    Offload,
    /// An uplink, by its interface's name.
    Uplink(String, UplinkHook),
    /// A gateway's external interface, by its name.
    External(String),
}

/// Which of the two programs an uplink has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UplinkHook {
    /// XDP in the driver.
    Xdp,
    /// TC ingress.
    Tc,
}

impl LinkName {
    /// As the name of a pin or a filter.
    pub fn file(&self) -> String {
        match self {
            Self::Port(uid) => format!("port-{uid:016x}"),
            Self::PortXdp(uid) => format!("portxdp-{uid:016x}"),
            Self::Tunnel => "tunnel".to_owned(),
            Self::Offload => "offload".to_owned(),
            Self::External(device) => format!("external-{}", encode(device)),
            Self::Uplink(device, UplinkHook::Xdp) => format!("uplink-xdp-{}", encode(device)),
            Self::Uplink(device, UplinkHook::Tc) => format!("uplink-tc-{}", encode(device)),
        }
    }

    /// Reads what [`LinkName::file`] wrote.
    pub fn parse(file: &str) -> Option<Self> {
        match file {
            "tunnel" => return Some(Self::Tunnel),
            "offload" => return Some(Self::Offload),
            _ => {}
        }
        if let Some(uid) = file.strip_prefix("portxdp-") {
            return u64::from_str_radix(uid, 16).ok().map(Self::PortXdp);
        }
        if let Some(uid) = file.strip_prefix("port-") {
            return u64::from_str_radix(uid, 16).ok().map(Self::Port);
        }
        if let Some(device) = file.strip_prefix("external-") {
            return decode(device).map(Self::External);
        }
        let xdp = file.strip_prefix("uplink-xdp-").map(|device| (device, UplinkHook::Xdp));
        let (device, hook) = xdp.or_else(|| Some((file.strip_prefix("uplink-tc-")?, UplinkHook::Tc)))?;
        Some(Self::Uplink(decode(device)?, hook))
    }

    /// Where its program is attached. TC ingress may stand for a filter: see [`super::TcWay`].
    pub fn hook(&self) -> Hook {
        match self {
            Self::PortXdp(_) | Self::Uplink(_, UplinkHook::Xdp) => Hook::XdpNative,
            _ => Hook::TcxIngress,
        }
    }

    /// Name of its program.
    pub fn program(&self) -> &'static str {
        use vpc_common::maps::programs;
        match self {
            Self::Port(_) => programs::PORT,
            Self::PortXdp(_) => programs::PORT_XDP,
            Self::Tunnel => programs::TUNNEL,
            Self::Offload => programs::OFFLOAD,
            Self::External(_) => programs::EXTERNAL,
            Self::Uplink(_, UplinkHook::Xdp) => programs::UPLINK_XDP,
            Self::Uplink(_, UplinkHook::Tc) => programs::UPLINK_TC,
        }
    }
}

/// Names of interfaces may hold dots, which the BPF file system takes in no name.
fn encode(device: &str) -> String {
    device.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Option<String> {
    let digits = |start| text.get(start..start + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::{LinkName, UplinkHook};

    #[test]
    fn names_of_links_read_back() {
        for name in [
            LinkName::Port(0xfeed),
            LinkName::PortXdp(0xfeed),
            LinkName::Tunnel,
            LinkName::Offload,
            LinkName::Uplink("eth1.5".to_owned(), UplinkHook::Xdp),
            LinkName::External("eth2.7".to_owned()),
            LinkName::Uplink("bond-0".to_owned(), UplinkHook::Tc),
        ] {
            assert!(!name.file().contains('.'));
            assert_eq!(LinkName::parse(&name.file()), Some(name));
        }
        assert_eq!(LinkName::parse("port-00ff-next"), None);
        assert_eq!(LinkName::parse("tunnel-next"), None);
    }
}
