//! Fills a new map with the entries of an old one of another size.

use crate::{TableError, table::RawTable};

/// Copies what fits. Where the layouts differ nothing can be taken over.
///
/// The entries of an array beyond the new size are left out: whoever shrinks the table of ports below its highest
/// used slot has that port given another slot. A hash that becomes too small is an error, except that the caller's
/// own traffic may have filled it: then the rest is decided again.
pub(crate) fn copy_entries(old: &RawTable, new: &RawTable) -> Result<(), TableError> {
    if !old.description.same_layout(&new.description) {
        return Ok(());
    }
    let entries = new.description.max_entries;
    let is_array = old.description.is_array();
    let (key_size, stride) = (old.description.key_size as usize, old.value_stride);
    let mut result = Ok(());
    old.for_each_batch(|keys, values| {
        if result.is_err() {
            return;
        }
        let count = if is_array {
            let below = |key: &&[u8]| u32::from_ne_bytes([key[0], key[1], key[2], key[3]]) < entries;
            keys.chunks_exact(key_size).take_while(below).count()
        } else {
            keys.len() / key_size
        };
        result = new.set_batch(&keys[..count * key_size], &values[..count * stride], count);
    })?;
    match result {
        Err(TableError::Call { source, .. }) if source.raw_os_error() == Some(libc::E2BIG) => Ok(()),
        result => result,
    }
}
