//! URI templates: whatever the path, a target that comes out of it is clean and goes back in.

use std::fmt::Write as _;

use bolero::{TypeGenerator, ValueGenerator, check};
use masque_relay::proto::template::{Match, Template, WELL_KNOWN};

/// A path or a template, a piece at a time.
#[derive(Debug, TypeGenerator)]
enum Token {
    Known(#[generator(0..TOKENS.len())] usize),
    Visible(#[generator(33..127)] u8),
    Encoded(u8),
    Any(char),
}

const TOKENS: [&str; 24] = [
    "/",
    "?",
    "&",
    "=",
    ",",
    "{",
    "}",
    "%",
    "target_host",
    "target_port",
    "{target_host}",
    "{target_port}",
    "{?target_host,target_port}",
    "{&target_port}",
    "https://relay.example",
    "/.well-known/masque/udp/",
    "192.0.2.1",
    "2001%3Adb8%3A%3A1",
    "example.test",
    "443",
    "masque",
    "h=",
    "&p=",
    "-",
];

const TEMPLATES: [&str; 5] = [
    WELL_KNOWN,
    "https://relay.example/masque?h={target_host}&p={target_port}",
    "/masque{?target_host,target_port}",
    "/{target_port}/to/{target_host}",
    "/u,{target_host},{target_port}",
];

fn text(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Known(at) => text.push_str(TOKENS[*at]),
            Token::Visible(byte) => text.push(char::from(*byte)),
            Token::Any(char) => text.push(*char),
            Token::Encoded(byte) => write!(text, "%{byte:02X}").expect("a string takes anything"),
        }
    }
    text
}

fn few() -> impl ValueGenerator<Output = Vec<Token>> {
    bolero::produce::<Vec<Token>>().with().len(0..4_usize)
}

#[test]
fn any_path_is_laid() {
    let templates = TEMPLATES.map(|text| Template::parse(text).expect("a template"));
    check!().with_type::<Vec<Token>>().with_test_time(super::TIME).for_each(|tokens| {
        for template in &templates {
            judge(template, &text(tokens));
        }
    });
}

#[test]
fn any_variables_are_laid() {
    let templates = TEMPLATES.map(|text| Template::parse(text).expect("a template"));
    check!().with_generator((few(), few(), few())).with_test_time(super::TIME).for_each(|(host, port, rest)| {
        for (template, form) in templates.iter().zip(TEMPLATES) {
            let form = form
                .trim_start_matches("https://relay.example")
                .replace("{?target_host,target_port}", "?target_host={target_host}&target_port={target_port}");
            let path = form.replace("{target_host}", &text(host)).replace("{target_port}", &text(port)) + &text(rest);
            judge(template, &path);
        }
    });
}

#[test]
fn any_text_is_a_template_or_refused() {
    check!().with_type::<Vec<Token>>().with_test_time(super::TIME).for_each(|tokens| judge_text(&text(tokens)));
}

#[test]
fn any_text_around_the_variables_is_a_template_or_refused() {
    check!().with_generator((few(), few(), few())).with_test_time(super::TIME).for_each(|(front, middle, rest)| {
        judge_text(&format!("/{}{{target_host}}{}{{target_port}}{}", text(front), text(middle), text(rest)));
    });
}

/// A template has a path for every target, and finds the target in it.
fn judge_text(text: &str) {
    let Ok(template) = Template::parse(text) else { return };
    let laid = template.lay(&template.expand("2001:db8::1", 443));
    assert_eq!(laid, Match::Target { host: "2001:db8::1".into(), port: "443".into() });
}

fn judge(template: &Template, path: &str) {
    let Match::Target { host, port } = template.lay(path) else { return };
    for variable in [&host, &port] {
        assert!(!variable.is_empty());
        assert!(!variable.contains(|char: char| char.is_control() || "/%".contains(char)), "{variable:?}");
    }
    let Some(number) = port.parse::<u16>().ok().filter(|number| number.to_string() == port) else { return };
    assert_eq!(template.lay(&template.expand(&host, number)), Match::Target { host, port });
}
