//! A relay's URL, and where it leads.

use std::{io::ErrorKind, net::SocketAddr};

use super::ProbeError;
use crate::proto::url::{Url, UrlError};

/// Reads it.
pub(super) fn parse(text: &str) -> Result<Url, ProbeError> {
    Url::parse(text).map_err(|error| match error {
        UrlError::Address(says) => ProbeError::Url { url: text.into(), says },
        UrlError::Template(source) => ProbeError::Template { source },
    })
}

/// Every address of the host, in the system's order.
pub(super) async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, ProbeError> {
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let found: Vec<_> = found.map_err(|source| ProbeError::Resolve { host: url.host.clone(), source })?.collect();
    if found.is_empty() {
        return Err(ProbeError::Resolve { host: url.host.clone(), source: ErrorKind::NotFound.into() });
    }
    Ok(found)
}
