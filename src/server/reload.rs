//! Certificates and policy, exchanged under a running relay: all of it or nothing.
//!
//! What is new counts for new connections (certificates) and new requests (policy). Connections and tunnels there are live on, but those of a user whose
//! credential is gone (C-80). The keys of stateless resets and of address tokens stay those of the start: what a client holds from before keeps its
//! meaning.

use std::{fs, net::SocketAddr, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{Plan, StartError};
use crate::{
    certs::{Serving, misfits::Misfits},
    config::Config,
    fault::Faults,
    policy::Policy,
};

/// Stands for the content of all certificates' files.
pub(super) type Digest = [u8; SHA256_OUTPUT_LEN];

/// Changes a running relay.
pub struct Reload {
    plan: Arc<Plan>,
    /// What it was told last.
    config: Config,
    own: Vec<SocketAddr>,
    /// The files as they were judged last, good or bad: nothing is judged twice.
    judged: Digest,
}

/// What has become of the certificates' files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// They are as they were when last judged.
    Same,
    /// They are others, good ones, and serve new connections from now on.
    New,
}

impl Reload {
    pub(super) fn new(plan: Arc<Plan>, own: Vec<SocketAddr>, judged: Digest) -> Self {
        let config = Config::clone(&plan.config);
        Self { plan, config, own, judged }
    }

    /// Looks at the certificates' files. Bad ones are told of once, and change nothing.
    pub fn look(&mut self, now: SystemTime) -> Result<Found, StartError> {
        // Before they are read: what changes in between is found the next time.
        let digest = digest(&self.config);
        if digest == self.judged {
            return Ok(Found::Same);
        }
        self.judged = digest;
        self.exchange(&self.config, now)?;
        Ok(Found::New)
    }

    /// From now on `config` counts, as far as it can under way: certificates, `access`, `rules`. An error changes nothing.
    pub fn load(&mut self, config: Config, now: SystemTime) -> Result<(), StartError> {
        // The addresses stay those of the start.
        if let Some(addr) = (Config { listen: self.own.clone(), ..config.clone() }).open_to_all() {
            return Err(StartError::OpenToAll { addr });
        }
        let (certificate, more_certificates) = (config.certificate.clone(), config.more_certificates.clone());
        let (access, rules) = (config.access, config.rules);
        let config = Config { certificate, more_certificates, access, rules, ..self.config.clone() };
        let judged = digest(&config);
        self.exchange(&config, now)?;
        (self.config, self.judged) = (config, judged);
        Ok(())
    }

    /// Serves the certificates that `config` names, and lets in whom it names: also where the file of the clients' CAs alone has changed.
    fn exchange(&self, config: &Config, now: SystemTime) -> Result<(), StartError> {
        let serving = serving(config, &self.plan.faults)?;
        serving.check(now)?;
        let tcp = serving.tls_for_tcp(config.http, config.tls12)?;
        self.plan.quic.swap(&serving.tls_for_quic()?)?;
        self.plan.tls.store(Arc::new(tcp));
        let authorities = self.plan.policy.load().kept(serving.authorities());
        let policy = Policy::new(config, self.own.clone(), authorities, self.plan.cut.child_token());
        self.plan.policy.swap(Arc::new(policy)).replace();
        Ok(())
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("own", &self.own).finish_non_exhaustive()
    }
}

/// What `config` names, with what misbehaves in its place.
pub(super) fn serving(config: &Config, faults: &Arc<Faults>) -> Result<Serving, StartError> {
    let mut serving = Serving::load(config)?;
    if config.fault.allow {
        serving.misbehave(Misfits::new(serving.first(), config.fault.authority.as_ref(), Arc::clone(faults))?);
    }
    Ok(serving)
}

/// What lies in the files now; one that cannot be read counts as what keeps it from that.
pub(super) fn digest(config: &Config) -> Digest {
    let mut all = Context::new(&SHA256);
    for file in config.certificates().flat_map(|one| [&one.chain, &one.key]).chain(&config.access.client_ca) {
        let content = fs::read(file).map(zeroize::Zeroizing::new);
        match &content {
            Ok(content) => all.update(&(content.len() as u64).to_be_bytes()),
            Err(error) => all.update(format!("{:?}", error.kind()).as_bytes()),
        }
        all.update(content.as_ref().map_or(&[], |content| content.as_slice()));
    }
    all.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
