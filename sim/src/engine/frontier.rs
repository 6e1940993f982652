//! Packed states waiting for their turn, each behind a header. Not a queue: the order of blocks
//! is the business of the engine.

/// Entries of one block, the unit of work a thread takes.
pub const BLOCK: usize = 256;

/// Encodings back to back in one buffer, so that an entry costs no allocation.
pub struct Packed<H> {
    bytes: Vec<u8>,
    entries: Vec<(H, u32)>,
}

impl<H> Default for Packed<H> {
    fn default() -> Self {
        Packed {
            bytes: Vec::new(),
            entries: Vec::new(),
        }
    }
}

impl<H: Copy> Packed<H> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    pub fn push(&mut self, header: H, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.entries.push((header, end(&self.bytes)));
    }

    /// Lets `write` append an encoding in place and makes the header from it; without a header
    /// the encoding is dropped.
    pub fn push_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        header: impl FnOnce(&[u8]) -> Option<H>,
    ) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        match header(&self.bytes[start..]) {
            Some(header) => self.entries.push((header, end(&self.bytes))),
            None => self.bytes.truncate(start),
        }
    }

    pub fn header(&self, entry: usize) -> Option<&H> {
        self.entries.get(entry).map(|(header, _)| header)
    }

    /// An entry that is there.
    pub fn get(&self, entry: usize) -> (H, &[u8]) {
        let start = entry
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].1);
        let (header, end) = self.entries[entry];
        (header, &self.bytes[start as usize..end as usize])
    }

    pub fn headers(&self) -> impl Iterator<Item = &H> {
        self.entries.iter().map(|(header, _)| header)
    }

    pub fn iter(&self) -> impl Iterator<Item = (H, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |&(header, end)| {
            let bytes = &self.bytes[start..end as usize];
            start = end as usize;
            (header, bytes)
        })
    }

    /// Bytes really allocated.
    pub fn allocated(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<(H, u32)>()
    }
}

#[inline]
fn end(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a block of packed states stays below 4 GiB")
}
