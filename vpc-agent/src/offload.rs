//! The offload device, in which the kernel finishes what must be cut: see `vpc_datapath::offload`.

use crate::{
    attach::LinkName,
    control::report::Attachment,
    datapath::Datapath,
    netlink::offload::{self, Ends},
    reconcile::{Outcome, chain},
};
use rtnetlink::Handle;

/// Makes the device and attaches its program, before anything leads there. Returns its index; 0 where it cannot be used.
pub async fn attach(handle: &Handle, datapath: &mut Datapath, outcome: &mut Outcome) -> u32 {
    let mut row = Attachment {
        role: "offload".to_owned(),
        name: offload::FAR.to_owned(),
        device: offload::FAR.to_owned(),
        ..Attachment::default()
    };
    let result = match offload::ensure(handle).await {
        Ok(Ends { near, far }) => {
            (row.ifindex, row.mtu) = (far.index, far.mtu);
            let attached = datapath.attach(&LinkName::Offload, far.index);
            attached.map(|()| near.index).map_err(|error| chain(&error))
        }
        Err(error) => Err(chain(&error)),
    };
    let index = match result {
        Ok(index) => {
            row.mode = datapath.way().mode().to_owned();
            let why = "the kernel cuts segments and finishes checksums of what must be fragmented";
            row.reason = datapath.way().explain(why);
            index
        }
        Err(reason) => {
            row.mode = "failed".to_owned();
            outcome.problems.push(format!("offload: {reason}"));
            row.reason = reason;
            0
        }
    };
    outcome.attachments.push(row);
    index
}
