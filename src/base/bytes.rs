//! Checked access to bytes from outside: every read says what it wanted and what was there.

use smallvec::SmallVec;

/// The bytes of a frame that is kept beside what is made of it. Short ones, as most questions and answers of a line are, stand in
/// their place without memory of their own.
pub type FrameBytes = SmallVec<[u8; 24]>;

/// A read past the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes wanted at offset {offset}, {left} left")]
pub struct ShortRead {
    /// Where the read began.
    pub offset: usize,
    /// How many bytes it wanted.
    pub wanted: usize,
    /// How many were left.
    pub left: usize,
}

/// A cursor over borrowed bytes. Multi-byte reads name their byte order.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// How many bytes were read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.offset >= self.bytes.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`ShortRead`] when fewer are left; nothing is consumed then.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ShortRead> {
        let rest = self.rest();
        let taken = rest.get(..count).ok_or(ShortRead {
            offset: self.offset,
            wanted: count,
            left: rest.len(),
        })?;
        self.offset += count;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`ShortRead`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ShortRead> {
        let (offset, left) = (self.offset, self.rest().len());
        self.take(N)?.try_into().map_err(|_| ShortRead {
            offset,
            wanted: N,
            left,
        })
    }

    /// One byte.
    ///
    /// # Errors
    /// [`ShortRead`] at the end.
    pub fn u8(&mut self) -> Result<u8, ShortRead> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    /// Two bytes, high first.
    ///
    /// # Errors
    /// [`ShortRead`] when fewer are left.
    pub fn u16_be(&mut self) -> Result<u16, ShortRead> {
        self.array().map(u16::from_be_bytes)
    }

    /// Two bytes, low first.
    ///
    /// # Errors
    /// [`ShortRead`] when fewer are left.
    pub fn u16_le(&mut self) -> Result<u16, ShortRead> {
        self.array().map(u16::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_reads_consume_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16_be(), Ok(0x0102));
        assert_eq!(
            reader.u16_le(),
            Err(ShortRead {
                offset: 2,
                wanted: 2,
                left: 1
            })
        );
        assert_eq!(reader.u8(), Ok(3));
        assert!(reader.is_empty());
    }
}
