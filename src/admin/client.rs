//! The asking side of the admin socket, for commands: it waits, and needs no runtime.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use super::{Answer, Ask, PATIENCE};

/// The longest answer taken, bytes: a hundred times what a record has.
const LONGEST: u64 = 1 << 20;

/// A connection to a running relay.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Answers to one question, until their end. What the relay refuses is an error.
#[derive(Debug)]
pub struct Answers<'a> {
    client: &'a mut Client,
    over: bool,
}

/// Why there is no answer, or no more.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The relay says no.
    #[error("the relay says: {0}")]
    Refused(String),
    /// The connection broke, or the relay is silent.
    #[error("the relay does not answer")]
    Lost(#[source] io::Error),
    /// Another version's words, perhaps.
    #[error("the relay's answer cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

impl Client {
    /// To the relay whose socket is at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks. Who follows waits for as long as nothing happens.
    pub fn ask(&mut self, ask: &Ask) -> Result<Answers<'_>, AskError> {
        let stream = self.stream.get_mut();
        if matches!(ask, Ask::Follow { .. }) {
            stream.set_read_timeout(None).map_err(AskError::Lost)?;
        }
        let mut line = serde_json::to_vec(ask).map_err(AskError::Unreadable)?;
        line.push(b'\n');
        stream.write_all(&line).map_err(AskError::Lost)?;
        Ok(Answers { client: self, over: false })
    }

    fn read(&mut self) -> Result<Answer, AskError> {
        let mut line = Vec::new();
        (&mut self.stream).take(LONGEST).read_until(b'\n', &mut line).map_err(AskError::Lost)?;
        if line.is_empty() {
            return Err(AskError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(AskError::Unreadable)
    }
}

impl Iterator for Answers<'_> {
    type Item = Result<Answer, AskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let answer = match self.client.read() {
            Ok(Answer::End) => None,
            Ok(Answer::Error(why)) => Some(Err(AskError::Refused(why))),
            answer => Some(answer),
        };
        self.over = !matches!(answer, Some(Ok(_)));
        answer
    }
}
