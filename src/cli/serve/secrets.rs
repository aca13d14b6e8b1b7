//! `SSLKEYLOGFILE`: the secrets of connections, for who looks at packets with Wireshark.

use std::{env, fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::PathBuf};

use crate::cli::report::Failure;

/// The file that the environment names, made for its owner alone if it is not there; it must be one that can be written to.
pub(super) fn file() -> Result<Option<PathBuf>, Failure> {
    let Some(path) = env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty()).map(PathBuf::from) else { return Ok(None) };
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    match opened {
        Ok(_) => Ok(Some(path)),
        Err(source) => Err(Failure::io(format!("cannot open {}, which SSLKEYLOGFILE names", path.display()), &source)),
    }
}
