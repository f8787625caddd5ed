//! The ledger of accepted changes and the log of requests: files of one JSON object a line, and their recent lines in memory.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use serde_json::{Map, Value};

/// Lines of each book that stay readable over the control API; the files keep all of them.
const KEPT_MAX: usize = 50_000;
/// An argument longer than this is cut in both books.
const ARGUMENT_CHARACTERS_MAX: usize = 2_000;

#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) ledger: Book,
    pub(crate) requests: Book,
}

impl Journal {
    pub(crate) fn open(ledger: Option<&Path>, requests: Option<&Path>) -> io::Result<Self> {
        Ok(Self { ledger: Book::open(ledger)?, requests: Book::open(requests)? })
    }
}

/// Lines that only grow in number.
#[derive(Debug)]
pub(crate) struct Book {
    file: Option<BufWriter<File>>,
    kept: VecDeque<String>,
    lines: u64,
    next: u64,
}

impl Book {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        Ok(Self { file: file.map(BufWriter::new), kept: VecDeque::new(), lines: 0, next: 0 })
    }

    /// The number of the next entry.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Appends a line. After Ok the bytes are the operating system's: they outlive this process, not a power cut.
    pub(crate) fn append(&mut self, line: &Map<String, Value>) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        if let Some(file) = &mut self.file {
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.flush()?;
            text.pop();
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(text);
        self.lines += 1;
        Ok(())
    }

    /// The kept lines as one JSON array, and how many older ones were forgotten.
    pub(crate) fn read(&self, from: usize) -> (Vec<Value>, u64) {
        let lines = self.kept.iter().skip(from).filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines, self.lines - self.kept.len() as u64)
    }

    /// Forgets the lines in memory; the file keeps them and numbers go on.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
        self.lines = 0;
    }
}

/// The arguments as both books show them: no token, nothing endless.
pub(crate) fn facts(arguments: &Map<String, Value>) -> Value {
    let short = |value: &Value| match value {
        Value::String(text) if text.len() > ARGUMENT_CHARACTERS_MAX => {
            let cut: String = text.chars().take(ARGUMENT_CHARACTERS_MAX).collect();
            Value::String(format!("{cut}…"))
        }
        other => other.clone(),
    };
    Value::Object(
        arguments
            .iter()
            .filter(|(name, _)| !name.to_ascii_lowercase().contains("token"))
            .map(|(name, value)| (name.clone(), short(value)))
            .collect(),
    )
}
