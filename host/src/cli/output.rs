//! How a verb ends and what it says.

use std::io::Write as _;
use std::process::ExitCode;

use bellhop_core::diagnostic::{Diagnostic, render};
use bellhop_core::text::{self, plain_json, plain_lines};
use serde_json::{Value, json};

use bellhop_api::problem::without_tokens;

/// How the process ends. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is done.
    Done = 0,
    /// It was tried and failed.
    Failed = 1,
    /// The arguments or the configuration cannot be used.
    Usage = 2,
    /// There are diagnostics that block.
    Diagnostics = 3,
    /// What was named is not there, or is there in another state.
    Missing = 4,
    /// No server answers.
    Unreachable = 5,
    /// The store failed.
    Storage = 70,
    /// A part of the host has ended: it has to be started again.
    Part = 71,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A text that others wrote, for a line of ours: nothing in it moves, colours, turns, or begins a line of its own.
pub(crate) fn plain(others: &str) -> String {
    text::plain(others).into_owned()
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people.
    Text,
    /// JSON.
    Json,
}

/// Why a verb ended otherwise than done.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// Stable, for programs.
    pub(crate) code: String,
    /// One line, without `error:`.
    pub(crate) message: String,
    /// What helps.
    pub(crate) help: Option<String>,
    /// All the faults, where there are several.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The server's own words, which JSON shows as they are.
    pub(crate) problem: Option<Value>,
}

impl Failure {
    fn of(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: plain(&message.into()),
            help: None,
            diagnostics: Vec::new(),
            problem: None,
        }
    }

    /// It was tried and did not work.
    pub(crate) fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::of(Exit::Failed, code, message)
    }

    /// The arguments cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::of(Exit::Usage, "usage", message)
    }

    /// What was named is not there.
    pub(crate) fn missing(code: &str, message: impl Into<String>) -> Self {
        Self::of(Exit::Missing, code, message)
    }

    /// No server answers.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::of(Exit::Unreachable, "unreachable", message)
    }

    /// A server has taken the request, as far as is known, and its answer did not come.
    pub(crate) fn answer_lost(message: impl Into<String>) -> Self {
        Self::of(Exit::Unreachable, "answer-lost", message)
    }

    /// Whether it is [`Self::answer_lost`].
    pub(crate) fn is_answer_lost(&self) -> bool {
        self.code == "answer-lost"
    }

    /// Whether it is [`Self::unreachable`].
    pub(crate) fn is_nobody_there(&self) -> bool {
        self.code == "unreachable"
    }

    /// The store failed.
    pub(crate) fn storage(message: impl Into<String>) -> Self {
        Self::of(Exit::Storage, "storage-failed", message)
    }

    /// A file of the user's cannot be read.
    pub(crate) fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Self {
        let text = format!("{} cannot be read: {error}", path.display());
        if error.kind() == std::io::ErrorKind::NotFound {
            Self::missing("file-not-found", text)
        } else {
            let failure = Self::failed("file-unreadable", text);
            match error.kind() {
                std::io::ErrorKind::InvalidInput => failure.with_help("put what it gives into a file first, and name that"),
                std::io::ErrorKind::FileTooLarge => {
                    failure.with_help("name another file; where it is the right one, raise `file_bytes_max` under [limits] in bellhop.toml")
                }
                _ => failure,
            }
        }
    }

    /// A file cannot be written.
    pub(crate) fn unwritable(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed("file-unwritable", format!("{} cannot be written: {error}", path.display()))
    }

    /// The same with more lines below the first.
    pub(crate) fn with_lines(mut self, lines: &[String]) -> Self {
        for line in lines {
            self.message = format!("{}\n  {}", self.message, plain(line));
        }
        self
    }

    /// The same with what helps.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(plain(&help.into()));
        self
    }

    /// The same with all its faults.
    pub(crate) fn with_diagnostics(mut self, diagnostics: Vec<Diagnostic>) -> Self {
        self.diagnostics = diagnostics;
        self
    }
}

/// Standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    format: Format,
}

impl Out {
    /// Text unless said.
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self { format: format.unwrap_or(Format::Text) }
    }

    /// Whether programs read.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Says `text` or, to programs, `value`.
    pub(crate) fn answer(self, text: impl FnOnce() -> String, value: &Value) {
        match self.format {
            Format::Text => self.text(&text()),
            Format::Json => self.json(value),
        }
    }

    /// A line or several on standard output. Whatever is in them, they move, colour and turn nothing; that no text of
    /// others begins a line of its own is seen to by [`plain`], where it is put into one.
    pub(crate) fn text(self, text: &str) {
        Self::put(&plain_lines(text));
    }

    fn put(text: &str) {
        let mut stdout = std::io::stdout().lock();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        if let Err(error) = write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
            ends_unsaid(&error);
        }
    }

    /// A line of a story on standard output; see [`say!`](crate::cli::output::say).
    pub(crate) fn line(line: std::fmt::Arguments<'_>) {
        Self::put(&format!("{}\n", plain_lines(&line.to_string())));
    }

    /// A line of a story on standard error; see [`tell!`](crate::cli::output::tell).
    pub(crate) fn aside(line: std::fmt::Arguments<'_>) {
        let _gone = writeln!(std::io::stderr(), "{}", plain_lines(&line.to_string()));
    }

    /// From here on the verb ends when nobody reads what it prints any more, also while it has nothing to print.
    pub(crate) fn ends_with_its_reader(self) {
        use rustix::event::{PollFd, PollFlags, poll};
        let watched = std::thread::Builder::new().name("reader".to_owned()).spawn(|| {
            let stdout = std::io::stdout();
            // Nothing is asked for, so that only the reader's end is told.
            let mut ends = [PollFd::new(&stdout, PollFlags::empty())];
            loop {
                match poll(&mut ends, None) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(1..) if ends[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => {
                        ends_unsaid(&std::io::ErrorKind::BrokenPipe.into());
                    }
                    // It cannot be watched: the next line that is printed finds out.
                    _ => return,
                }
            }
        });
        // Without a thread the next line that is printed finds out.
        drop(watched);
    }

    /// A JSON document of several lines on standard output.
    pub(crate) fn json(self, value: &Value) {
        Self::put(&plain_json(&format!("{value:#}")));
    }

    /// A JSON document in one line on standard output.
    pub(crate) fn json_line(self, value: &Value) {
        Self::put(&plain_json(&value.to_string()));
    }

    /// A remark beside the answer, on standard error.
    pub(crate) fn note(self, text: &str) {
        Self::aside(format_args!("{text}"));
    }

    /// Says why it failed; gives how the process ends.
    pub(crate) fn failure(self, failure: &Failure) -> Exit {
        match self.format {
            Format::Text => {
                for diagnostic in &failure.diagnostics {
                    self.note(&render(diagnostic));
                }
                self.note(&without_tokens(format!("error: {}", failure.message)));
                if let Some(help) = &failure.help {
                    self.note(&format!("  fix: {help}"));
                }
            }
            Format::Json => {
                let message = without_tokens(failure.message.clone());
                let mut own = json!({ "code": failure.code, "message": message });
                if let Some(help) = &failure.help {
                    own["help"] = json!(help);
                }
                if !failure.diagnostics.is_empty() {
                    own["diagnostics"] = json!(failure.diagnostics);
                }
                self.json(&json!({ "error": failure.problem.as_ref().unwrap_or(&own) }));
            }
        }
        failure.exit
    }
}

/// Ends the program, which cannot say what it has to say: quietly where its reader has gone, as one that has read enough does.
pub(super) fn ends_unsaid(error: &std::io::Error) -> ! {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(Exit::Done as i32);
    }
    let _gone = writeln!(std::io::stderr(), "error: what is to be said cannot be written: {error}");
    std::process::exit(Exit::Failed as i32);
}

/// Prints a line of a story, as `println!` would, but that it ends the program where it cannot.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::Out::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// The same on standard error, where it is lost if nobody reads it.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::output::Out::aside(format_args!($($text)*)) };
}
pub(crate) use tell;

/// Columns under their headings, two spaces between, for people.
pub(crate) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.chars().count()));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_headings() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["cccc".to_owned(), String::new()]];
        assert_eq!(columns(&["X", "Y"], &rows), "X     Y\na     bb\ncccc\n");
    }
}
