//! Bytes as `vpc_datapath::Packet`.

use bytemuck::Pod;
use std::collections::BTreeMap;
use vpc_common::{offload::Mark, wire::Ethernet};
use vpc_datapath::{
    Packet, checksum,
    packet::{BUFFER, CopyTarget, NoRoom, REACH, Repeat, Step},
};

/// What undefined bytes are.
const UNDEFINED: u8 = 0xaa;
/// More than this cannot be summed in the kernel.
const LONGEST_SUM: u32 = 2_048;

/// A frame.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    bytes: Vec<u8>,
    gso_size: u32,
    finished: bool,
    mark: u32,
    vlan_tag: bool,
    aside: Vec<u8>,
    copies: BTreeMap<u32, Vec<Vec<u8>>>,
}

impl Frame {
    /// A frame of those bytes.
    pub fn new(bytes: &[u8], gso_size: u32) -> Self {
        Self { bytes: bytes.to_vec(), gso_size, ..Self::default() }
    }
    /// A frame as it comes out of the offload device.
    pub fn finished(bytes: Vec<u8>) -> Self {
        Self { bytes, finished: true, ..Self::default() }
    }
    /// With what it was marked for the offload device.
    pub fn mark(&self) -> u32 {
        self.mark
    }
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// The copies that were sent, by interface.
    pub fn take_copies(&mut self) -> BTreeMap<u32, Vec<Vec<u8>>> {
        std::mem::take(&mut self.copies)
    }
    /// The inverse of [`Frame::take_copies`].
    pub fn put_copies(&mut self, copies: BTreeMap<u32, Vec<Vec<u8>>>) {
        self.copies = copies;
    }
    /// Takes a VLAN tag out of the frame, as the kernel does before it shows the frame to TC.
    pub fn take_vlan_tag(&mut self) {
        if let Some([0x81, 0x00] | [0x88, 0xa8]) = self.bytes.get(12..14) {
            self.bytes.drain(12..self.bytes.len().min(16));
            self.vlan_tag = true;
        }
    }
    /// Removes bytes in front, as a tunnel device does.
    pub fn cut_front(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
    }
}

impl Packet for Frame {
    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }
    fn gso_size(&self) -> u32 {
        self.gso_size
    }
    fn shrink_segments(&mut self, by: u32) -> Result<(), NoRoom> {
        self.gso_size = self.gso_size.checked_sub(by).ok_or(NoRoom)?;
        Ok(())
    }
    fn is_finished(&self) -> bool {
        self.finished
    }
    fn mark(&mut self, mark: Mark) {
        self.mark = mark.bits();
    }
    fn has_vlan_tag(&self) -> bool {
        self.vlan_tag
    }
    fn get<T: Pod>(&self, offset: usize) -> Option<&T> {
        bytemuck::try_from_bytes(self.bytes.get(offset..offset + size_of::<T>())?).ok()
    }
    fn get_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T> {
        bytemuck::try_from_bytes_mut(self.bytes.get_mut(offset..offset + size_of::<T>())?).ok()
    }
    fn get_at<T: Pod>(&self, offset: usize) -> Option<&T> {
        self.get(offset & REACH)
    }
    fn get_at_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T> {
        self.get_mut(offset & REACH)
    }
    fn pull(&mut self, _length: u32) {}
    fn sum(&mut self, offset: u32, length: u32) -> Result<u64, NoRoom> {
        if length >= LONGEST_SUM {
            return Err(NoRoom);
        }
        self.take_aside(offset, length)?;
        Ok(checksum::sum(&self.aside))
    }
    fn take_aside(&mut self, offset: u32, length: u32) -> Result<(), NoRoom> {
        if length == 0 || length >= BUFFER {
            return Err(NoRoom);
        }
        let range = offset as usize..offset as usize + length as usize;
        self.aside = self.bytes.get(range).ok_or(NoRoom)?.to_vec();
        Ok(())
    }
    fn put_back(&mut self, from: u32, offset: u32, length: u32) -> Result<(), NoRoom> {
        if length == 0 || length >= BUFFER {
            return Err(NoRoom);
        }
        let (from, offset, length) = (from as usize, offset as usize, length as usize);
        let taken = self.aside.get(from..from + length).ok_or(NoRoom)?;
        self.bytes.get_mut(offset..offset + length).ok_or(NoRoom)?.copy_from_slice(taken);
        Ok(())
    }
    fn encapsulate(&mut self, overhead: u32) -> Result<(), NoRoom> {
        let opened = vec![UNDEFINED; overhead as usize];
        self.bytes.splice(0..0, opened);
        let inner = overhead as usize..overhead as usize + size_of::<Ethernet>();
        self.bytes.get_mut(inner).ok_or(NoRoom)?.fill(UNDEFINED);
        Ok(())
    }
    fn open_front(&mut self, overhead: u32) -> Result<(), NoRoom> {
        self.encapsulate(overhead)
    }
    fn decapsulate(&mut self, overhead: u32) -> Result<(), NoRoom> {
        if self.bytes.len() < overhead as usize + size_of::<Ethernet>() {
            return Err(NoRoom);
        }
        self.cut_front(overhead as usize);
        Ok(())
    }
    fn insert_l3(&mut self, bytes: u32) -> Result<(), NoRoom> {
        self.encapsulate(bytes)
    }
    fn resize(&mut self, length: u32) -> Result<(), NoRoom> {
        self.bytes.resize(length as usize, 0);
        self.gso_size = 0;
        Ok(())
    }
    fn send_copy(&mut self, target: CopyTarget) {
        let CopyTarget::Interface(index) = target;
        self.copies.entry(index).or_default().push(self.bytes.clone());
    }
    fn repeat<S: Step>(times: u32, step: &mut S) {
        for index in 0..times {
            if step.step(index) == Repeat::Stop {
                return;
            }
        }
    }
}
