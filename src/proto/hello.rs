//! The ClientHello (RFC 8446 §4.1.2): what a client offers, in which order, and how it names itself by that (JA4).
//!
//! ```
//! use masque_relay::proto::hello::{Hello, Over};
//! assert_eq!(Hello::parse(&[1, 0, 0], Over::Quic), Ok(None), "not whole yet");
//! assert!(Hello::parse(&[2, 0, 0, 0], Over::Quic).is_err(), "another message");
//! ```
//!
//! It is read leniently: an extension whose body makes no sense is named in [`Hello::damaged`], and the rest is read. Everything kept is bounded;
//! [`Hello::cut`] says when there was more.

mod ja4;
mod names;
mod parameters;
mod reader;
mod stream;
mod text;

use serde::{Deserialize, Serialize};

use ja4::Offered;
pub use names::{cipher_name, extension_name, group_name, is_grease, signature_name, version_name};
pub use parameters::{Parameter, Parameters, parameter_name};
use reader::Reader;
pub use stream::{Broken, HelloStream, MAX_HELLO};

/// Numbers kept of each list, and of all together; browsers send at most 20 and 60, what has all of OpenSSL some 40 and 100.
const ENTRIES: usize = 64;
const IN_ALL: usize = 112;
/// Certificate types kept of a list: there are three.
const TYPES: usize = 8;
/// Protocol names kept, and characters of each.
const ALPNS: usize = 4;
const ALPN_LEN: usize = 32;
/// Characters kept of the name asked for: as long as one may be.
const NAME_LEN: usize = 253;

/// Bytes that one takes at most, whatever a client sends.
pub const ROOM: usize = 1344;

/// What a client offers. Numbers are the registered ones, GREASE included, in the client's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// What it came over.
    pub over: Over,
    /// Bytes of the ClientHello with its header; what was seen of it if [`Self::unread`] is set.
    pub length: usize,
    /// The host it asks for (RFC 6066 §3).
    pub sni: Option<String>,
    /// The protocols above TLS (RFC 7301); bytes that are not printable ASCII are escaped.
    pub alpn: Vec<String>,
    /// `legacy_version`: 0x0303 of everything current.
    pub legacy_version: u16,
    /// supported_versions.
    pub versions: Vec<u16>,
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// supported_groups.
    pub groups: Vec<u16>,
    /// Groups with a key share, which need no HelloRetryRequest.
    pub key_shares: Vec<u16>,
    /// signature_algorithms.
    pub signatures: Vec<u16>,
    /// Extensions, in their order.
    pub extensions: Vec<u16>,
    /// Certificate types it takes from the server (RFC 7250): 0 X.509, 2 raw public key. Empty: not said, so X.509.
    pub server_certificate_types: Vec<u8>,
    /// Certificate types it can give.
    pub client_certificate_types: Vec<u8>,
    /// Sessions it wants to resume: pre-shared keys (TLS 1.3), or a session ticket (1.2).
    pub tickets: usize,
    /// It sends early data.
    pub early_data: bool,
    /// QUIC transport parameters (RFC 9001 §8.2).
    pub parameters: Option<Parameters>,
    /// JA4 of what was offered, whole lists.
    pub ja4: String,
    /// Extensions whose body does not parse.
    pub damaged: Vec<u16>,
    /// A list was longer than is kept.
    pub cut: bool,
    /// Why nothing but [`Self::length`] is known, where it is so.
    pub unread: Option<String>,
}

/// What a ClientHello came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// QUIC.
    #[default]
    Quic,
    /// TLS over TCP.
    Tcp,
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// Certificate types (RFC 7250 §3): a certificate, or a SubjectPublicKeyInfo in place of it.
const X509: u8 = 0;
const RAW_PUBLIC_KEY: u8 = 2;

const CLIENT_HELLO: u8 = 1;

impl Hello {
    /// Reads the ClientHello that `bytes` start with; `None` while it is not whole. What follows it is left alone.
    pub fn parse(bytes: &[u8], over: Over) -> Result<Option<Self>, Malformed> {
        match bytes.first() {
            None => return Ok(None),
            Some(&CLIENT_HELLO) => {}
            Some(_) => return Err(Malformed("the first message is no ClientHello")),
        }
        let Some(length) = bytes.get(1..4).map(|length| length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))) else {
            return Ok(None);
        };
        let Some(body) = bytes.get(4..4 + length) else { return Ok(None) };
        let mut hello = Self { over, length: 4 + length, ..Self::default() };
        hello.read(Reader(body)).ok_or(Malformed("the ClientHello breaks off inside"))?;
        Ok(Some(hello))
    }

    /// One of which nothing is known but that `length` bytes of it came, and why.
    pub fn unread(over: Over, length: usize, why: impl Into<String>) -> Self {
        Self { over, length, unread: Some(why.into()), ..Self::default() }
    }

    /// The client would rather have a raw public key from the server than a certificate (RFC 7250 §4.1: types in its order of preference).
    pub fn prefers_raw_key(&self) -> bool {
        self.server_certificate_types.iter().find(|kind| [X509, RAW_PUBLIC_KEY].contains(kind)) == Some(&RAW_PUBLIC_KEY)
    }

    fn read(&mut self, mut body: Reader<'_>) -> Option<()> {
        self.legacy_version = body.u16()?;
        body.take(32)?; // random
        body.vec8()?; // legacy_session_id
        let mut offered = Offered { ciphers: body.vec16()?.u16s()?, ..Offered::default() };
        body.vec8()?; // legacy_compression_methods
        // TLS 1.2 may leave extensions out altogether (RFC 5246 §7.4.1.2).
        let mut extensions = if body.0.is_empty() { Reader(&[]) } else { body.vec16()? };
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let payload = extensions.vec16()?;
            offered.extensions.push(kind);
            if self.extension(kind, payload, &mut offered).is_none() {
                self.keep(&[kind], |hello| &mut hello.damaged);
            }
        }
        self.ja4 = ja4::ja4(self, &offered);
        self.keep(&offered.versions, |hello| &mut hello.versions);
        self.keep(&offered.ciphers, |hello| &mut hello.ciphers);
        self.keep(&offered.extensions, |hello| &mut hello.extensions);
        self.keep(&offered.signatures, |hello| &mut hello.signatures);
        Some(())
    }

    /// `None`: its body makes no sense.
    fn extension<'a>(&mut self, kind: u16, mut body: Reader<'a>, offered: &mut Offered<'a>) -> Option<()> {
        match kind {
            0 => {
                let mut names = body.vec16()?;
                // host_name is the only type there is, and stands once.
                let (kind, name) = (names.u8()?, names.vec16()?);
                if kind != 0 || name.0.is_empty() {
                    return None;
                }
                self.sni = Some(self.printable(name.0, NAME_LEN));
            }
            10 => self.keep(&body.vec16()?.u16s()?, |hello| &mut hello.groups),
            13 => offered.signatures = body.vec16()?.u16s()?,
            16 => {
                let mut names = body.vec16()?;
                while !names.0.is_empty() {
                    let name = names.vec8()?.0;
                    if self.alpn.is_empty() {
                        offered.first_alpn = name;
                    }
                    if self.alpn.len() < ALPNS {
                        let name = self.printable(name, ALPN_LEN);
                        self.alpn.push(name);
                    } else {
                        self.cut = true;
                    }
                }
            }
            19 => self.client_certificate_types = self.types(body.vec8()?),
            20 => self.server_certificate_types = self.types(body.vec8()?),
            35 => self.tickets += usize::from(!body.0.is_empty()),
            41 => {
                let mut identities = body.vec16()?;
                while !identities.0.is_empty() {
                    identities.vec16()?;
                    identities.take(4)?; // obfuscated_ticket_age
                    self.tickets += 1;
                }
            }
            42 => self.early_data = true,
            43 => offered.versions = body.vec8()?.u16s()?,
            51 => {
                let (mut shares, mut groups) = (body.vec16()?, Vec::new());
                while !shares.0.is_empty() {
                    groups.push(shares.u16()?);
                    shares.vec16()?;
                }
                self.keep(&groups, |hello| &mut hello.key_shares);
            }
            57 => self.parameters = Some(Parameters::parse(body.0)),
            _ => {}
        }
        Some(())
    }

    fn types(&mut self, list: Reader<'_>) -> Vec<u8> {
        self.cut |= list.0.len() > TYPES;
        list.0[..list.0.len().min(TYPES)].to_vec()
    }

    /// As many as are kept, at `place`.
    fn keep(&mut self, entries: &[u16], place: impl FnOnce(&mut Self) -> &mut Vec<u16>) {
        let in_all = IN_ALL - self.numbers().map(Vec::len).iter().sum::<usize>();
        let list = place(self);
        let room = (ENTRIES - list.len()).min(in_all).min(entries.len());
        list.reserve_exact(room);
        list.extend_from_slice(&entries[..room]);
        self.cut |= room < entries.len();
    }

    fn numbers(&self) -> [&Vec<u16>; 7] {
        [&self.versions, &self.ciphers, &self.groups, &self.key_shares, &self.signatures, &self.extensions, &self.damaged]
    }

    /// Bytes of the network as people may see them.
    fn printable(&mut self, bytes: &[u8], most: usize) -> String {
        let mut text = bytes[..bytes.len().min(most)].escape_ascii().to_string();
        self.cut |= bytes.len() > most || text.len() > most;
        // Escaped, so ASCII.
        text.truncate(most);
        text.shrink_to_fit();
        text
    }
}

#[cfg(test)]
mod tests;
