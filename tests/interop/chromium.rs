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

    // Every script ran, every sheet and every image is what it was written as.
    assert!(title.contains("<title>20 20 20</title>"), "{title}");
    let served: BTreeSet<_> = site.nginx.end().into_iter().filter(|line| line.starts_with("served ")).collect();
    let want: BTreeSet<_> = files().into_iter().map(|(name, _)| format!("served GET /{name} 200")).collect();
    assert_eq!(want.len(), 61);
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
    assert!(log.iter().all(|line| line["http"].is_null()), "{log:#?}");
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
        for (name, content) in files() {
            fs::write(web.path().join(name), content).unwrap();
        }
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

/// The page and what it loads. When all is there, its title tells how many scripts, sheets and images are.
fn files() -> Vec<(String, String)> {
    let mut page = String::from("<!DOCTYPE html>\n<title>loading</title><script>let ran = 0</script>\n");
    let mut files = Vec::new();
    for n in 0..EACH {
        writeln!(page, "<link rel=stylesheet href={n}.css><script src={n}.js></script><img src={n}.svg>").unwrap();
        files.push((format!("{n}.css"), format!(".of{n} {{ order: {n} }}")));
        files.push((format!("{n}.js"), "ran += 1".into()));
        files.push((format!("{n}.svg"), r#"<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>"#.into()));
    }
    page += "<script>onload = () => {\n\
             const sheets = [...document.styleSheets].filter((sheet, n) => sheet.cssRules[0].style.order == n)\n\
             const images = [...document.images].filter(image => image.naturalWidth == 7)\n\
             document.title = [ran, sheets.length, images.length].join(' ')\n\
             }</script>\n";
    files.push(("index.html".into(), page));
    files
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

const HOST: &str = "page.test";
