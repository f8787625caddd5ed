//! A client of HTTP that is told every byte: what no honest library would send is sent, too.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A request that takes longer has hung.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// What is sent; the rest of a request follows from it.
#[derive(Clone, Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The head of an answer was read; its body is read from here.
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    chunked: bool,
    left: usize,
}

/// Sends a request. `Err` when the connection broke before the answer's head was there.
pub(crate) fn open(address: &str, request: &Request<'_>) -> std::io::Result<Stream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", request.method, request.path);
    if !request.token.is_empty() {
        head.push_str(&format!("Authorization: Bearer {}\r\n", request.token));
    }
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body.len()));
    // A server may answer before it has read everything, and then need not take the rest.
    let sent = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(&request.body));
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        sent?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status: {line}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let of = |wanted: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.as_str());
    let chunked = of("transfer-encoding").is_some_and(|e| e.contains("chunked"));
    let left = of("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    Ok(Stream { status, headers, reader, chunked, left })
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && self.chunked {
            let mut size = String::new();
            // Between two chunks there is an empty line.
            while size.trim().is_empty() {
                size.clear();
                if self.reader.read_line(&mut size)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.left = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            self.chunked = self.left > 0;
        }
        let most = buffer.len().min(self.left);
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}

/// Sends a request and reads its whole answer.
pub(crate) fn send(address: &str, request: &Request<'_>) -> std::io::Result<Answer> {
    let mut stream = open(address, request)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(Answer { status: stream.status, headers: std::mem::take(&mut stream.headers), text })
}

/// An event of a run, as its reader gets it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// The events that come until the stream ends or breaks, or `enough` says so.
pub(crate) fn events(stream: Stream, mut enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let mut found: Vec<Event> = Vec::new();
    let (mut id, mut kind) = (None, String::new());
    let mut lines = BufReader::new(stream).lines();
    while !enough(&found) {
        let Some(Ok(line)) = lines.next() else { break };
        match line.split_once(": ") {
            Some(("id", number)) => id = number.parse().ok(),
            Some(("event", name)) => name.clone_into(&mut kind),
            Some(("data", data)) => {
                let data = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
                found.push(Event { id: id.unwrap_or_else(|| panic!("an event without id")), kind: kind.clone(), data });
            }
            _ => {}
        }
    }
    found
}
