//! One request to a host, at a port or at a socket in the file system, on a connection of its own and in time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bellhop::hosted::now;

/// More of an answer is not read.
const BYTES_MAX: u64 = 16 << 20;

/// Where a host is asked.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    Port(SocketAddr),
    Path(PathBuf),
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With the line of the status.
    pub(crate) head: String,
    pub(crate) text: String,
}

/// What is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) kind: &'a str,
    pub(crate) body: &'a [u8],
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or(serde_json::Value::Null)
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    }
}

fn left(until: Instant) -> Result<Duration, String> {
    until.checked_duration_since(now()).filter(|left| !left.is_zero()).ok_or_else(|| "no answer in time".to_owned())
}

impl Peer {
    /// As the verbs are told it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Port(address) => format!("http://{address}"),
            Self::Path(path) => format!("unix:{}", path.display()),
        }
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// No connection, or no whole answer by then.
    pub(crate) fn send(&self, request: &Request<'_>, until: Instant) -> Result<Answer, String> {
        match self {
            Self::Port(address) => {
                let socket = TcpStream::connect_timeout(address, left(until)?).map_err(|e| e.to_string())?;
                socket.set_write_timeout(Some(left(until)?)).map_err(|e| e.to_string())?;
                let bound = |left| socket.set_read_timeout(Some(left));
                exchange(&socket, &bound, request, until)
            }
            Self::Path(path) => {
                let socket = UnixStream::connect(path).map_err(|e| e.to_string())?;
                socket.set_write_timeout(Some(left(until)?)).map_err(|e| e.to_string())?;
                let bound = |left| socket.set_read_timeout(Some(left));
                exchange(&socket, &bound, request, until)
            }
        }
    }

    /// A request that needs no token.
    pub(crate) fn get(&self, path: &str, until: Instant) -> Result<Answer, String> {
        self.send(&Request { method: "GET", path, ..Request::default() }, until)
    }
}

fn exchange<S>(
    mut socket: S,
    bound: &dyn Fn(Duration) -> std::io::Result<()>,
    request: &Request<'_>,
    until: Instant,
) -> Result<Answer, String>
where
    S: Read + Write + Copy,
{
    let mut head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", request.method, request.path);
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
    let sent = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(request.body));
    let mut bytes = Vec::new();
    let mut part = vec![0; 1 << 16];
    loop {
        bound(left(until)?).map_err(|e| e.to_string())?;
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            // As of any read: a signal has come to this process.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("no answer: {error}")),
        }
        if bytes.len() as u64 > BYTES_MAX {
            return Err("the answer has no end".to_owned());
        }
    }
    if bytes.is_empty() {
        return Err(sent.err().map_or_else(|| "closed without an answer".to_owned(), |e| e.to_string()));
    }
    answer(&bytes)
}

fn answer(bytes: &[u8]) -> Result<Answer, String> {
    let all = String::from_utf8_lossy(bytes);
    let (head, body) = all.split_once("\r\n\r\n").ok_or_else(|| format!("the answer's head has no end: {all}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no status: {head}"))?;
    let mut answer = Answer { status, head: head.to_owned(), text: body.to_owned() };
    if answer.header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked")) {
        answer.text = unchunked(body)?;
    }
    Ok(answer)
}

fn unchunked(mut body: &str) -> Result<String, String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").ok_or("the answer breaks off")?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|e| format!("{e}: {size}"))?;
        if size == 0 {
            return Ok(whole);
        }
        whole.push_str(rest.get(..size).ok_or("the answer breaks off")?);
        body = rest.get(size..).and_then(|rest| rest.strip_prefix("\r\n")).ok_or("the answer breaks off")?;
    }
}
