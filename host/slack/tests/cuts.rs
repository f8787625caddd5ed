//! The connection is closed at each byte of the request and at each byte of the answer: whatever happens, a write
//! reaches Slack at most once for one call, and the call says that its outcome is unknown.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bellhop_slack::catalog::Catalog;
use bellhop_slack::client::{Client, Failure, Options, Secret};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// After so many bytes of the request were read.
    Request(usize),
    /// After so many bytes of the answer were written.
    Answer(usize),
    Nowhere,
}

/// A server that closes as told at the `at`th request, counted over all connections, and answers the others.
struct Server {
    url: String,
    /// Requests of which the first byte arrived.
    begun: Arc<AtomicUsize>,
    /// Bytes of the last whole request.
    request_bytes: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(answer: Vec<u8>, at: usize, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (begun, request_bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let answer = Arc::new(answer);
        // Requests that a connection waits for; the one at which to cut counts even when no byte of it arrives.
        let expected = Arc::new(AtomicUsize::new(0));
        let (b, r) = (Arc::clone(&begun), Arc::clone(&request_bytes));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(
                    stream,
                    Arc::clone(&answer),
                    at,
                    cut,
                    Arc::clone(&expected),
                    Arc::clone(&b),
                    Arc::clone(&r),
                ));
            }
        });
        Self { url, begun, request_bytes, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<Vec<u8>>,
    at: usize,
    cut: Cut,
    expected: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    request_bytes: Arc<AtomicUsize>,
) {
    loop {
        let cut = if expected.fetch_add(1, SeqCst) == at { cut } else { Cut::Nowhere };
        let mut seen = Vec::new();
        loop {
            if cut == Cut::Request(seen.len()) {
                return;
            }
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1) => {}
                _ => return,
            }
            if seen.is_empty() {
                begun.fetch_add(1, SeqCst);
            }
            seen.push(byte[0]);
            if whole(&seen) {
                break;
            }
        }
        request_bytes.store(seen.len(), SeqCst);
        let end = if let Cut::Answer(end) = cut { end } else { answer.len() };
        if stream.write_all(&answer[..end]).await.is_err() || end < answer.len() {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Whether these bytes are a whole request.
fn whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |n| n.trim().parse::<usize>().unwrap());
    bytes.len() == end + 4 + length
}

struct Case {
    method: &'static str,
    arguments: Value,
    answer: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let body = r#"{"ok":true,"channel":"C1","ts":"1700000000.000100"}"#;
    let with_length =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (a, b) = body.split_at(20);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    let created = r#"{"id":"U1","userName":"ada"}"#;
    let created = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{created}", created.len());
    vec![
        Case {
            method: "chat.postMessage",
            arguments: json!({"channel": "C1", "text": "hi"}),
            answer: with_length.clone().into(),
        },
        Case { method: "chat.postMessage", arguments: json!({"channel": "C1", "text": "hi"}), answer: chunked.into() },
        Case { method: "admin.emoji.add", arguments: json!({"name": "bell"}), answer: with_length.into() },
        Case { method: "scim.v2.post.Users", arguments: json!({"userName": "ada"}), answer: created.into() },
        Case {
            method: "scim.v2.delete.Users.id",
            arguments: json!({"id": "U1"}),
            answer: b"HTTP/1.1 204 No Content\r\nx-slack-req-id: r\r\n\r\n".to_vec(),
        },
    ]
}

async fn call(client: &Client, case: &Case) -> Result<bool, Failure> {
    let method = Catalog::built_in().by_name(case.method).unwrap();
    assert!(method.writes);
    client.send(method, &case.arguments, &Secret::new("xoxb-a-test-token".into()), None).await.map(|a| a.ok)
}

fn client(url: &str) -> Client {
    Client::new(&Options { base_url: url.to_owned(), ..Options::default() }).unwrap()
}

async fn request_bytes(case: &Case) -> usize {
    let server = Server::start(case.answer.clone(), 0, Cut::Nowhere).await;
    assert_eq!(call(&client(&server.url), case).await, Ok(true));
    server.request_bytes.load(SeqCst)
}

#[tokio::test]
async fn a_fresh_connection_cut_at_each_byte() {
    for case in cases() {
        let length = request_bytes(&case).await;
        let cuts: Vec<Cut> = (0..length).map(Cut::Request).chain((0..case.answer.len()).map(Cut::Answer)).collect();
        let mut made = 0;
        for cut in &cuts {
            let server = Server::start(case.answer.clone(), 0, *cut).await;
            let outcome = call(&client(&server.url), &case).await;
            assert!(matches!(outcome, Err(Failure::Unknown { .. })), "{} {cut:?}: {outcome:?}", case.method);
            let reached = server.begun.load(SeqCst);
            assert_eq!(reached, usize::from(*cut != Cut::Request(0)), "{} {cut:?}", case.method);
            made += 1;
        }
        assert_eq!(made, length + case.answer.len());
    }
}

/// The same on a connection that has carried a call before. Closed before it takes up the second one, it may be
/// replaced, since nothing of that one was written; closed later it may not.
#[tokio::test]
async fn a_kept_connection_cut_at_each_byte() {
    for case in cases() {
        let length = request_bytes(&case).await;
        let cuts: Vec<Cut> = (0..length).map(Cut::Request).chain((0..case.answer.len()).map(Cut::Answer)).collect();
        let mut made = 0;
        for cut in &cuts {
            let server = Server::start(case.answer.clone(), 1, *cut).await;
            let client = client(&server.url);
            assert_eq!(call(&client, &case).await, Ok(true));
            assert_eq!(server.begun.load(SeqCst), 1);
            let outcome = call(&client, &case).await;
            let reached = server.begun.load(SeqCst) - 1;
            match outcome {
                Ok(done) => assert!(done && *cut == Cut::Request(0) && reached == 1, "{} {cut:?}", case.method),
                Err(Failure::Unknown { .. }) => assert!(reached <= 1, "{} {cut:?}", case.method),
                Err(other) => panic!("{} {cut:?}: {other}", case.method),
            }
            made += 1;
        }
        assert_eq!(made, length + case.answer.len());
    }
}

/// What the HTTP library sends again: a request that a closed connection had not taken up. The first connection ends
/// without reading, and the same call is answered on a second one.
#[tokio::test]
async fn an_untouched_request_may_go_to_another_connection() {
    let case = &cases()[0];
    let mut replaced = 0;
    for _ in 0..100 {
        let server = Server::start(case.answer.clone(), 1, Cut::Request(0)).await;
        let client = client(&server.url);
        assert_eq!(call(&client, case).await, Ok(true));
        let outcome = call(&client, case).await;
        assert!(server.begun.load(SeqCst) <= 2);
        if outcome == Ok(true) {
            replaced += 1;
            assert_eq!(server.begun.load(SeqCst), 2);
        }
    }
    assert!(replaced > 0, "no closed connection was ever replaced");
}
