//! What an Apple client would find at a relay: the relay is visited as such a client does it, and each expectation is checked.
//!
//! ```text
//! Plan ──▶ examine ──▶ Evidence: names, a visit over HTTP/3, one over HTTP/2 ──▶ checks, pure functions ──▶ Report
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `plan` | which relay, which credentials, which targets, how long |
//! | `visit` | one connection and all that is tried on it; `tap` sees its packets, `witness` its certificates |
//! | `chain` | what the certificates are worth, rule by rule |
//! | `checks` | the list; each file a group |
//!
//! Promises, each with a test: *a healthy relay gets no warning*; *every fault of [`fault`](crate) has a check that names it*, alone or beside
//! another that does not hide it; *no credential goes to a relay whose certificate is not trusted*, unless told.

mod chain;
mod checks;
mod plan;
mod tap;
mod visit;
mod witness;

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;
use tokio::time::timeout;

pub use plan::{Limits, Plan, Target};

use crate::probe::Http;
use visit::Visit;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check: `http3.settings`.
    pub check: String,
    /// Its group, as people read it.
    pub group: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen.
    pub evidence: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The fault of `serve --fault` that looks like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<&'static str>,
    /// The check without which this one tells nothing, where that is why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As an Apple client wants it.
    Ok,
    /// It could not be told.
    Skip,
    /// It works, and should be otherwise.
    Warn,
    /// It does not work.
    Fail,
}

/// All findings on one relay, group by group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The relay.
    pub relay: String,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The faults that findings name, each once, in order.
    pub fn faults(&self) -> Vec<&'static str> {
        let mut named = Vec::new();
        for fault in self.findings.iter().filter_map(|finding| finding.fault) {
            if !named.contains(&fault) {
                named.push(fault);
            }
        }
        named
    }

    /// How many findings have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// All that was seen of a relay.
#[derive(Debug)]
struct Evidence {
    /// Where its name leads, or why nowhere.
    addresses: Result<Vec<SocketAddr>, String>,
    visits: Vec<Visit>,
    /// The certificates of the first visit that saw some.
    chain: Option<Result<chain::Chain, String>>,
}

impl Evidence {
    fn visit(&self, http: Http) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.http == http)
    }
}

/// Visits the relay, both versions at once, and runs every check. Takes a minute at most, of a relay that lets everything wait; of one that answers, a second.
pub async fn examine(plan: &Plan) -> Report {
    let addresses = addresses(plan).await;
    let mut visits = Vec::new();
    if let Ok(addresses) = &addresses
        && chain::is_name(&plan.url.host)
    {
        let over =
            async |http| if plan.versions.contains(&http) { Some(Box::pin(first_that_answers(plan, http, addresses)).await) } else { None };
        let (h3, h2) = tokio::join!(over(Http::H3), over(Http::H2));
        visits.extend(h3.into_iter().chain(h2));
    }
    let shown = visits.iter().map(|visit| &visit.seen.chain).find(|chain| !chain.is_empty());
    let chain = shown.map(|chain| chain::Chain::read(chain, &plan.roots, &plan.url.host, plan.now));
    let evidence = Evidence { addresses, visits, chain };
    Report { relay: format!("{}:{}", plan.url.host, plan.url.port), findings: checks::run(plan, &evidence) }
}

/// The visit at the first address with which a handshake succeeds; the last one's where none does.
async fn first_that_answers(plan: &Plan, http: Http, addresses: &[SocketAddr]) -> Visit {
    let mut visit = None;
    for address in addresses.iter().take(MOST_ADDRESSES) {
        let paid = Box::pin(Visit::pay(plan, http, *address)).await;
        let opened = paid.opened.is_ok();
        visit = Some(paid);
        if opened {
            break;
        }
    }
    visit.expect("no address was given out without one")
}

async fn addresses(plan: &Plan) -> Result<Vec<SocketAddr>, String> {
    if !plan.addresses.is_empty() {
        return Ok(plan.addresses.clone());
    }
    match timeout(RESOLVE, tokio::net::lookup_host((plan.url.host.as_str(), plan.url.port))).await {
        Ok(Ok(found)) => Some(found.collect::<Vec<_>>()).filter(|found| !found.is_empty()).ok_or_else(|| "it has no address".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {RESOLVE:?}")),
    }
}

/// For a name.
const RESOLVE: Duration = Duration::from_secs(6);

/// Addresses tried, one after another.
const MOST_ADDRESSES: usize = 4;
