//! The running relay, asked about itself: over a Unix socket, a line of JSON for each question and each answer.
//!
//! ```text
//! {"ask":"health"}                   {"health":{"status":"ok",…}} "end"
//! {"ask":"metrics"}                  {"metrics":[…]} "end"                 with "text":true: {"text":"…"}, as Prometheus reads it
//! {"ask":"sessions"}                 {"session":{…}} … "end"
//! {"ask":"session","id":"0.17"}      {"record":{…}} "end"
//! {"ask":"follow"}                   {"opened":{…}} {"closed":{…}} {"missed":3} … until one side goes
//! {"ask":"fault","on":["retry"]}    {"faults":["retry"]} "end"           those on now; "off":["retry"] and "clear":true switch off
//! {"ask":"follow","id":"0.17"}       {"record":{…}} … "end" when the connection is over
//! ```
//!
//! The socket is a file of this machine, mode 0600: its user and root may ask, and no client of the relay can reach it, since a tunnel leads to an
//! address and a file has none. It has a thread of its own, and asks nothing of the workers but a look at their records and counters.
//!
//! Bounds: [`CLIENTS`] at once, a question of at most [`LINE`] bytes within [`PATIENCE`], an answer taken within the same; who follows and reads
//! slowly is told how much it missed.

pub mod client;
mod socket;
mod subject;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime,
    sync::{Semaphore, broadcast},
    time::{interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    diagnosis::Record,
    metrics::{self, Sample},
    record::{Counts, Lost, Note, Session},
};
pub use socket::AdminError;
pub use subject::Subject;

/// Who may ask at once.
pub const CLIENTS: usize = 16;
/// The longest question, bytes.
pub const LINE: u64 = 1024;
/// How long a question may take to be whole, and an answer to be taken.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often somebody who follows one connection gets to see what is new.
const LOOK: Duration = Duration::from_millis(250);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Whether it runs.
    Health,
    /// The counters.
    Metrics {
        /// As Prometheus reads them.
        #[serde(default)]
        text: bool,
    },
    /// Every connection that is known, a line each.
    Sessions,
    /// All that is known of one connection.
    Session {
        /// How it is called.
        id: String,
    },
    /// How the relay misbehaves; first switches some off, then some on.
    Fault {
        /// All that can be switched off.
        #[serde(default)]
        clear: bool,
        /// By name.
        #[serde(default)]
        off: Vec<String>,
        /// By name, with their arguments.
        #[serde(default)]
        on: Vec<String>,
    },
    /// What begins and ends from now on; of one connection all that happens.
    Follow {
        /// How it is called.
        #[serde(default)]
        id: Option<String>,
    },
}

/// An answer, or a part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It runs.
    Health(Health),
    /// The counters.
    Metrics(Vec<Sample>),
    /// A text for another program.
    Text(String),
    /// A connection in short.
    Session(Session),
    /// A connection in full.
    Record(Box<Record>),
    /// A connection began.
    Opened(Session),
    /// A connection is over.
    Closed(Session),
    /// The faults that are on.
    Faults(Vec<String>),
    /// So many of these went by unread.
    Missed(u64),
    /// No, and why.
    Error(String),
    /// That was all.
    End,
}

/// How the relay is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `draining`.
    pub status: String,
    /// Of this program.
    pub version: String,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Its threads.
    pub workers: usize,
    /// Connections open now.
    pub connections: u64,
    /// Tunnels open now.
    pub tunnels: u64,
    /// Records in memory.
    pub records: Counts,
    /// Records that the file did not get.
    pub records_lost: Lost,
}

/// The socket and its thread. Dropping it ends both and removes the file.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens at `path`. A file that is left there by a relay that is gone is replaced.
    pub fn start(path: &Path, subject: Subject) -> Result<Self, AdminError> {
        let listener = socket::bind(path)?;
        let stop = CancellationToken::new();
        let cannot = |source| AdminError::Listen { path: path.into(), source };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let listener = {
            let _entered = runtime.enter();
            UnixListener::from_std(listener).map_err(cannot)?
        };
        let ends = stop.clone();
        let spawned = std::thread::Builder::new().name("admin".into());
        let thread = spawned.spawn(move || runtime.block_on(serve(listener, Arc::new(subject), ends))).map_err(cannot)?;
        Ok(Self { path: path.into(), stop, thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin socket's thread broke");
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the admin socket was gone already");
        }
    }
}

async fn serve(listener: UnixListener, subject: Arc<Subject>, stop: CancellationToken) {
    let (tasks, room) = (TaskTracker::new(), Arc::new(Semaphore::new(CLIENTS)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // The system has run out of something: asking again at once would only take a processor from those who give it back.
            tokio::select! {
                () = sleep(LOOK) => continue,
                () = stop.cancelled() => break,
            }
        };
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let (subject, stop) = (Arc::clone(&subject), stop.clone());
                tasks.spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = converse(stream, &subject) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            // A fresh socket has room for a line; who does not get it finds its connection closed.
            Err(_) => drop(stream.try_write(&line(&Answer::Error(format!("{CLIENTS} others are asking already; try again"))))),
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// One client, from its first question to its last.
async fn converse(stream: UnixStream, subject: &Subject) {
    let (read, write) = stream.into_split();
    let (mut read, mut client) = (BufReader::new(read), Client { write });
    loop {
        let ask = match question(&mut read).await {
            Ok(Some(ask)) => ask,
            Ok(None) => return,
            Err(why) => return client.say(&Answer::Error(why)).await.unwrap_or_default(),
        };
        let answered = match ask {
            Ask::Follow { id: None } => client.follow(subject, &mut read).await,
            Ask::Follow { id: Some(id) } => client.follow_one(subject, &id, &mut read).await,
            ask => client.answer(subject, ask).await,
        };
        if answered.is_err() {
            return;
        }
    }
}

/// The next question; `None` when there is no more.
async fn question(read: &mut BufReader<OwnedReadHalf>) -> Result<Option<Ask>, String> {
    let mut text = Vec::new();
    let whole = timeout(PATIENCE, read.take(LINE).read_until(b'\n', &mut text)).await;
    match whole {
        Err(_) => Err(format!("no question within {PATIENCE:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) if text.is_empty() => Ok(None),
        Ok(Ok(_)) if !text.ends_with(b"\n") && text.len() as u64 == LINE => Err(format!("a question has at most {LINE} bytes")),
        Ok(Ok(_)) => serde_json::from_slice(&text).map(Some).map_err(|error| format!("this is no question: {error}")),
    }
}

/// The answering side. It ends for a client that does not take what it asked for.
struct Client {
    write: OwnedWriteHalf,
}

/// The client is gone, or does not read.
struct Gone;

impl Client {
    async fn say(&mut self, answer: &Answer) -> Result<(), Gone> {
        match timeout(PATIENCE, self.write.write_all(&line(answer))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    async fn answer(&mut self, subject: &Subject, ask: Ask) -> Result<(), Gone> {
        match ask {
            Ask::Health => self.say(&Answer::Health(subject.health())).await?,
            Ask::Metrics { text } => {
                let samples = subject.samples();
                self.say(&if text { Answer::Text(metrics::prometheus(&samples)) } else { Answer::Metrics(samples) }).await?;
            }
            Ask::Sessions => {
                for log in subject.logs() {
                    self.say(&Answer::Session(Session::of(&log.record()))).await?;
                }
            }
            Ask::Session { id } | Ask::Follow { id: Some(id) } => match subject.record(&id) {
                Some(record) => self.say(&Answer::Record(Box::new(record))).await?,
                None => return self.unknown(&id).await,
            },
            Ask::Fault { clear, off, on } => match subject.switch(clear, &off, &on) {
                Ok(faults) => self.say(&Answer::Faults(faults)).await?,
                Err(why) => return self.say(&Answer::Error(why)).await,
            },
            Ask::Follow { id: None } => {}
        }
        self.say(&Answer::End).await
    }

    async fn unknown(&mut self, id: &str) -> Result<(), Gone> {
        let id: String = id.chars().take(20).flat_map(char::escape_debug).collect();
        self.say(&Answer::Error(format!("no connection is called {id}, or it is no longer among the last ones"))).await
    }

    /// What begins and ends, until one side goes.
    async fn follow(&mut self, subject: &Subject, read: &mut BufReader<OwnedReadHalf>) -> Result<(), Gone> {
        let mut notes = subject.notes.subscribe();
        loop {
            let note = tokio::select! {
                note = notes.recv() => note,
                _ = read.fill_buf() => return Err(Gone),
            };
            let answer = match note {
                Ok(Note::Opened(log)) => Answer::Opened(Session::of(&log.record())),
                Ok(Note::Closed(log)) => Answer::Closed(Session::of(&log.record())),
                Err(broadcast::error::RecvError::Lagged(missed)) => Answer::Missed(missed),
                Err(broadcast::error::RecvError::Closed) => return Err(Gone),
            };
            self.say(&answer).await?;
        }
    }

    /// One connection, again whenever something has happened on it, until it is over.
    async fn follow_one(&mut self, subject: &Subject, id: &str, read: &mut BufReader<OwnedReadHalf>) -> Result<(), Gone> {
        let (mut ticks, mut last) = (interval(LOOK), None);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = read.fill_buf() => return Err(Gone),
            }
            let Some(record) = subject.record(id) else { return self.unknown(id).await };
            let over = record.close.is_some() || record.turned_away.is_some();
            if last.as_ref() != Some(&record) {
                self.say(&Answer::Record(Box::new(record.clone()))).await?;
                last = Some(record);
            }
            if over {
                return self.say(&Answer::End).await;
            }
        }
    }
}

/// A line of JSON.
fn line(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).expect("an answer has only keys that are strings");
    line.push(b'\n');
    line
}

#[cfg(test)]
#[path = "admin/tests.rs"]
mod tests;
