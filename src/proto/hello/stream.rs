//! A ClientHello that comes in pieces: from CRYPTO frames as it is, over TCP in TLS records (RFC 8446 §5.1).

use super::{Hello, Malformed, Over};

/// Bytes held while a ClientHello is not whole. Those of browsers are 2 KiB at most, post-quantum key share included.
pub const MAX_HELLO: usize = 16 * 1024;

/// Gathers what a client sends first until its ClientHello is whole.
#[derive(Debug)]
pub struct HelloStream {
    over: Over,
    /// The handshake's bytes.
    held: Vec<u8>,
    /// TCP: the header of the record that comes, as far as it came.
    header: Vec<u8>,
    /// TCP: bytes of the record that are still to come.
    record: usize,
}

/// Why no ClientHello will come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not even TLS.
    #[error("the client does not speak TLS")]
    NotTls,
    /// The client ended the handshake itself.
    #[error("the client sent an alert before its ClientHello was whole")]
    Alert,
    /// More than [`MAX_HELLO`].
    #[error("it is longer than {MAX_HELLO} bytes")]
    TooLong,
}

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

impl HelloStream {
    /// Nothing has come yet.
    pub fn new(over: Over) -> Self {
        Self { over, held: Vec::new(), header: Vec::new(), record: 0 }
    }

    /// What was gathered of the handshake: all of it goes on to TLS. Nothing is left.
    pub fn take_held(&mut self) -> Vec<u8> {
        self.header.clear();
        std::mem::take(&mut self.held)
    }

    /// How much was gathered.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.header.is_empty()
    }

    /// More bytes; the ClientHello once it is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Hello>, Broken> {
        match self.over {
            Over::Quic => self.held.extend_from_slice(bytes),
            Over::Tcp => self.records(bytes)?,
        }
        match Hello::parse(&self.held, self.over)? {
            None if self.held.len() > MAX_HELLO => Err(Broken::TooLong),
            hello => Ok(hello),
        }
    }

    /// Takes records apart, as long as they are the handshake's.
    fn records(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        while !bytes.is_empty() && self.held.len() <= MAX_HELLO {
            if self.record == 0 {
                let (taken, rest) = bytes.split_at(bytes.len().min(5 - self.header.len()));
                self.header.extend_from_slice(taken);
                bytes = rest;
                match self.header[0] {
                    HANDSHAKE => {}
                    ALERT => return Err(Broken::Alert),
                    _ => return Err(Broken::NotTls),
                }
                if let [_, 3, _, high, low] = self.header[..] {
                    self.record = usize::from(u16::from_be_bytes([high, low]));
                    self.header.clear();
                } else if self.header.len() > 1 && self.header[1] != 3 {
                    return Err(Broken::NotTls);
                }
            } else {
                let (taken, rest) = bytes.split_at(bytes.len().min(self.record));
                self.held.extend_from_slice(taken);
                self.record -= taken.len();
                bytes = rest;
            }
        }
        Ok(())
    }
}
