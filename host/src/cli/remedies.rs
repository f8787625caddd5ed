//! That what a remedy says can be typed, and that the route it names is there: each command and route of every refusal
//! that the tests of this program have seen, of every kind of problem and of every page.

use std::path::{Path, PathBuf};

use clap::Parser as _;

use super::arguments::Arguments;
use bellhop_api::{problem, routes};

/// Routes that are there in name only: nothing may lead there.
const NAMES_ONLY: [&str; 2] = ["/v1/connection-links", "/v1/schema/workflow.json"];

/// The words of a line as a shell takes them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            // Outside of quotes it takes the next one as it is.
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What a person puts in place of a word that stands for something.
fn filled(word: String) -> String {
    match word.as_str() {
        "KIND" | "--kind=KIND" => word.replace("KIND", "workspace"),
        "NAMESPACE/NAME" => "people/hello".to_owned(),
        "SECONDS" | "N" => "5".to_owned(),
        _ => word,
    }
}

fn is_typed(command: &str) -> Result<(), String> {
    let words: Vec<String> = words(command).into_iter().map(filled).collect();
    match Arguments::try_parse_from(&words) {
        Ok(_) => Ok(()),
        Err(error) if !error.use_stderr() => Ok(()),
        // A text that only names a verb is not meant to be typed as it is.
        Err(error) if error.kind() == clap::error::ErrorKind::MissingRequiredArgument && words.len() <= 3 => Ok(()),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_a_route(method: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |route: &routes::Route| {
        let own: Vec<&str> = route.path.split('/').collect();
        let alike = |(own, part): (&&str, &&str)| own == part || (own.starts_with('{') && !part.is_empty());
        own.len() == parts.len() && own.iter().zip(&parts).all(alike)
    };
    let found = routes::ROUTES.iter().find(|route| route.verb.as_str() == method && fits(route));
    found.is_some_and(|route| !NAMES_ONLY.contains(&route.path))
}

/// The commands in a text: from `bellhop ` to what ends it.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("bellhop ") {
        let before = rest[..at].chars().next_back();
        let line = &rest[at..];
        let end = match before {
            Some('`') => line.find('`'),
            _ => line.find([';', '`', '\n', '"', ',', '|', '(', '…']).or_else(|| line.find(". ")),
        };
        let command = &line[..end.unwrap_or(line.len())];
        rest = &line[command.len().max(1)..];
        // A sentence that speaks of the program is none.
        let verb = words(command).into_iter().nth(1).unwrap_or_default();
        let ours = before.is_none_or(|c| !c.is_alphanumeric() && c != '/' && c != '-' && c != '.');
        let is_verb = <Arguments as clap::CommandFactory>::command().find_subcommand(&verb).is_some();
        if ours && is_verb && !command.contains("...") {
            found.push(command.trim().trim_end_matches(['.', ':']).to_owned());
        }
    }
    found
}

fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, endings, found);
        } else if endings.iter().any(|ending| path.extension().is_some_and(|e| e == *ending)) {
            found.push(path);
        }
    }
}

/// Every remedy's route in a JSON value.
fn paths(value: &serde_json::Value, found: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| paths(item, found)),
        serde_json::Value::Object(fields) => {
            if let (Some(method), Some(path)) =
                (fields.get("method").and_then(|m| m.as_str()), fields.get("path").and_then(|p| p.as_str()))
            {
                found.push((method.to_owned(), path.to_owned()));
            }
            fields.values().for_each(|field| paths(field, found));
        }
        _ => {}
    }
}

#[test]
fn attack_b14_each_command_and_route_of_a_remedy_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut typed = Vec::new();
    let mut routes = Vec::new();
    for kind in problem::ALL {
        typed.extend(commands(kind.remedy).into_iter().map(|command| (kind.code.to_owned(), command)));
    }
    let mut all = Vec::new();
    for folder in ["docs/errors", "core/tests/cases", "tests/cases/wrong"] {
        files(&root.join(folder), &["md", "json", "expected", "txt"], &mut all);
    }
    for file in &all {
        // Ids are left out of what is kept.
        let text = std::fs::read_to_string(file).unwrap().replace("run_…", "run_ID");
        let name = file.display().to_string();
        typed.extend(commands(&text).into_iter().map(|command| (name.clone(), command)));
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            let mut found = Vec::new();
            paths(&value, &mut found);
            routes.extend(found.into_iter().map(|(method, path)| (name.clone(), method, path)));
        }
    }
    assert!(typed.len() > 100 && !routes.is_empty(), "{} commands, {} routes", typed.len(), routes.len());
    for (place, command) in typed {
        if let Err(why) = is_typed(&command) {
            wrong.push(format!("{place}: {command}\n{why}"));
        }
    }
    for (place, method, path) in routes.iter().filter(|(_, method, path)| !is_a_route(method, path)) {
        wrong.push(format!("{place}: {method} {path} leads nowhere"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// By a shell that is there: one word comes out as it went in, whatever is in it.
#[test]
fn author_d5_a_word_of_a_command_is_what_a_shell_takes_for_one() {
    let texts = [
        "plain",
        "",
        "a b",
        "it's",
        "$(touch x)",
        "`id`",
        "a;b|c&d",
        "#x",
        "*",
        "~",
        "~/x",
        "\"",
        "\\",
        "é",
        "{a,b}",
        "!x",
        "chat.postMessage:channel=#it-*",
        "/do/0/say hello#0",
        "a\\'b",
    ];
    for text in texts {
        let word = bellhop_core::text::shell_word(text);
        let shell = std::process::Command::new("sh").args(["-c", &format!("printf %s {word}")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shell.stdout), text, "{word}");
        assert_eq!(words(&word), [text], "{word}");
    }
    for (text, word) in
        [("a\nb", r"$'a\012b'"), ("\u{202e}x'", r"$'\342\200\256x\''"), ("\u{1b}[2J\\", r"$'\033[2J\\'")]
    {
        assert_eq!(bellhop_core::text::shell_word(text), word);
    }
}

#[test]
fn what_leads_nowhere_is_found() {
    assert!(is_typed("bellhop runs lits").is_err() && is_typed("bellhop runs list --lable a=b").is_err());
    assert!(is_typed("bellhop runs resolve RUN --done --answer '{\"a\": 1}'").is_ok());
    assert!(
        !is_a_route("POST", "/v1/connection-links") && !is_a_route("GET", "/v1/run") && !is_a_route("PUT", "/v1/runs")
    );
    assert!(is_a_route("POST", "/v1/connections?replace=true") && is_a_route("PUT", "/v1/workflows/a/b/bindings"));
    assert_eq!(
        commands("see it: bellhop runs list; or `bellhop token list`"),
        ["bellhop runs list", "bellhop token list"]
    );
}
