//! Debian's Chromium (or Chrome), with the relay for its proxy: CONNECT, over HTTP/2 where an HTTPS proxy speaks it.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    child::{Child, any_tool, output_of, tool},
    relay::Relay,
    servers::{TLS, dnsmasq, nginx},
};

#[test]
fn a_page_of_sixty_resources_comes_through_connect_on_http2() {
    let site = Site::start();
    let home = TempDir::new().unwrap();
    trust(&site.relay.ca(), home.path());

    let (chromium, title) = Child::start(&mut site.browse(home.path()), "<title>");
    chromium.ended();

    // Every script ran, also the large one with a hash to hold; every sheet and every image is what it was written as.
    assert!(title.contains("<title>21 20 20</title>"), "{title}");
    let served: BTreeSet<_> = site.nginx.end().into_iter().filter(|line| line.starts_with("served ")).collect();
    let want: BTreeSet<_> = resources().iter().map(|(name, _)| name.as_str()).chain(["index.html", LARGE]).map(served_as).collect();
    assert_eq!(want.len(), 62);
    assert!(want.is_subset(&served), "{served:#?}");
    // It asks for more than the page; what goes elsewhere is its own business.
    let log = site.relay.end();
    let tunnels: Vec<_> = log.iter().filter(|line| line["target"] == site.target && line["message"] == "tunnel closed").collect();
    // nginx speaks HTTP/1.1 here: several connections at once, as browsers have them, and all of them streams of one connection.
    assert!(tunnels.len() > 1, "{log:#?}");
    assert!(tunnels.iter().all(|line| line["http"] == "h2" && line["client"] == tunnels[0]["client"]), "{tunnels:#?}");
}

#[test]
fn a_relay_whose_ca_is_not_trusted_gets_no_request() {
    let site = Site::start();
    let home = TempDir::new().unwrap();

    let (chromium, _) = Child::start(&mut site.browse(home.path()), "Page load failed: net::ERR_PROXY_CERTIFICATE_INVALID");
    chromium.ended();

    let log = site.relay.end();
    assert!(log.iter().all(|line| matches!(line["http"].as_str(), None | Some("tls"))), "no handshake was done: {log:#?}");
    let said = site.nginx.end();
    assert!(!said.iter().any(|line| line.starts_with("served ")), "{said:#?}");
}

/// A page behind an open relay, under a name that only the relay can resolve.
struct Site {
    relay: Relay,
    nginx: Child,
    target: String,
    _dnsmasq: Child,
    _web: TempDir,
}

impl Site {
    fn start() -> Self {
        let (dnsmasq, dns) = dnsmasq(&format!("--address=/{HOST}/127.0.0.1"));
        let relay = Relay::open_to_everybody(dns);
        let web = TempDir::new().unwrap();
        relay.certify(HOST, web.path());
        for (name, content) in resources() {
            fs::write(web.path().join(name), content).unwrap();
        }
        let large = web.path().join(LARGE);
        fs::write(&large, large_script()).unwrap();
        fs::write(web.path().join("index.html"), page(&sha256(&large))).unwrap();
        let (nginx, port) = nginx(web.path(), TLS);
        Self { relay, nginx, target: format!("{HOST}:{port}"), _dnsmasq: dnsmasq, _web: web }
    }

    /// Chromium without a window, which prints the page as it is once all of it has loaded.
    fn browse(&self, home: &Path) -> Command {
        let mut command = any_tool(&["chromium", "google-chrome"]);
        command
            .env("HOME", home)
            // No sandbox: root, in a container, has none to offer.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-breakpad", "--dump-dom"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", home.join("profile").display()))
            .arg(format!("--proxy-server={}", self.relay.url()))
            .arg("--proxy-bypass-list=<-loopback>")
            .arg(format!("https://{}/index.html", self.target));
        command
    }
}

/// Scripts that count themselves, sheets and images that can be told from others.
fn resources() -> Vec<(String, String)> {
    let each = |n| {
        [
            (format!("{n}.js"), "ran += 1".into()),
            (format!("{n}.css"), format!(".of{n} {{ order: {n} }}")),
            (format!("{n}.svg"), r#"<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>"#.into()),
        ]
    };
    (0..EACH).flat_map(each).collect()
}

/// One more script, larger than Chromium's windows of HTTP/2: a comment of 20 MB.
fn large_script() -> String {
    (0..LINES).fold(String::from("ran += 1\n"), |script, n| script + &format!("// {:016x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// What loads all of them. When all is there, its title tells how many scripts, sheets and images are.
fn page(hash_of_large: &str) -> String {
    let mut page = String::from("<!DOCTYPE html>\n<title>loading</title><script>let ran = 0</script>\n");
    // It runs only if it has this hash.
    writeln!(page, "<script src={LARGE} integrity='sha256-{hash_of_large}'></script>").unwrap();
    for n in 0..EACH {
        writeln!(page, "<link rel=stylesheet href={n}.css><script src={n}.js></script><img src={n}.svg>").unwrap();
    }
    page += "<script>onload = () => {\n\
             const sheets = [...document.styleSheets].filter((sheet, n) => sheet.cssRules[0].style.order == n)\n\
             const images = [...document.images].filter(image => image.naturalWidth == 7)\n\
             document.title = [ran, sheets.length, images.length].join(' ')\n\
             }</script>\n";
    page
}

/// As nginx says it.
fn served_as(name: &str) -> String {
    format!("served GET /{name} 200")
}

/// The SHA-256 of a file, in base64.
fn sha256(file: &Path) -> String {
    output_of(tool("sh").args(["-c", r#"openssl dgst -sha256 -binary "$0" | openssl base64 -A"#]).arg(file))
}

/// Puts `ca` where Chromium looks for authorities beside its own: the store of certificates in the home of its user.
fn trust(ca: &Path, home: &Path) {
    let store = home.join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let database = format!("sql:{}", store.display());
    output_of(tool("certutil").args(["-N", "--empty-password", "-d", &database]));
    output_of(tool("certutil").args(["-A", "-n", "relay", "-t", "C,,", "-d", &database, "-i"]).arg(ca));
}

/// Resources of each kind.
const EACH: usize = 20;

/// Of 20 bytes.
const LINES: u64 = 1_000_000;

const LARGE: &str = "large.js";

const HOST: &str = "page.test";
