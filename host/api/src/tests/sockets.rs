//! Over real sockets: what a client may hold of the server.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::super::{Listener, Listeners, serve};
use super::*;

struct Server {
    world: World,
    address: SocketAddr,
    measured: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<Result<(), serve::Error>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::with(limits, Options::default()).await
    }

    async fn with(limits: Limits, options: Options) -> Self {
        let world = World::with(limits, "http://127.0.0.1:9".to_owned()).await;
        world.apply().await;
        let main = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = main.local_addr().unwrap();
        let metrics = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let measured = metrics.as_ref().unwrap().local_addr().unwrap();
        let listener = |of: TcpListener| Listener::Address(of.into_std().unwrap());
        let listeners = Listeners { main: listener(main), metrics: metrics.map(listener) };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let served = tokio::spawn(serve(world.engine.clone(), listeners, options, shutdown));
        Self { world, address, measured, stop: Some(stop), served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn head(&self, line: &str, more: &str) -> String {
        format!("{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{more}\r\n", self.world.token)
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

/// Everything until the other side ends.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end, too.
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_over_one_connection() {
    let server = Server::start(Limits::default()).await;
    let mut socket = server.connect().await;
    let request = server.head("GET /v1/runs", "");
    socket.write_all(format!("{request}{request}").as_bytes()).await.unwrap();
    let last = server.head("GET /nothing", "connection: close\r\n");
    socket.write_all(last.as_bytes()).await.unwrap();
    let text = rest(&mut socket).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(text.matches("HTTP/1.1 404").count(), 1, "{text}");
    assert_eq!(text.matches("application/problem+json").count(), 1, "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_two_mib_is_refused_and_the_refusal_arrives() {
    let server = Server::start(Limits::default()).await;
    for head in [
        server.head("POST /v1/workflows/people/greeter/runs", "content-length: 2097152\r\nconnection: close\r\n"),
        server.head("POST /v1/workflows/people/greeter/runs", "content-length: 2097152\r\n"),
    ] {
        let mut socket = server.connect().await;
        socket.write_all(head.as_bytes()).await.unwrap();
        // Sent whole before a byte of the answer is read.
        let _ = socket.write_all(&vec![b'x'; 2 << 20]).await;
        socket.shutdown().await.unwrap();
        let text = rest(&mut socket).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{text}");
        assert!(text.contains("body-too-large"), "{text}");
    }
    let mut socket = server.connect().await;
    socket.write_all(server.head("GET /readyz", "connection: close\r\n").as_bytes()).await.unwrap();
    assert!(rest(&mut socket).await.starts_with("HTTP/1.1 200"), "the host goes on");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_no() {
    let server = Server::start(Limits::default()).await;
    let mut socket = server.connect().await;
    let more = "content-length: 2097152\r\nexpect: 100-continue\r\n";
    socket.write_all(server.head("POST /v1/workflows/people/greeter/runs", more).as_bytes()).await.unwrap();
    let text = rest(&mut socket).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_endless_headers_hold_nothing() {
    let server = Server::start(Limits { header_ms_max: 200, ..Limits::default() }).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    assert_eq!(rest(&mut slow).await, "");
    assert_eq!(rest(&mut silent).await, "");
    let mut flood = server.connect().await;
    let _ = flood.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
    for n in 0..10_000 {
        if flood.write_all(format!("x-{n}: {}\r\n", "v".repeat(100)).as_bytes()).await.is_err() {
            break;
        }
    }
    let text = rest(&mut flood).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let mut some = server.connect().await;
    let many: String = (0..90).map(|n| format!("x-{n}: v\r\n")).collect();
    let _ = some.write_all(server.head("GET /healthz", &format!("{many}connection: close\r\n")).as_bytes()).await;
    let text = rest(&mut some).await;
    assert!(text.starts_with("HTTP/1.1 431") && text.contains("headers-too-large"), "{text}");
    server.stop().await;
}

/// A connection from another address of this machine.
async fn from(peer: &str, server: &Server) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(peer.parse().unwrap(), 0)).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// The first bytes of the answer to a probe that keeps its connection.
async fn probed(socket: &mut TcpStream) -> String {
    let _ = socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut first = [0; 12];
    match socket.read_exact(&mut first).await {
        Ok(_) => String::from_utf8_lossy(&first).into_owned(),
        Err(_) => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_connections_and_no_more() {
    let server = Server::start(Limits { connections_max: 4, ..Limits::default() }).await;
    let mut held = Vec::new();
    for peer in ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"] {
        let mut socket = from(peer, &server).await;
        assert_eq!(probed(&mut socket).await, "HTTP/1.1 200");
        held.push(socket);
    }
    let mut last = from("127.0.0.4", &server).await;
    last.write_all(server.head("GET /v1/runs", "").as_bytes()).await.unwrap();
    let text = rest(&mut last).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("connections-full"), "{text}");
    assert!(text.to_lowercase().contains("retry-after: 5"), "{text}");
    held.clear();
    // The server sees that they went when it sees it.
    let is_let_in = async {
        loop {
            let mut again = from("127.0.0.4", &server).await;
            again.write_all(server.head("GET /v1/runs", "connection: close\r\n").as_bytes()).await.unwrap();
            if rest(&mut again).await.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_let_in).await.expect("the places are free again");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_b10_one_peer_shuts_out_nobody() {
    let server = Server::start(Limits { connections_max: 40, ..Limits::default() }).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(from("127.0.0.2", &server).await);
    }
    let mut kept = 0;
    for socket in &mut crowd {
        kept += usize::from(probed(socket).await == "HTTP/1.1 200");
    }
    assert!(kept >= 20, "its share is its own: {kept}");
    for peer in ["127.0.0.3", "127.0.0.1"] {
        let mut other = from(peer, &server).await;
        other.write_all(server.head("GET /v1/runs", "connection: close\r\n").as_bytes()).await.unwrap();
        assert!(rest(&mut other).await.starts_with("HTTP/1.1 200"), "{peer}");
    }
    // Also of the peer itself a probe is answered, and its connection closed.
    let mut probe = from("127.0.0.2", &server).await;
    probe.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let text = rest(&mut probe).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.to_lowercase().contains("connection: close"), "{text}");
    let mut more = from("127.0.0.2", &server).await;
    more.write_all(server.head("GET /v1/runs", "").as_bytes()).await.unwrap();
    assert!(rest(&mut more).await.contains("connections-full"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_b10_a_trusted_proxy_has_no_share() {
    let options = Options { trusted_proxies: vec!["127.0.0.2".parse().unwrap()], ..Options::default() };
    let server = Server::with(Limits { connections_max: 20, ..Limits::default() }, options).await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        let mut socket = from("127.0.0.2", &server).await;
        assert_eq!(probed(&mut socket).await, "HTTP/1.1 200");
        crowd.push(socket);
    }
    // Each of them has a place of its own: it can ask on.
    for socket in &mut crowd {
        socket.write_all(server.head("GET /nothing", "connection: close\r\n").as_bytes()).await.unwrap();
        assert!(rest(socket).await.contains("route-unknown"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_b16_metrics_have_a_listener_of_their_own() {
    let server = Server::start(Limits::default()).await;
    let ask = async |path: &str| {
        let mut socket = TcpStream::connect(server.measured).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        rest(&mut socket).await
    };
    let metrics = ask("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("\nbellhop_ready 1\n"), "{metrics}");
    for path in ["/v1/runs", "/healthz", "/"] {
        assert!(ask(path).await.starts_with("HTTP/1.1 404"), "{path}: nothing else is there");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_server_stops() {
    let server = Server::start(Limits::default()).await;
    let id = server.world.start("people/sleeper", json!({ "name": "Ada" })).await;
    server.world.until(&id, "waiting").await;
    let mut socket = server.connect().await;
    socket.write_all(server.head(&format!("GET /v1/runs/{id}/events"), "").as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains("task.waiting") {
        let mut part = [0; 4096];
        let read = socket.read(&mut part).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    let idle = server.connect().await;
    server.stop().await;
    let text = rest(&mut socket).await;
    assert!(text.ends_with("0\r\n\r\n"), "the stream came to its end: {text:?}");
    drop(idle);
}

/// Makes a long answer.
const TALKER: &str = "\
document: {dsl: '1.0.3', namespace: people, name: talker, version: 1.0.0}
do:
  - talk:
      for: {each: n, in: '${ [range(40)] }'}
      do:
        - say: {set: {text: '${ \"x\" * 400000 }'}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_takes_nothing_is_cut_off() {
    let server = Server::start(Limits { write_ms_max: 5_000, ..Limits::default() }).await;
    server.world.put("/v1/workflows/people/talker", TALKER).await.ok(201);
    let id = server.world.start("people/talker", json!({})).await;
    server.world.until(&id, "completed").await;
    let mut socket = server.connect().await;
    socket.write_all(server.head(&format!("GET /v1/runs/{id}/events"), "").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // Nothing more is read. The server's buffers fill, and its clock goes on.
    let mut cut = false;
    for _ in 0..2_000 {
        server.world.clock.advance(SECOND);
        let mut ask = server.connect().await;
        ask.write_all(server.head("GET /metrics", "connection: close\r\n").as_bytes()).await.unwrap();
        if rest(&mut ask).await.contains("\nbellhop_http_event_streams 0\n") {
            cut = true;
            break;
        }
    }
    assert!(cut, "the reader still holds its stream");
    let mut text = Vec::new();
    let _ = socket.read_to_end(&mut text).await;
    assert!(!String::from_utf8_lossy(&text).contains("run.completed"), "it was not given everything");
    server.stop().await;
}
