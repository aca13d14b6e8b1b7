//! `profile`: files that foreign programs read, for their owner only, and words about what is wrong with them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use crate::{Home, serve::Relay};

const URL: &str = "https://relay.example";

impl Home {
    /// A CA, a client certificate and a token.
    pub(crate) fn with_client(self) -> Self {
        self.stdout(&["cert", "ca"]);
        self.stdout(&["cert", "client", "alice"]);
        self.write("token", "test-token\n");
        self
    }

    /// The client certificate as OpenSSL packs it, under what is in the file `password`.
    pub(crate) fn packed(&self, name: &str, more: &[&str]) {
        self.write("password", "test-password\n");
        let export =
            ["pkcs12", "-export", "-in", "certs/alice.pem", "-inkey", "certs/alice.key", "-passout", "file:password", "-out", name];
        self.foreign_stdout("openssl", &[&export, more].concat());
    }

    /// A foreign program in this directory; `tests/run` installs them.
    fn foreign(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program).args(arguments).current_dir(self.path(".")).output();
        output.unwrap_or_else(|error| panic!("cannot run {program}, which tests/run installs: {error}"))
    }

    /// The same, only stdout, and it must succeed.
    pub(crate) fn foreign_stdout(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.foreign(program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// A profile with everything that one relay may have.
const FULL: [&str; 17] = [
    "profile",
    "mobileconfig",
    URL,
    "--token-file",
    "token",
    "--ca",
    "certs/ca.pem",
    "--identity",
    "certs/alice.pem",
    "--raw-public-key",
    "certs/alice.pem",
    "--match",
    "corp.example",
    "--match",
    "=www.example",
    "--exclude",
    "=vpn.corp.example",
];

#[test]
fn a_profile_is_for_its_owner_and_says_what_it_holds() {
    let home = Home::new().with_client();
    let full = [&FULL[..], &["--out", "relay.mobileconfig"]].concat();
    insta::assert_snapshot!(home.run(&full), @r"
    exit 0
    -- stderr
    warning: `MatchFQDNs`: needs iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4; what is older ignores it
    warning: `ExcludedFQDNs`: needs iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4; what is older ignores it
    wrote relay.mobileconfig, readable for you alone (0600); it holds the credential in its header fields and the client's private key with its password: keep it among those it is for
    ");
    let mode = fs::metadata(home.path("relay.mobileconfig")).expect("the profile").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    insta::assert_snapshot!(home.run(&full), @r"
    exit 1
    -- stderr
    warning: `MatchFQDNs`: needs iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4; what is older ignores it
    warning: `ExcludedFQDNs`: needs iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4; what is older ignores it
    error: cannot write relay.mobileconfig: it is there already

    hint: `--force` replaces it, `--out` writes elsewhere
    ");
    home.stdout(&[&full[..], &["--force"]].concat());
    insta::assert_snapshot!(home.run(&["profile", "lint", "relay.mobileconfig"]), @r"
    exit 0
    -- stdout
    trap     `MatchFQDNs`: needs iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4; what is older ignores it
    trap     `ExcludedFQDNs`: needs iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4; what is older ignores it
    ");
}

#[test]
fn uuids_are_the_same_in_every_run() {
    let home = Home::new().with_client();
    let uuids = || {
        let xml = home.stdout(&FULL);
        let texts = xml.lines().filter_map(|line| line.trim().strip_prefix("<string>")?.strip_suffix("</string>").map(str::to_owned));
        texts.filter(|text| text.len() == 36 && text.matches('-').count() == 4).collect::<Vec<_>>()
    };
    let first = uuids();
    assert_eq!(first.len(), 6, "{first:?}");
    assert_eq!(uuids(), first);
}

#[test]
fn plistutil_and_python_read_it() {
    let home = Home::new().with_client();
    home.stdout(&[&FULL[..], &["--out", "relay.mobileconfig"]].concat());
    home.foreign_stdout("plistutil", &["-i", "relay.mobileconfig", "-f", "bin", "-o", "relay.bin"]);
    let read = r#"
import plistlib
for name in ("relay.mobileconfig", "relay.bin"):
    top = plistlib.load(open(name, "rb"))
    ca, identity, relay = top["PayloadContent"]
    print(top["PayloadType"], ca["PayloadType"], identity["PayloadType"], relay["PayloadType"])
    first = relay["Relays"][0]
    print(first["HTTP3RelayURL"], first["AdditionalHTTPHeaderFields"], first["PayloadCertificateUUID"] == identity["PayloadUUID"])
    print(relay["MatchDomains"], relay["MatchFQDNs"], relay["ExcludedFQDNs"], "ExcludedDomains" in relay)
"#;
    let once = "\
Configuration com.apple.security.root com.apple.security.pkcs12 com.apple.relay.managed
https://relay.example {'Proxy-Authorization': 'Bearer test-token'} True
['corp.example'] ['www.example'] ['vpn.corp.example'] False
";
    assert_eq!(home.foreign_stdout("python3", &["-c", read]), once.repeat(2));
}

#[test]
fn openssl_reads_the_identity_and_finds_the_key_of_its_certificate() {
    let home = Home::new().with_client();
    home.stdout(&[&FULL[..], &["--out", "relay.mobileconfig"]].concat());
    let unpack = r#"
import plistlib
identity = plistlib.load(open("relay.mobileconfig", "rb"))["PayloadContent"][1]
open("identity.p12", "wb").write(identity["PayloadContent"])
open("password", "w").write(identity["Password"])
"#;
    home.foreign_stdout("python3", &["-c", unpack]);
    let opened = home.foreign_stdout("openssl", &["pkcs12", "-in", "identity.p12", "-passin", "file:password", "-nodes"]);
    assert!(opened.contains("friendlyName: alice"), "{opened}");
    home.write("opened.pem", &opened);
    let public = |from: &str, arguments: &[&str]| home.foreign_stdout("openssl", &[arguments, &["-in", from]].concat());
    let certificate = public("certs/alice.pem", &["x509", "-noout", "-pubkey"]);
    assert_eq!(public("opened.pem", &["x509", "-noout", "-pubkey"]), certificate);
    assert_eq!(public("opened.pem", &["pkey", "-pubout"]), certificate);
    let wrong = home.foreign("openssl", &["pkcs12", "-in", "identity.p12", "-passin", "pass:wrong", "-nodes"]);
    assert!(!wrong.status.success());
}

#[test]
fn a_pkcs12_by_openssl_goes_in_as_it_is_if_its_password_opens_it() {
    let home = Home::new().with_client();
    home.packed("a.p12", &[]);
    home.write("wrong", "another\n");
    let with = |option: &str, password: &str| {
        home.run(&["profile", "mobileconfig", URL, "--match", "corp.example", "--identity", "a.p12", option, password])
    };
    // The second is what `doctor` and `probe` call it.
    for option in ["--password-file", "--identity-password-file"] {
        let shown = with(option, "password");
        assert!(shown.starts_with("exit 0") && shown.contains("<string>test-password</string>"), "{shown}");
    }
    insta::assert_snapshot!(with("--password-file", "wrong"), @r"
    exit 2
    -- stderr
    error: a device would refuse it: `PayloadContent[0].Password`: does not open the PKCS#12 beside it
    ");
    insta::assert_snapshot!(home.run(&["profile", "mobileconfig", URL, "--identity", "a.p12"]), @r"
    exit 2
    -- stderr
    error: cannot use a.p12 without its password

    hint: `--password-file FILE` names a file with it
    ");
}

#[test]
fn openssl_verifies_the_signature_by_the_ca() {
    let home = Home::new().with_client();
    let plain = ["profile", "mobileconfig", URL, "--token-file", "token", "--match", "corp.example"];
    home.stdout(&[&plain[..], &["--sign", "certs", "--out", "signed"]].concat());
    let verify = |ca: &str| home.foreign("openssl", &["cms", "-verify", "-inform", "DER", "-in", "signed", "-CAfile", ca, "-binary"]);
    let verified = verify("certs/ca.pem");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(String::from_utf8_lossy(&verified.stdout), home.stdout(&plain));
    assert_eq!(home.stdout(&["profile", "lint", "signed"]), "nothing to complain of\n");

    home.stdout(&["cert", "ca", "--out", "other"]);
    assert!(!verify("other/ca.pem").status.success(), "another CA");
    let mut changed = fs::read(home.path("signed")).expect("the profile");
    let at = changed.windows(10).position(|window| window == b"test-token").expect("the token");
    changed[at] = b'b';
    fs::write(home.path("signed"), changed).expect("a file in the temporary directory");
    assert!(!verify("certs/ca.pem").status.success(), "changed afterwards");
}

/// Made, signed, verified by a foreign program, read back: and what is inside opens the relay's door, where nothing else would.
#[test]
fn a_signed_profile_with_an_identity_passes_doctor_by_it_alone() {
    let home = Home::new().with_client();
    let relay = Relay::configured(&home, "access.client_ca = \"certs/ca.pem\"\n");
    let plain = ["profile", "mobileconfig", &relay.url, "--ca", "certs/ca.pem", "--match", "corp.example"];
    home.stdout(&[&plain[..], &["--identity", "certs/alice.pem", "--sign", "certs", "--out", "signed"]].concat());
    let verify = ["cms", "-verify", "-inform", "DER", "-in", "signed", "-CAfile", "certs/ca.pem", "-binary", "-out", "verified"];
    home.foreign_stdout("openssl", &verify);
    let unpack = r#"
import plistlib
payloads = plistlib.load(open("verified", "rb"))["PayloadContent"]
identity = next(one for one in payloads if one["PayloadType"] == "com.apple.security.pkcs12")
open("identity.p12", "wb").write(identity["PayloadContent"])
open("password", "w").write(identity["Password"])
"#;
    home.foreign_stdout("python3", &["-c", unpack]);
    let info = home.foreign("openssl", &["pkcs12", "-info", "-in", "identity.p12", "-passin", "file:password", "-nodes"]);
    assert!(info.status.success(), "{}", String::from_utf8_lossy(&info.stderr));
    let report = home.run(&["doctor", "--profile", "signed"]);
    assert!(report.starts_with("exit 0\n") && report.contains("and takes ours"), "{report}");
    assert_eq!(report.matches("classic CONNECT to a port that nobody serves is answered with 502").count(), 2, "{report}");

    home.stdout(&[&plain[..], &["--out", "without"]].concat());
    let report = home.run(&["doctor", "--profile", "without"]);
    assert_eq!(report.matches("classic CONNECT to a port that nobody serves is answered with 502").count(), 0, "{report}");
    assert_eq!(report.matches("the relay asks for a credential, and the profile has none (status 407)").count(), 2, "{report}");
    assert!(report.starts_with("exit 1\n"), "a device with this profile gets nowhere: {report}");
}

#[test]
fn a_profile_signed_by_openssl_is_linted_too() {
    let home = Home::new().with_certificate();
    home.write("token", "test-token\n");
    home.stdout(&["profile", "mobileconfig", URL, "--token-file", "token", "--match", "corp.example", "--out", "plain"]);
    let sign = ["cms", "-sign", "-signer", "certs/cert.pem", "-inkey", "certs/key.pem", "-nodetach", "-binary", "-outform", "DER"];
    home.foreign_stdout("openssl", &[&sign[..], &["-in", "plain", "-out", "signed"]].concat());
    assert_eq!(home.stdout(&["profile", "lint", "signed"]), "nothing to complain of\n");
}

#[test]
fn what_a_device_would_refuse_is_not_written() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["profile", "mobileconfig", "http://relay.example", "--out", "p"]), @r"
    exit 2
    -- stderr
    error: a device would refuse it: `Relays[0].HTTP3RelayURL`: starts with http://: a relay is reached over TLS, write https://
    ");
    let exclude = ["--match", "corp.example", "--exclude", "=www.example"];
    insta::assert_snapshot!(home.run(&[&["profile", "swift", URL, "--http", "3", "--out", "p"][..], &exclude].concat()), @r"
    exit 2
    -- stderr
    error: a device would refuse it: `ExcludedFQDNs`: `www.example` is under no match, so that excluding it has no effect
    ");
    insta::assert_snapshot!(home.run(&[&["profile", "swift", URL, "--match", "*.example"][..], &exclude].concat()), @r"
    exit 2
    -- stderr
    error: a device would refuse it: `MatchDomains`: `*.example` matches nothing: write `example.com`, without `*.`, for all below it
      `ExcludedFQDNs`: `www.example` is under no match, so that excluding it has no effect
    ");
    assert!(!home.path("p").exists());
    insta::assert_snapshot!(home.run(&["profile", "declaration", URL, "--header", "secret"]), @r"
    exit 2
    -- stderr
    error: cannot use a `--header`: it must be a name, a colon and a value, like `x-relay-token: TOKEN`
    ");
    home.write("empty", "\n");
    insta::assert_snapshot!(home.run(&["profile", "declaration", URL, "--token-file", "empty"]), @r"
    exit 2
    -- stderr
    error: cannot use empty: it is empty
    ");
    home.write("key", "no key");
    insta::assert_snapshot!(home.run(&["profile", "declaration", URL, "--raw-public-key", "key"]), @r"
    exit 2
    -- stderr
    error: cannot use key: there is neither a public key nor a certificate in it

    hint: give the relay's `cert.pem`, or what `openssl pkey -pubout` prints
    ");
}

#[test]
fn lint_names_what_is_wrong_and_where() {
    let home = Home::new();
    home.write("bad.mobileconfig", "<plist><dict><key>PayloadType</key><string>Configuration</string></dict></plist>");
    insta::assert_snapshot!(home.run(&["profile", "lint", "bad.mobileconfig"]), @r"
    exit 1
    -- stdout
    refused  `PayloadIdentifier`: is missing, empty or no text
    refused  `PayloadUUID`: is missing, empty or no text
    refused  `PayloadVersion`: must be the number 1
    refused  `PayloadContent`: must be an array of payloads
    -- stderr
    error: a device would refuse bad.mobileconfig
    ");
    insta::assert_snapshot!(home.run(&["profile", "lint", "nowhere"]), @r"
    exit 1
    -- stderr
    error: cannot read the profile nowhere
      caused by: no such file or directory (os error 2)
    ");
}

#[test]
fn a_declaration_is_json_and_says_what_to_host() {
    let home = Home::new().with_client();
    let basic = ["profile", "declaration", URL, "--token-file", "token", "--user", "alice", "--match", "corp.example"];
    let declarations: serde_json::Value = serde_json::from_str(&home.stdout(&basic)).expect("JSON");
    let payload = &declarations[0]["Payload"];
    assert_eq!(declarations[0]["Type"], "com.apple.configuration.network.relay");
    assert_eq!(payload["Relays"][0]["HTTP3RelayURL"], URL);
    // `alice:test-token`
    assert_eq!(payload["Relays"][0]["AdditionalHTTPHeaderFields"]["Proxy-Authorization"], "Basic YWxpY2U6dGVzdC10b2tlbg==");
    assert_eq!(declarations.as_array().map(Vec::len), Some(1));
    let shown = home.run(&[&basic[..], &["--ca", "certs/ca.pem", "--out", "relay.json"]].concat());
    insta::assert_snapshot!(shown, @r"
    exit 0
    -- stderr
    wrote relay.json, readable for you alone (0600); it holds the credential in its header fields: keep it among those it is for
    devices fetch what is at https://assets.invalid/…: put those files on a server of yours, and its URLs in their place
    ");
}

#[test]
fn swift_says_that_nobody_compiled_it() {
    let home = Home::new();
    home.write("token", "test-token\n");
    let swift =
        home.stdout(&["profile", "swift", URL, "--token-file", "token", "--second", "https://second.example", "--match", "corp.example"]);
    assert!(swift.starts_with("// Not compiled"), "{swift}");
    for word in ["NERelayManager.shared()", "ProxyConfiguration(relayHops: [hop, secondHop])", "\"Bearer test-token\""] {
        assert!(swift.contains(word), "{word} in {swift}");
    }
}
