//! The README's walk through a failure: its commands are run, and say what it says.

use std::process::{Command, Stdio};

use crate::{Home, serve::Relay};

/// One fenced block of the walk: its kind, and its lines.
struct Block {
    kind: String,
    lines: Vec<String>,
}

#[test]
fn the_walk_through_a_failure_is_true() {
    let blocks = walk();
    let [serve, steps @ ..] = &blocks[..] else { panic!("no walk in the README") };
    assert_eq!(serve.lines, ["masque-relay serve --dev --fault stop-client-control"]);
    let home = Home::new();
    home.write("mac.log", include_str!("../logs/macos-abort.log"));
    let mut relay = Relay::start(&home, &["serve", "--dev", "--listen", "127.0.0.1:0", "--fault", "stop-client-control"]);
    // It examines itself first: those are connections too.
    relay.process.hears("doctor: ");

    let (mut said, mut told) = (String::new(), 0);
    for block in steps {
        if block.kind == "sh" {
            said = block.lines.iter().map(|command| run(&home, &relay, command)).collect();
            continue;
        }
        for line in &block.lines {
            assert!(said.contains(line.as_str()), "the README has `{line}`, and this was said:\n{said}");
            told += 1;
        }
    }
    assert!(told >= 8, "the walk quotes {told} lines");
}

/// What a command of the walk says, on stdout and stderr.
fn run(home: &Home, relay: &Relay, command: &str) -> String {
    let running: serde_json::Value = serde_json::from_str(&home.read("certs/dev/relay.json")).expect("JSON");
    let echo = running["udp"].as_str().expect("an address");
    let mut command = command.replace("https://127.0.0.1:4433", &relay.url).replace("--udp 127.0.0.1:7", &format!("--udp {echo}"));
    // Which worker a connection comes to, and so its ID, is the kernel's choice.
    if command == "masque-relay sessions 1.1" {
        let list = home.stdout(&["sessions"]);
        let id = list.lines().filter(|line| line.contains("H3_CLOSED_CRITICAL_STREAM), reason")).find_map(|line| line.split(' ').next());
        command = format!("masque-relay sessions {}", id.unwrap_or_else(|| panic!("no such connection in\n{list}")));
    }
    let program = env!("CARGO_BIN_EXE_masque-relay");
    let mut shell = Command::new("sh");
    shell.current_dir(home.path("")).arg("-c").arg(command.replace("masque-relay ", &format!("{program} "))).stdin(Stdio::null());
    let output = shell.output().expect("a shell");
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

/// The fenced blocks of the README's section, without their indentation.
fn walk() -> Vec<Block> {
    let readme = include_str!("../../README.md");
    let section = readme.split("### A failure, from the complaint to the cause").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("something");
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in section.lines().map(str::trim) {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(kind) => {
                blocks.push(Block { kind: kind.into(), lines: Vec::new() });
                inside = true;
            }
            None if inside => blocks.last_mut().expect("one was begun").lines.push(line.into()),
            None => {}
        }
    }
    blocks
}
