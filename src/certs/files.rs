//! Writing what `issue` makes: never over something that is there, secrets for their owner only.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody (0644): certificates.
    Public,
    /// Its owner (0600): keys and tokens.
    Owner,
}

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the write is refused.
    Keep,
    /// It is replaced, whole or not at all.
    Replace,
}

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path the message names, and the cause below it")]
pub enum WriteError {
    /// It is there already.
    #[error("cannot write {}: it is there already", path.display())]
    Exists { path: PathBuf },
    /// The system says no.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl WriteError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("`--force` replaces it, `--out` writes elsewhere".into()),
            Self::Write { .. } => None,
        }
    }
}

/// One file to write.
#[derive(Clone, Copy)]
pub struct NewFile<'a> {
    /// Where.
    pub path: &'a Path,
    /// What.
    pub text: &'a [u8],
    /// For whom.
    pub access: Access,
}

/// Writes all of `files` and the directories they need, which nobody else may write to. With [`Existing::Keep`] nothing at all is written when one of them is there.
pub fn write(files: &[NewFile<'_>], existing: Existing) -> Result<(), WriteError> {
    if existing == Existing::Keep
        && let Some(there) = files.iter().find(|file| file.path.symlink_metadata().is_ok())
    {
        return Err(WriteError::Exists { path: there.path.into() });
    }
    files.iter().try_for_each(|file| write_one(file, existing))
}

/// Into a new file beside it first, so that no reader ever sees half of it, nor a secret with the mode of the file it replaces.
fn write_one(file: &NewFile<'_>, existing: Existing) -> Result<(), WriteError> {
    let failed = |source| WriteError::Write { path: file.path.into(), source };
    if let Some(dir) = file.path.parent() {
        // Whatever the umask: who may write into it could put a key of his own in place of ours.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
    }
    let (place, in_the_way) = match existing {
        Existing::Keep => (file.path.to_path_buf(), None),
        Existing::Replace => {
            let beside = beside(file.path);
            (beside.clone(), Some(beside))
        }
    };
    if let Some(stale) = &in_the_way
        && let Err(source) = fs::remove_file(stale)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(failed(source));
    }
    let mode = match file.access {
        Access::Public => 0o644,
        Access::Owner => 0o600,
    };
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&place).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists { WriteError::Exists { path: file.path.into() } } else { failed(source) }
    })?;
    out.write_all(file.text).and_then(|()| out.sync_all()).map_err(failed)?;
    if in_the_way.is_some() {
        fs::rename(&place, file.path).map_err(failed)?;
    }
    Ok(())
}

/// `key.pem` is written as `.key.pem.new` before it takes its name.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_for_their_owner_and_directories_are_made() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a/b/key.pem");
        write(&[NewFile { path: &path, text: b"k", access: Access::Owner }], Existing::Keep).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "k");
    }

    #[test]
    fn what_is_there_stays_and_nothing_else_is_written() {
        let dir = TempDir::new().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        fs::write(&key, "old").unwrap();
        let files =
            [NewFile { path: &cert, text: b"c", access: Access::Public }, NewFile { path: &key, text: b"k", access: Access::Owner }];
        let error = write(&files, Existing::Keep).unwrap_err();
        assert!(matches!(&error, WriteError::Exists { path } if *path == key), "{error:?}");
        assert!(error.hint().unwrap().contains("--force"));
        assert!(!cert.exists());
        assert_eq!(fs::read_to_string(&key).unwrap(), "old");
    }

    #[test]
    fn replacing_tightens_the_mode_and_survives_a_stale_half() {
        let dir = TempDir::new().unwrap();
        let key = dir.path().join("key.pem");
        fs::write(&key, "old").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(dir.path().join(".key.pem.new"), "stale").unwrap();
        write(&[NewFile { path: &key, text: b"new", access: Access::Owner }], Existing::Replace).unwrap();
        assert_eq!(mode(&key), 0o600);
        assert_eq!(fs::read_to_string(&key).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_with_its_path() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().join("file/key.pem");
        let error = write(&[NewFile { path: &path, text: b"k", access: Access::Owner }], Existing::Keep).unwrap_err();
        assert!(matches!(error, WriteError::Write { .. }), "{error:?}");
        assert!(error.to_string().contains("file/key.pem"));
    }
}
