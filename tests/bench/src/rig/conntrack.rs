//! Forgets the connections that the kernel tracks in a network namespace.

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::AsRawFd;
use vpc_lab::Netns;

/// `struct nlmsghdr` and `struct nfgenmsg`: IPCTNL_MSG_CT_DELETE of the conntrack subsystem, of nothing in particular,
/// with NLM_F_REQUEST and NLM_F_ACK.
const DELETE_ALL: [u8; 20] = [20, 0, 0, 0, 2, 1, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// As `conntrack -F` does.
pub(super) fn flush(netns: &Netns) -> Result<()> {
    netns.enter(|| {
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
                .context("a netlink socket")?;
        send(netlink.as_raw_fd(), &DELETE_ALL, MsgFlags::empty()).context("ask to flush conntrack")?;
        let mut answer = [0; 256];
        let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).context("flush conntrack")?;
        // Behind the header the error number of NLMSG_ERROR, 0: done.
        ensure!(
            length >= 20 && answer[16..20] == [0; 4],
            "the kernel does not flush conntrack: {:?}",
            &answer[..length]
        );
        Ok(())
    })?
}
