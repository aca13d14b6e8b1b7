//! How much to ask a TCP socket for at once.

/// Grows while reads fill what they asked for, shrinks when they are far from it: a busy stream gets 64 KiB a system call, a quiet one holds
/// little.
#[derive(Clone, Copy, Debug)]
pub struct ReadSize(usize);

/// What the first read asks for, and those of a stream that carries little.
const SMALLEST: usize = 4 * 1024;
/// The most.
const LARGEST: usize = 64 * 1024;

impl Default for ReadSize {
    fn default() -> Self {
        Self(SMALLEST)
    }
}

impl ReadSize {
    /// Bytes the next read asks for.
    pub const fn get(self) -> usize {
        self.0
    }

    /// A read gave `len` bytes.
    pub fn learn(&mut self, len: usize) {
        self.0 = match len {
            len if len >= self.0 => (self.0 * 4).min(LARGEST),
            len if len < self.0 / 4 => (self.0 / 4).max(SMALLEST),
            _ => self.0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_comes() {
        let mut size = ReadSize::default();
        let mut sizes = Vec::new();
        for len in [4096, 16_384, 65_536, 65_536, 20_000, 100, 100, 100] {
            size.learn(len);
            sizes.push(size.get());
        }
        assert_eq!(sizes, [16_384, 65_536, 65_536, 65_536, 65_536, 16_384, 4096, 4096]);
    }
}
