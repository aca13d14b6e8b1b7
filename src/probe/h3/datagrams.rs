//! QUIC datagrams, sorted by quarter stream ID (RFC 9297 §2.1).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};

use super::Quic;
use crate::proto::{codes::h3, datagram::take_quarter_id};

/// Who gets which datagrams.
#[derive(Debug, Default)]
pub(super) struct Routes {
    open: HashMap<u64, Sender<Bytes>>,
    strays: VecDeque<(u64, Bytes)>,
    stray_count: u64,
    overflown: u64,
}

/// The datagrams of one request, until dropped.
#[derive(Debug)]
pub(in crate::probe) struct Flow {
    quarter_id: u64,
    quic: Arc<Quic>,
    arrived: Receiver<Bytes>,
}

impl Flow {
    pub(in crate::probe) fn new(quic: Arc<Quic>, quarter_id: u64) -> Self {
        let (sender, arrived) = mpsc::channel(DEPTH);
        routes(&quic).open.insert(quarter_id, sender);
        Self { quarter_id, quic, arrived }
    }

    pub(in crate::probe) fn quarter_id(&self) -> u64 {
        self.quarter_id
    }

    /// The connection it belongs to.
    pub(in crate::probe) fn quic(&self) -> &Quic {
        &self.quic
    }

    /// What followed the quarter stream ID. Cancel safe. Waits for ever once the connection is over: its owner watches that.
    pub(in crate::probe) async fn recv(&mut self) -> Bytes {
        match self.arrived.recv().await {
            Some(datagram) => datagram,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        routes(&self.quic).open.remove(&self.quarter_id);
    }
}

/// Reads datagrams until the connection is over.
pub(super) async fn sort(quic: Arc<Quic>) {
    while let Ok(mut datagram) = quic.connection.read_datagram().await {
        if !quic.shared.state.borrow().announced_datagrams {
            quic.violated(h3::DATAGRAM_ERROR, "a datagram before we announced SETTINGS_H3_DATAGRAM (RFC 9297 §2.1.1)");
            return;
        }
        let Some(quarter_id) = take_quarter_id(&mut datagram) else {
            quic.violated(h3::DATAGRAM_ERROR, "a datagram without a quarter stream ID (RFC 9297 §2.1)");
            return;
        };
        routes(&quic).deliver(quarter_id, datagram);
    }
}

/// The datagrams nobody wanted, and how many there were.
pub(super) fn strays(quic: &Quic) -> (Vec<(u64, Bytes)>, u64) {
    let routes = routes(quic);
    (routes.strays.iter().cloned().collect(), routes.stray_count)
}

/// How many were lost because nobody read.
pub(super) fn overflown(quic: &Quic) -> u64 {
    routes(quic).overflown
}

impl Routes {
    fn deliver(&mut self, quarter_id: u64, datagram: Bytes) {
        let unwanted = match self.open.get(&quarter_id).map(|route| route.try_send(datagram.clone())) {
            Some(Ok(())) => return,
            Some(Err(TrySendError::Full(_))) => {
                self.overflown += 1;
                return;
            }
            Some(Err(TrySendError::Closed(datagram))) => datagram,
            None => datagram,
        };
        self.stray_count += 1;
        if self.strays.len() == STRAYS_KEPT {
            self.strays.pop_front();
        }
        self.strays.push_back((quarter_id, unwanted));
    }
}

fn routes(quic: &Quic) -> MutexGuard<'_, Routes> {
    quic.routes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last datagrams without a tunnel that are kept.
pub const STRAYS_KEPT: usize = 64;

/// Datagrams waiting for one tunnel: a test or a bench that sends a burst of a thousand gets all of it back.
const DEPTH: usize = 1024;
