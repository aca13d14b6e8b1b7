//! A verifier that lets every certificate pass and keeps it: what it is worth is judged afterwards, rule by rule.
//!
//! Nothing secret goes over a connection before [`chain`](super::chain) has judged it; see `visit`.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use crate::probe::Judge;

/// Sees one connection's certificates.
#[derive(Debug)]
pub(super) struct Witness {
    /// What is shown to a relay that asks for a client certificate.
    identity: Option<Arc<CertifiedKey>>,
    seen: Mutex<Seen>,
}

/// What the relay showed and asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Its certificates (DER), the leaf first; empty before they came.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whether it asked for a client certificate, and the names (DER) of the authorities it takes.
    pub(super) asked: Option<Vec<Vec<u8>>>,
}

impl Witness {
    pub(super) fn new(identity: Option<Arc<CertifiedKey>>) -> Arc<Self> {
        Arc::new(Self { identity, seen: Mutex::default() })
    }

    /// Keeps the chain, and lets it pass.
    pub(super) fn judge(self: &Arc<Self>) -> Judge {
        let witness = Arc::clone(self);
        Judge::new(move |leaf, rest| {
            witness.note(|seen| seen.chain = [leaf].into_iter().chain(rest).map(|der| der.to_vec()).collect());
            Ok(())
        })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.note(|seen| seen.asked = Some(authorities.iter().map(|name| name.to_vec()).collect()));
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
