//! Headers in the bytes of a packet that programs read directly: the same for socket buffers and XDP frames.

use crate::opaque::opaque;
use bytemuck::Pod;
use vpc_datapath::packet::REACH;

/// A packet that knows where these bytes are.
pub trait Window {
    /// The address of the first byte, and the one behind the last.
    fn bounds(&self) -> (usize, usize);

    /// The place of a `T`, if all of it is there.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let (data, end) = self.bounds();
        let start = data + offset;
        if start + size_of::<T>() > end { None } else { Some(start as *mut T) }
    }
    /// A header.
    #[inline(always)]
    fn header<T: Pod>(&self, offset: usize) -> Option<&T> {
        // SAFETY: `at` checked the bounds; headers have alignment 1 and any bytes are valid.
        self.at(offset).map(|p| unsafe { &*p })
    }
    /// A header, to be changed.
    #[inline(always)]
    fn header_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T> {
        // SAFETY: as above, and `self` is borrowed for as long as the reference lives.
        self.at(offset).map(|p| unsafe { &mut *p })
    }
}

/// An offset that is known at run time only, so that the verifier knows its bounds and the compiler does not take them for
/// granted.
#[inline(always)]
pub fn variable(offset: usize) -> usize {
    opaque(offset) & REACH
}
