//! The order of the `mod` lines in lib.rs is the architecture: a room uses only rooms declared above it. And what else of the layout a machine can check.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn a_room_uses_only_rooms_declared_above_it() {
    let lib = read("src/lib.rs");
    let order = declared(&code(&lib));
    let rank = |room: &str| order.iter().position(|declared| declared == room);
    assert!(rank("proto") < rank("cli") && rank("proto").is_some(), "the order was not read: {order:?}");

    let mut wrong = Vec::new();
    for (path, room) in rooms() {
        let Some(own) = rank(&room) else {
            wrong.push(format!("{path} is in the room `{room}`, which lib.rs does not declare"));
            continue;
        };
        for used in used(&code(&read(&path))) {
            match rank(&used) {
                Some(rank) if rank <= own => {}
                Some(_) => wrong.push(format!("{path} uses crate::{used}, which is declared below {room}")),
                None => wrong.push(format!("{path} uses crate::{used}, which is not a module of lib.rs")),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `super::super`, and `super` at the top of a room's first file, leave the room unseen by the test above.
#[test]
fn nobody_leaves_a_room_by_super() {
    let mut wrong = Vec::new();
    for (path, room) in rooms() {
        let code = code(&read(&path));
        if code.contains("super::super") {
            wrong.push(format!("{path} says super::super: say crate::{room}"));
        }
        if path == format!("src/{room}.rs") && code[..inline_module(&code)].contains("super::") {
            wrong.push(format!("{path} says super:: at its top, which is the crate's root: say crate::"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_module_is_name_rs_beside_name() {
    let wrong: Vec<_> = sources("src").into_iter().filter(|path| path.ends_with("/mod.rs")).collect();
    assert!(wrong.is_empty(), "{wrong:?}: `name.rs` stands beside `name/`");
}

#[test]
fn unsafe_stays_in_sys() {
    let others = rooms().into_iter().filter(|(_, room)| room != "sys").map(|(path, _)| path);
    let wrong: Vec<_> = others.filter(|path| words(&code(&read(path))).any(|word| word == "unsafe")).collect();
    assert!(wrong.is_empty(), "{wrong:?}: `unsafe` is the room sys's alone");
}

/// A picture, not a gate: it prints and never fails for length.
#[test]
fn files_that_outgrow_a_sitting_are_named() {
    let mut long = Vec::new();
    for path in sources("src") {
        let text = read(&path);
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        if lines > SITTING {
            long.push((lines, path));
        }
    }
    long.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, path) in long {
        println!("{path}: {lines} lines before its tests");
    }
    assert!(!sources("src").is_empty(), "no sources found");
}

/// Lines of code one reads without losing the thread.
const SITTING: usize = 350;

#[test]
fn every_dependency_is_used() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let mut unused = Vec::new();
    for (section, folders) in [("dependencies", &["src"][..]), ("dev-dependencies", &["src", "tests"])] {
        let code: String = folders.iter().flat_map(|folder| sources(folder)).map(|path| code(&read(&path))).collect();
        let dependencies = manifest[section].as_table().expect("a table of dependencies").keys();
        let named = |name: &str| code.contains(&format!("{}::", name.replace('-', "_")));
        unused.extend(dependencies.filter(|name| !named(name)).map(|name| format!("{name} of {section}")));
    }
    assert!(unused.is_empty(), "named nowhere: {}", unused.join(", "));
}

/// A tests/ file that no `[[test]]` names would never run: `autotests` is off.
#[test]
fn every_test_file_is_run() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let named: BTreeSet<String> = ["test", "bench"]
        .into_iter()
        .filter_map(|kind| Some((kind, manifest.get(kind)?.as_array()?)))
        .flat_map(|(_, targets)| targets)
        .map(|target| {
            let name = target["name"].as_str().expect("a target has a name");
            target.get("path").and_then(toml::Value::as_str).map_or_else(
                || [format!("tests/{name}.rs"), format!("tests/{name}/main.rs")].into_iter().find(|path| Path::new(path).exists()),
                |path| Some(path.to_owned()),
            )
        })
        .map(|path| path.expect("a named test has its file"))
        .collect();
    let top = fs::read_dir("tests").expect("tests/").map(|entry| entry.expect("an entry of tests/").path());
    let roots = top.map(|path| if path.is_dir() { path.join("main.rs") } else { path });
    let roots = roots.filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "rs"));
    let forgotten: Vec<_> = roots.map(|path| path.display().to_string()).filter(|path| !named.contains(path)).collect();
    assert!(forgotten.is_empty(), "Cargo.toml has no [[test]] for {}", forgotten.join(", "));
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// The Rust files of a folder, sorted.
fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display())) {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.to_str().expect("paths are UTF-8").to_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

/// Every file that belongs to a room, with the room: `tunnel` of src/tunnel.rs and of src/tunnel/udp.rs.
fn rooms() -> Vec<(String, String)> {
    let files = sources("src").into_iter().filter(|path| path != "src/lib.rs" && path != "src/main.rs");
    files
        .map(|path| {
            let inside = path.strip_prefix("src/").expect("it was found in src/");
            let room = inside.split('/').next().unwrap_or(inside);
            let room = room.strip_suffix(".rs").unwrap_or(room).to_owned();
            (path, room)
        })
        .collect()
}

/// The modules that a root file declares, in order.
fn declared(code: &str) -> Vec<String> {
    let mut words = words(code).peekable();
    let mut order = Vec::new();
    while let Some(word) = words.next() {
        if word == "mod" {
            order.extend(words.peek().map(|name| (*name).to_owned()));
        }
    }
    order
}

/// What follows `crate::`, also the first names inside `crate::{…}`.
fn used(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate") {
        let before = code[..at].chars().next_back();
        let Some(after) = code[at + "crate".len()..].trim_start().strip_prefix("::") else { continue };
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        match after.trim_start().strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(head(after)),
        }
    }
    found
}

/// The first name of every element of a group whose `{` has been taken.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                found.extend(head(&group[start..at]).filter(|name| name != "self"));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The first name of a path, or the `*` that hides all names.
fn head(path: &str) -> Option<String> {
    let path = path.trim_start();
    if path.starts_with('*') {
        return Some("*".into());
    }
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    Some(path[..end].to_owned()).filter(|name| !name.is_empty())
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Where the first `mod name {` begins, or the end: `super` is the file itself from there on.
fn inline_module(code: &str) -> usize {
    let opens = |at: usize| {
        let rest = code[at + "mod ".len()..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        rest.trim_start().starts_with('{')
    };
    code.match_indices("mod ").map(|(at, _)| at).find(|at| opens(*at)).unwrap_or(code.len())
}

/// The text without comments and without what literals say.
fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let word_before = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, '"'),
            'r' if !word_before || code.ends_with('b') => raw(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skip == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skip..];
        }
    }
    code
}

/// Length of a comment that may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a literal from its first `quote` to the next that no backslash precedes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Length of `r"…"` or `r#"…"#`; 0 if it is a name.
fn raw(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let Some(body) = text[1 + hashes..].strip_prefix('"') else { return 0 };
    let close = format!("\"{}", "#".repeat(hashes));
    body.find(&close).map_or(text.len(), |at| 2 + hashes + at + close.len())
}

/// Length of `'x'` or `'\n'`; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 0,
    }
}

mod itself {
    use super::*;

    #[test]
    fn finds_every_way_to_name_a_module() {
        for (text, want) in [
            ("use crate::policy;", &["policy"][..]),
            ("use crate::{policy, tunnel::{self, udp::{A, B}}, ended::Ended};", &["policy", "tunnel", "ended"]),
            ("use crate::{\n    self,\n    config::Config,\n};", &["config"]),
            ("fn f() -> crate :: ended :: Ended {}", &["ended"]),
            ("pub(in crate::proto) fn f() {}", &["proto"]),
            ("use crate::*;", &["*"]),
            ("$crate::metrics::count!()", &["metrics"]),
            ("my_crate::policy(); a_crate", &[]),
            ("// crate::policy\n/* crate::a /* */ crate::b */ /// [`crate::c`]\n", &[]),
            (r##"f("crate::a \" crate::b", r#"" crate::c"#, br"crate::d", b"crate::e")"##, &[]),
            (r#"let c = '"'; crate::policy::f(c, '\'', '\\', "'"); crate::tunnel::g::<'a>()"#, &["policy", "tunnel"]),
            ("fn f<'a>(x: &'a str) { crate::ended::g(x, \"'\") }", &["ended"]),
        ] {
            assert_eq!(used(&code(text)), want, "{text}");
        }
    }

    #[test]
    fn reads_the_order_past_documentation() {
        let text = "//! mod wrong;\n/// The first mod.\npub mod proto;\n\nmod sys;\npub(crate) mod cli;\n";
        assert_eq!(declared(&code(text)), ["proto", "sys", "cli"]);
    }

    #[test]
    fn knows_an_inline_module_from_a_declared_one() {
        let text = "mod a;\nuse super::b;\nmod tests { use super::*; }";
        assert!(text[..inline_module(text)].ends_with("use super::b;\n"));
        assert_eq!(inline_module("mod a;\npub mod b;\n"), "mod a;\npub mod b;\n".len());
    }
}
