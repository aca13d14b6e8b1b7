//! The README is executed: its configuration loads, its defaults are the defaults, its commands parse, its files exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use masque_relay::{
    cli::Arguments,
    config::{Config, file::Settings, keys::KEYS},
    diagnosis::hypotheses::Hypothesis,
    explain::errands::PREDICATE,
};

#[test]
fn every_toml_block_loads() {
    let readme = read("README.md");
    let blocks = blocks(&readme, &["toml"]);
    assert!(!blocks.is_empty());
    for block in blocks {
        let mut settings = Settings::new();
        settings.parse(Path::new("README.md"), block);
        if let Err(error) = settings.finish() {
            panic!("{error}\n{block}");
        }
    }
}

#[test]
fn the_table_of_keys_is_what_the_code_says() {
    let table = table();
    assert!(read("README.md").contains(&table), "README.md must hold this table:\n{table}");
}

/// The keys with their defaults, as the README shows them.
fn table() -> String {
    let defaults = Config::default();
    let rows = KEYS.iter().map(|key| {
        let default = match (key.path, (key.show)(&defaults)) {
            // The library's default is one; `serve` and `check` start from what the machine has.
            ("workers", _) => "`\"auto\"`".to_owned(),
            (_, nothing) if nothing == r#""""# => "required".to_owned(),
            (_, value) => format!("`{value}`"),
        };
        format!("| `{}` | {default} | {} |\n", key.path, key.about)
    });
    format!("| key | default | meaning |\n| --- | --- | --- |\n{}\n", rows.collect::<String>())
}

#[test]
fn the_hypotheses_are_those_of_the_code() {
    let readme = read("README.md");
    let rows = Hypothesis::ALL.map(|one| format!("| {one:?} | {} | {} |\n", one.claim(), one.settled_by()));
    let table = format!("| | hypothesis | settled by |\n| --- | --- | --- |\n{}\n", rows.concat());
    assert!(readme.contains(&table), "README.md must hold this table:\n{table}");
    assert!(readme.contains(PREDICATE), "README.md must tell to collect {PREDICATE}");
}

#[test]
fn every_command_parses() {
    let readme = read("README.md");
    let mut commands: Vec<_> = blocks(&readme, &["sh", "ini"]).into_iter().flat_map(relay_commands).collect();
    let in_blocks = commands.len();
    commands.extend(spans(&readme).flat_map(relay_commands));
    assert!(in_blocks >= 8 && commands.len() > in_blocks, "commands were overlooked: {commands:?}");
    for command in commands {
        match Arguments::command().try_get_matches_from(&command) {
            Ok(_) => {}
            Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {}
            Err(error) => panic!("{}: {error}", command.join(" ")),
        }
    }
}

/// What runs the relay in a piece of shell or of a unit file: its argument vectors.
fn relay_commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in text.lines() {
        for mut words in commands(line.strip_prefix("ExecStart=").unwrap_or(line)) {
            let Some(program) = words.first() else { continue };
            if program == "cargo" && words.get(1).is_some_and(|word| word == "run") {
                let rest = words.iter().position(|word| word == "--").expect("`cargo run` hands its words on after `--`");
                found.push([vec!["masque-relay".into()], words.split_off(rest + 1)].concat());
            } else if program.rsplit('/').next() == Some("masque-relay") && words.len() > 1 {
                found.push(words);
            }
        }
    }
    found
}

/// The commands of a line: words, with quotes taken off, cut at `|` and `&&` and ended by `#`.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    for words in words.split(|word| word == "|" || word == "&&") {
        all.push(words.to_vec());
    }
    all
}

#[test]
fn every_file_it_names_is_there() {
    let readme = read("README.md");
    let linked = readme.match_indices("](").map(|(at, _)| readme[at + 2..].split(')').next().unwrap_or_default());
    let linked: BTreeSet<_> = linked.filter(|link| !link.contains("://") && !link.starts_with('#')).chain(["tests/run"]).collect();
    assert!(linked.len() > 3, "links were overlooked: {linked:?}");
    let missing: Vec<_> = linked.into_iter().filter(|file| !Path::new(file).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_rust_it_asks_for_is_the_manifests() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let rust = manifest["package"]["rust-version"].as_str().expect("a rust-version");
    assert!(read("README.md").contains(&format!("Rust {rust} or newer")), "rust-version is {rust}");
}

#[test]
fn the_buffers_it_tells_to_allow_are_those_asked_for() {
    let size = Config::default().quic.socket_buffer;
    assert!(read("README.md").contains(&format!("net.core.rmem_max={size} net.core.wmem_max={size}")));
    assert_eq!(size, 4 << 20, "the README says 4 MiB");
}

/// The table of costs has a line for every row that is measured, in their order, and no other.
#[test]
fn the_table_of_costs_has_the_rows_of_the_bench() {
    let rows = read("tests/bench/rows.rs");
    let rows: Vec<_> = rows.split("row!(\"").skip(1).filter_map(|text| text.split('"').next()).collect();
    let readme = read("README.md");
    let section = readme.split("## What it costs").nth(1).expect("a section with costs").split("\n## ").next().unwrap_or_default();
    let lines = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let shown: Vec<_> = lines.filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    assert!(rows.len() > 20, "rows were overlooked: {rows:?}");
    assert_eq!(shown, rows);
}

/// A statement has a test that carries its number, or a reason for which it is not kept. What is kept in part has both.
#[test]
fn every_statement_has_a_test_or_a_reason() {
    let readme = read("README.md");
    let mut settled: BTreeSet<u32> = sources().iter().flat_map(|path| tested(&read(path))).collect();
    settled.extend(readme.lines().flat_map(excused));
    let open: Vec<_> = (1..=80).filter(|number| !settled.contains(number)).map(|number| format!("C-{number:02}")).collect();
    assert!(open.is_empty(), "neither tested nor excused in README.md: {}", open.join(", "));
}

/// The last column of the standards is what the tests say of the statements in its row.
#[test]
fn the_standards_name_the_versions_they_are_proven_on() {
    let proven: Vec<_> = sources().iter().flat_map(|path| proven(path, &read(path))).collect();
    let readme = read("README.md");
    let rows = readme.lines().map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    let rows: Vec<_> = rows.filter(|cells| cells.len() == 4 && cells[0].starts_with("RFC ")).collect();
    assert!(rows.len() > 5, "the table was overlooked");
    let wrong: Vec<_> =
        rows.iter().map(|row| (row, versions(&statements(row[2]), &proven))).filter(|(row, right)| row[3] != right).collect();
    assert!(wrong.is_empty(), "the last column must be: {wrong:#?}");
}

/// Statement and version of every test in this file that carries a number. Those of one version alone are HTTP/3's, unless the file's name says otherwise.
fn proven(path: &Path, text: &str) -> Vec<(u32, &'static str)> {
    let own = VERSIONS.iter().find(|(short, _)| path.iter().any(|part| part == *short || part == format!("{short}.rs").as_str()));
    let mut found = Vec::new();
    for (at, name) in text.match_indices("fn c").map(|(at, _)| (at, &text[at + 3..])) {
        let Some(number) = tested(&text[at..]).first().copied() else { continue };
        let name = name.split('(').next().unwrap_or_default();
        let several = text.split_once(&format!("on_versions!({name}:")).and_then(|(_, rest)| rest.split(')').next());
        match several {
            Some(several) => found.extend(VERSIONS.iter().filter(|(short, _)| several.contains(short)).map(|(_, long)| (number, *long))),
            None => found.push((number, own.map_or("HTTP/3", |(_, long)| long))),
        }
    }
    found
}

/// As tests and as people call them.
const VERSIONS: [(&str, &str); 3] = [("h3", "HTTP/3"), ("h2", "HTTP/2"), ("h1", "HTTP/1.1")];

/// What is proven of these statements on each version, in words.
fn versions(statements: &BTreeSet<u32>, proven: &[(u32, &str)]) -> String {
    let words = VERSIONS.iter().filter_map(|(_, version)| {
        let (on, off): (Vec<u32>, Vec<u32>) = statements.iter().partition(|number| proven.contains(&(**number, *version)));
        match (on.len(), off.len()) {
            (0, _) => None,
            (_, 0) => Some(version.to_string()),
            (on_count, off_count) if off_count < on_count => Some(format!("{version} but for {}", list(&off))),
            _ => Some(format!("{version}: {}", list(&on))),
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

/// `C-12 to C-15, C-25`
fn list(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [first, .., last] => format!("C-{first:02} to C-{last:02}"),
        [only] => format!("C-{only:02}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// The numbers of [`list`].
fn statements(text: &str) -> BTreeSet<u32> {
    let number = |text: &str| text.trim().strip_prefix("C-")?.parse::<u32>().ok();
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once(" to ").unwrap_or((part, part));
        Some(number(first)?..=number(last)?)
    });
    ranges.flatten().collect()
}

/// The numbers of `fn c21_…`.
fn tested(text: &str) -> Vec<u32> {
    let names = text.match_indices("fn c").map(|(at, start)| &text[at + start.len()..]);
    names.filter_map(|name| name.split_once('_')?.0.parse().ok()).collect()
}

/// The numbers a row begins with, up to the colon; none if it says `in part`.
fn excused(row: &str) -> Vec<u32> {
    let head = row.split(':').next().filter(|head| head.starts_with("| C-") && !head.contains("in part")).unwrap_or_default();
    head.match_indices("C-").filter_map(|(at, _)| head.get(at + 2..at + 4)?.parse().ok()).collect()
}

/// The Rust files of src/ and tests/, but for this one, which speaks of tests that are none.
fn sources() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from("src"), PathBuf::from("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src/ and tests/ can be listed") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != Path::new("tests/readme.rs") {
                found.push(path);
            }
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The fenced blocks in these languages.
fn blocks<'a>(text: &'a str, languages: &[&str]) -> Vec<&'a str> {
    // Between fences, every second piece is a block, its first line the language.
    let pieces = text.split("```").skip(1).step_by(2).filter_map(|piece| piece.split_once('\n'));
    pieces.filter(|(language, _)| languages.contains(language)).map(|(_, block)| block).collect()
}

/// Code inside prose.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

mod itself {
    use super::*;

    #[test]
    fn finds_commands_behind_pipes_quotes_and_comments() {
        for (text, want) in [
            ("echo hi | target/release/masque-relay probe 'a b' # said", &[&["target/release/masque-relay", "probe", "a b"][..]][..]),
            ("cargo run --release -- serve --dev", &[&["masque-relay", "serve", "--dev"]]),
            ("ExecStart=/usr/local/bin/masque-relay serve\nUser=masque-relay", &[&["/usr/local/bin/masque-relay", "serve"]]),
            (
                "masque-relay cert ca && masque-relay cert \\\n  token",
                &[&["masque-relay", "cert", "ca"], &["masque-relay", "cert", "token"]],
            ),
            ("masque-relay # alone\nuseradd masque-relay\n# masque-relay x", &[]),
        ] {
            assert_eq!(relay_commands(text), want, "{text}");
        }
    }

    #[test]
    fn finds_the_versions_of_statements() {
        let text = "on_versions!(c21_port: h1 h3);\n\nasync fn c21_port(http: Http) {}\n#[tokio::test]\nasync fn c05_x() {}\nfn call() {}";
        let anywhere = proven(Path::new("tests/relay/any.rs"), text);
        assert_eq!(anywhere, [(21, "HTTP/3"), (21, "HTTP/1.1"), (5, "HTTP/3")]);
        assert_eq!(proven(Path::new("tests/relay/h2/x.rs"), "fn c74_x() {}"), [(74, "HTTP/2")]);
        assert_eq!(proven(Path::new("tests/relay/h1.rs"), "fn c16_x() {}"), [(16, "HTTP/1.1")]);
        let numbers = statements("C-04 to C-06, C-21");
        assert_eq!(numbers, BTreeSet::from([4, 5, 6, 21]));
        assert_eq!(versions(&numbers, &anywhere), "HTTP/3: C-05, C-21; HTTP/1.1: C-21");
        assert_eq!(list(&[4, 5, 6, 21]), "C-04 to C-06, C-21");
    }

    #[test]
    fn finds_the_numbers_of_statements() {
        assert_eq!(tested("async fn c21_port() {}\nfn c05_x_and_c06() {}\nfn call_it() {}\nfn c_1() {}"), [21, 5]);
        for (row, want) in
            [("| C-16, C-17: on HTTP/1.1 | see C-18 |", &[16, 17][..]), ("| C-46, in part: users | later |", &[]), ("C-01: as said", &[])]
        {
            assert_eq!(excused(row), want);
        }
    }
}
