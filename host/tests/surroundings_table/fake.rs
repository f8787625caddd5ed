//! Those on the loopback who answer otherwise than is hoped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::case::Fake;

/// Connections of somebody who hangs, kept open.
const HELD_MAX: usize = 64;

/// Begins to answer; gives `host:port`. It goes on until the harness ends.
pub(crate) fn begin(fake: Fake) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?.to_string();
    if fake != Fake::Nobody {
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for client in listener.incoming().map_while(Result::ok) {
                answer(fake, client, &mut held);
            }
        });
    }
    Ok(address)
}

fn answer(fake: Fake, mut client: TcpStream, held: &mut Vec<TcpStream>) {
    let text: &[u8] = match fake {
        Fake::Nobody | Fake::Closes => return,
        Fake::Hangs => {
            held.push(client);
            if held.len() > HELD_MAX {
                held.remove(0);
            }
            return;
        }
        Fake::Asks => {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n"
        }
        Fake::Forbids => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        Fake::Babbles => b"220 mail.example ESMTP\r\n",
    };
    // Whoever speaks first is heard first.
    let mut line = String::new();
    if fake != Fake::Babbles {
        let _read = BufReader::new(&client).read_line(&mut line);
    }
    let _gone = client.write_all(text);
    let _gone = client.shutdown(std::net::Shutdown::Write);
}
