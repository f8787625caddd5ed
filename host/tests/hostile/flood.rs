//! Many connections of one peer, held open.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bellhop::hosted::now;
use crate::wire;
use crate::world::World;

/// Opens connections, sends `bytes` on each again and again, and reads what comes, for so long. A connection that the host
/// does not take or closes is no fault of the host: what it may not do is turn away others, which are watched.
///
/// # Errors
/// Not one connection could be made.
pub(crate) fn hold(
    world: &World,
    connections: usize,
    from: Option<&str>,
    bytes: &str,
    every_ms: u64,
    for_s: u64,
) -> Result<(), String> {
    let address = world.life()?.address;
    // A process of its own has descriptors of its own, and an address of its own where one is named.
    if let Some(from) = from {
        return elsewhere(&address, connections, from, bytes, every_ms, for_s);
    }
    let until = now() + Duration::from_secs(for_s);
    let mut open: Vec<TcpStream> = Vec::new();
    while open.len() < connections && now() < until {
        let Ok(socket) = wire::connect(&address, until) else { break };
        if socket.set_nonblocking(true).is_err() {
            break;
        }
        open.push(socket);
    }
    if open.is_empty() && connections > 0 {
        return Err("not one connection could be made".to_owned());
    }
    let mut buffer = vec![0; 1 << 16];
    while now() < until {
        open.retain_mut(|socket| {
            let is_sent = socket.write_all(bytes.as_bytes()).is_ok();
            let is_open = !matches!(socket.read(&mut buffer), Ok(0));
            is_sent && is_open
        });
        std::thread::sleep(Duration::from_millis(every_ms));
    }
    Ok(())
}

/// Whether there is a Python here, without which no flood comes from an address of its own.
pub(crate) fn has_python() -> bool {
    let mut python = Command::new("python3");
    python.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

/// The same by Python, which can choose the address that it comes from.
fn elsewhere(
    address: &str,
    connections: usize,
    from: &str,
    bytes: &str,
    every_ms: u64,
    for_s: u64,
) -> Result<(), String> {
    const SCRIPT: &str = "
import resource, socket, sys, time
host, port, n, src, every, span, data = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5]), float(sys.argv[6]), sys.argv[7].encode()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
end, all = time.time() + span, []
while len(all) < n and time.time() < end:
    try:
        s = socket.create_connection((host, port), 2, (src, 0)); s.setblocking(False); all.append(s)
    except OSError: break
if n > 0 and not all: sys.exit(3)
while time.time() < end:
    for s in list(all):
        try:
            s.send(data)
            if s.recv(65536) == b'': all.remove(s)
        except BlockingIOError: pass
        except OSError: all.remove(s)
    time.sleep(every)
";
    let Some((host, port)) = address.split_once(':') else { return Err(format!("{address} has no port")) };
    let numbers = [connections.to_string(), (every_ms as f64 / 1e3).to_string(), for_s.to_string()];
    let arguments = ["-c", SCRIPT, host, port, &numbers[0], from, &numbers[1], &numbers[2], bytes];
    let mut python = Command::new("python3");
    python.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = python.spawn().map_err(|error| format!("python3: {error}"))?;
    ended(&mut child, for_s)
}

fn ended(child: &mut Child, for_s: u64) -> Result<(), String> {
    let until = now() + Duration::from_secs(for_s + 10);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) if status.code() == Some(3) => return Err("not one connection could be made".to_owned()),
            Ok(Some(status)) => return Err(format!("the flood ends with {status}")),
            Ok(None) if now() < until => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                let _killed = child.kill();
                let _ended = child.wait();
                return Err("the flood does not end".to_owned());
            }
        }
    }
}
