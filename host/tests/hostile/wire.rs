//! HTTP over a socket of its own for every request, every byte of it ours, and nothing waits longer than it is told.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bellhop::hosted::now;

/// More of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What came back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

/// What is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

fn left(until: Instant) -> Result<Duration, String> {
    until.checked_duration_since(now()).filter(|left| !left.is_zero()).ok_or_else(|| "no answer in time".to_owned())
}

/// A connection, in time.
pub(crate) fn connect(address: &str, until: Instant) -> Result<TcpStream, String> {
    let address: SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let socket = TcpStream::connect_timeout(&address, left(until)?).map_err(|e| format!("no connection: {e}"))?;
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(socket)
}

/// Sends a request and reads its whole answer.
///
/// # Errors
/// No connection, no whole answer by then, or none at all.
pub(crate) fn send(address: &str, request: &Request<'_>, until: Instant) -> Result<Answer, String> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", request.method, request.path);
    if !request.token.is_empty() {
        head.push_str(&format!("Authorization: Bearer {}\r\n", request.token));
    }
    if !request.kind.is_empty() {
        head.push_str(&format!("Content-Type: {}\r\n", request.kind));
    }
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body.len()));
    exchange(address, &[head.as_bytes(), request.body], request.method == "HEAD", until)
}

/// Sends bytes as they are and reads one answer, of which only the head comes where that is so.
pub(crate) fn exchange(address: &str, bytes: &[&[u8]], only_head: bool, until: Instant) -> Result<Answer, String> {
    let mut socket = connect(address, until)?;
    socket.set_write_timeout(Some(left(until)?)).map_err(|e| e.to_string())?;
    // A server may answer before it has read everything, and then need not take the rest.
    let sent = bytes.iter().try_for_each(|part| socket.write_all(part));
    let answer = read(&socket, only_head, until);
    match (answer, sent) {
        (Err(_), Err(error)) => Err(format!("the request was not taken: {error}")),
        (answer, _) => answer,
    }
}

/// One answer off a connection.
pub(crate) fn read(socket: &TcpStream, only_head: bool, until: Instant) -> Result<Answer, String> {
    let mut reader = BufReader::new(Timed { socket, until }.take(ANSWER_BYTES_MAX));
    let mut line = String::new();
    if reader.read_line(&mut line).map_err(|e| format!("no answer: {e}"))? == 0 {
        return Err("closed without an answer".to_owned());
    }
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("no status: {line}"))?;
    let (mut length, mut is_chunked) = (None, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).map_err(|e| e.to_string())? == 0 {
            return Err("the answer's head has no end".to_owned());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
        is_chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.contains("chunked");
    }
    let mut body = Vec::new();
    if only_head {
        // Its length is that of a body that does not come.
    } else if is_chunked {
        chunks(&mut reader, &mut body)?;
    } else if let Some(length) = length {
        body.resize(length, 0);
        reader.read_exact(&mut body).map_err(|e| format!("the answer breaks off: {e}"))?;
    } else if status >= 200 && status != 204 && status != 304 {
        let _until_closed = reader.read_to_end(&mut body);
    }
    Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
}

fn chunks(reader: &mut impl std::io::BufRead, body: &mut Vec<u8>) -> Result<(), String> {
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).map_err(|e| e.to_string())?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|e| format!("{e}: {size}"))?;
        let from = body.len();
        body.resize(from + size, 0);
        reader.read_exact(&mut body[from..]).map_err(|e| e.to_string())?;
        let mut end = String::new();
        reader.read_line(&mut end).map_err(|e| e.to_string())?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Reads until a moment.
struct Timed<'a> {
    socket: &'a TcpStream,
    until: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = left(self.until).map_err(std::io::Error::other)?;
        self.socket.set_read_timeout(Some(left))?;
        let mut socket = self.socket;
        socket.read(buffer)
    }
}
