//! Servers that speak TLS, with the certificates of the tests, and one that only the tests' own authority makes believable.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Who has signed them.
pub(crate) const CA: &[u8] = include_bytes!("../certificates/ca.pem");

/// A certificate with its key.
#[derive(Clone, Copy)]
pub(crate) struct Pair(&'static [u8], &'static [u8]);

/// Of localhost and slack.invalid.
pub(crate) const GOOD: Pair =
    Pair(include_bytes!("../certificates/server.pem"), include_bytes!("../certificates/server.key"));
/// Of localhost, until 2001.
pub(crate) const EXPIRED: Pair =
    Pair(include_bytes!("../certificates/expired.pem"), include_bytes!("../certificates/expired.key"));
/// Of another name.
pub(crate) const OTHER: Pair =
    Pair(include_bytes!("../certificates/other.pem"), include_bytes!("../certificates/other.key"));

/// A server at a port of this machine, which answers every request with this body, for as long as the tests run.
pub(crate) fn server(pair: Pair, body: &'static str) -> u16 {
    let Pair(certificate, key) = pair;
    let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    accepting(move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
        // A client that does not believe the certificate has gone.
        if let Ok(1..) = stream.read(&mut [0; 8_192]) {
            let _gone = stream.write_all(answer(body).as_bytes());
            stream.conn.send_close_notify();
            let _gone = stream.flush();
        }
    })
}

/// A server that writes these bytes after the first that it reads, and closes the connection.
pub(crate) fn saying(bytes: &'static [u8]) -> u16 {
    accepting(move |mut socket| {
        let _read = socket.read(&mut [0; 8_192]);
        let _gone = socket.write_all(bytes);
    })
}

/// A port of this machine at which nobody listens.
pub(crate) fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answer(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn accepting(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(socket));
        }
    });
    port
}
