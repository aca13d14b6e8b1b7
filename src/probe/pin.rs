//! Trust in one certificate: for who holds the relay's own files and not those of its CA.

use std::sync::Arc;

use rustls::{CertificateError, pki_types::CertificateDer};

use super::{Judge, Options};

impl Options {
    /// Trusts exactly this leaf, whoever issued it, whatever its names and dates. Replaces all other trust.
    pub fn pin(&mut self, pinned: CertificateDer<'static>) {
        self.verifier =
            Some(Arc::new(Judge::new(
                move |leaf, _| {
                    if *leaf == pinned { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
                },
            )));
    }
}
