//! The socket's file: where it may lie, who may open it, and what is done about one that is there already.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

/// Bytes of a path that a socket's address has room for.
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Clients that the kernel lets wait.
const BACKLOG: i32 = 16;

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The system has no room for the name.
    #[error("cannot listen at {}: the path has {} bytes, a socket's at most {LONGEST}", path.display(), path.as_os_str().len())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// A relay listens there.
    #[error("cannot listen at {}: another relay answers there", path.display())]
    Taken {
        /// Which.
        path: PathBuf,
    },
    /// Something that is no socket is there, and stays.
    #[error("cannot listen at {}: there is a file that is no socket", path.display())]
    Other {
        /// Which.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AdminError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLong { .. } => Some("name a shorter one with the key `admin`, or `admin = \"off\"`".into()),
            Self::Taken { .. } => Some("each relay needs a socket of its own: the key `admin` names it".into()),
            Self::Other { .. } => Some("remove it, or name another path with the key `admin`".into()),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("its directory must be there; systemd makes one with `RuntimeDirectory=masque-relay`".into())
            }
            Self::Listen { .. } => Some("the key `admin` names the path; `admin = \"off\"` does without".into()),
        }
    }
}

/// Listens at `path`, for its own user alone.
pub(super) fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    if path.as_os_str().len() > LONGEST {
        return Err(AdminError::TooLong { path: path.into() });
    }
    make_way(path)?;
    listen(path).map_err(|source| AdminError::Listen { path: path.into(), source })
}

/// Removes the socket of a relay that is gone.
fn make_way(path: &Path) -> Result<(), AdminError> {
    let cannot = |source| AdminError::Listen { path: path.into(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot(error)),
        Ok(found) if !found.file_type().is_socket() => Err(AdminError::Other { path: path.into() }),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(AdminError::Taken { path: path.into() }),
        Ok(_) => fs::remove_file(path).map_err(cannot),
    }
}

/// Nobody can connect before the last step, and by then the mode is right.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_relay_that_is_gone_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path), Err(AdminError::Taken { .. })));
        drop(first);
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "notes").unwrap();
        assert!(matches!(bind(&path), Err(AdminError::Other { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    }

    #[test]
    fn a_path_that_is_too_long_or_leads_nowhere_is_explained() {
        let long = Path::new("/tmp").join("x".repeat(200));
        let error = bind(&long).unwrap_err();
        assert!(error.to_string().ends_with("the path has 205 bytes, a socket's at most 107"), "{error}");
        let error = bind(Path::new("/nowhere/at/all/admin.sock")).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("RuntimeDirectory")), "{error}");
    }
}
