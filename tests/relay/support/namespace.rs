//! A network of a test's own, where it may break routes and lose hosts.

use std::process::Command;

/// Runs `test` in a network namespace that has nothing but a loopback device. A thread cannot move there safely, so this very program runs once more,
/// behind `unshare`, with nothing but the calling test, whose full `name` this is.
pub(crate) fn in_namespace<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(test());
    }
    let program = std::env::current_exe().expect("the test's own program");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "yes");
    let output = command.output().expect("`unshare`, of util-linux");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    // A wrong name runs nothing, and succeeds.
    assert!(output.status.success() && text.contains("1 passed"), "{name} in a network namespace: {}\n{text}", output.status);
}

/// Runs `ip`, of iproute2, with these words.
pub(crate) fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("`ip`, of iproute2");
    assert!(status.success(), "ip {words}: {status}");
}

/// Set in the program that runs inside.
const INSIDE: &str = "RELAY_TEST_IN_NAMESPACE";
