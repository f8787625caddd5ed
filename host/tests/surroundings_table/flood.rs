//! Attackers without a token: many connections that waste what a host has, while it is watched from outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::bellhop::hosted::now;
use crate::case::{Attack, Case, Flood};
use crate::place::Shared;
use crate::play;

/// How long, and how late an answer may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) lasts: Duration,
    pub(crate) probe_max: Duration,
}

/// A release build.
pub(crate) const FULL: Form = Form { lasts: Duration::from_secs(60), probe_max: Duration::from_secs(1) };
/// A build for tests, on a machine that plays something else meanwhile.
pub(crate) const QUICK: Form = Form { lasts: Duration::from_secs(3), probe_max: Duration::from_secs(2) };

/// After the flood the host is as before within this.
const RECOVERS_IN: Duration = Duration::from_secs(5);
/// Between two probes.
const PROBES_EVERY: Duration = Duration::from_millis(100);
/// Between two bytes of somebody slow.
const BYTES_EVERY: Duration = Duration::from_millis(500);
/// Until somebody who was cut off comes again.
const COMES_AGAIN: Duration = Duration::from_millis(200);
/// Descriptors that may be open besides those of before: a timer, a probe on its way out.
const DESCRIPTORS_MORE: usize = 3;

/// What a probe saw.
#[derive(Debug, Default)]
struct Seen {
    worst: Duration,
    memory_mb: u64,
    probes: u64,
    trouble: Option<String>,
}

/// Plays a flood; what fell, or what was measured.
pub(crate) fn play(shared: &Shared, flood: &Flood, form: Form) -> Result<String, String> {
    play::while_up(shared, &host(flood), |host| flooded(host, flood, form))
}

fn flooded(host: &play::Up<'_>, flood: &Flood, form: Form) -> Result<String, String> {
    let before = descriptors(host.pid)?;
    let over = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU64::new(0));
    let attackers = {
        let (flood, over, made, address) = (flood.clone(), Arc::clone(&over), Arc::clone(&made), host.address);
        std::thread::spawn(move || attack(&flood, address, &over, &made))
    };
    let seen = watch(host, flood, form);
    over.store(true, Ordering::Release);
    attackers.join().map_err(|_| "the attackers have died".to_owned())??;
    if let Some(trouble) = seen.trouble {
        return Err(trouble);
    }
    let until = now() + RECOVERS_IN;
    loop {
        let open = descriptors(host.pid)?;
        let run = host.run();
        if open <= before + DESCRIPTORS_MORE && run.is_ok() {
            break;
        }
        if now() >= until {
            let after = RECOVERS_IN.as_secs();
            run.map_err(|why| format!("{after} s after the flood {why}"))?;
            return Err(format!("{after} s after the flood {open} descriptors are open, {before} before it"));
        }
        std::thread::sleep(PROBES_EVERY);
    }
    let made = made.load(Ordering::Acquire);
    let Seen { worst, memory_mb, probes, .. } = seen;
    let worst = worst.as_millis();
    Ok(format!("{made} connections, {probes} probes, at worst {worst} ms, at most {memory_mb} MB"))
}

/// The host that is flooded, as a case.
fn host(flood: &Flood) -> Case {
    let limit = format!("--nofile={0}:{0}", flood.descriptors);
    Case::of_a_host(&flood.name, vec!["prlimit".to_owned(), limit])
}

fn descriptors(pid: u32) -> Result<usize, String> {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).map_err(|e| format!("the host is gone: {e}"))
}

fn memory_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

fn watch(host: &play::Up<'_>, flood: &Flood, form: Form) -> Seen {
    let mut seen = Seen::default();
    let end = now() + form.lasts;
    let mut due = now();
    while now() < end && seen.trouble.is_none() {
        std::thread::sleep(due.saturating_duration_since(now()));
        let began = now();
        due = began + PROBES_EVERY;
        match host.peer.get("/healthz", began + form.probe_max) {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => seen.trouble = Some(format!("a probe is answered with {}", answer.status)),
            Err(why) => {
                let after = began.elapsed().as_millis();
                seen.trouble = Some(format!("a probe is not answered, after {after} ms: {why}"));
            }
        }
        seen.probes += 1;
        seen.worst = seen.worst.max(began.elapsed());
        seen.memory_mb = seen.memory_mb.max(memory_mb(host.pid));
        if seen.memory_mb > flood.memory_mb {
            seen.trouble = Some(format!("the host has {} MB in memory, more than {}", seen.memory_mb, flood.memory_mb));
        }
    }
    seen
}

/// Holds so many connections open until it is over.
fn attack(flood: &Flood, to: SocketAddr, over: &Arc<AtomicBool>, made: &Arc<AtomicU64>) -> Result<(), String> {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    threads.block_on(async {
        let mut attackers = tokio::task::JoinSet::new();
        for number in 0..flood.connections {
            let from = flood.from[number % flood.from.len().max(1)];
            let (attack, over, made) = (flood.attack, Arc::clone(over), Arc::clone(made));
            attackers.spawn(async move {
                while !over.load(Ordering::Acquire) {
                    if let Ok(socket) = connected(from, to).await {
                        made.fetch_add(1, Ordering::AcqRel);
                        // Until the host cuts it off, or the flood is over.
                        let _cut = waste(attack, socket, &over).await;
                    }
                    tokio::time::sleep(COMES_AGAIN).await;
                }
            });
        }
        // Who waits for the host does not look whether it is over.
        while !over.load(Ordering::Acquire) {
            tokio::time::sleep(PROBES_EVERY).await;
        }
        attackers.shutdown().await;
    });
    Ok(())
}

async fn connected(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    socket.connect(to).await
}

async fn waste(attack: Attack, mut socket: TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    const HEAD: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    const BODY: &[u8] =
        b"POST /v1/workflows/it/one/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Authorization: Bearer bh_0000000000000000000000000000000000000000\r\nContent-Length: 100000\r\n\r\n";
    match attack {
        Attack::Idle => read_to_its_end(&mut socket).await,
        Attack::HalfClosed => {
            socket.write_all(HEAD).await?;
            socket.shutdown().await?;
            read_to_its_end(&mut socket).await
        }
        Attack::SlowHeaders | Attack::SlowBodies => {
            socket.write_all(if attack == Attack::SlowHeaders { HEAD } else { BODY }).await?;
            let mut answer = [0; 512];
            while !over.load(Ordering::Acquire) {
                socket.write_all(if attack == Attack::SlowHeaders { b"X-A: 1\r\n" } else { b"        " }).await?;
                match tokio::time::timeout(BYTES_EVERY, socket.read(&mut answer)).await {
                    Ok(Ok(0)) => return Ok(()),
                    Ok(Err(error)) => return Err(error),
                    Ok(Ok(_)) | Err(_) => {}
                }
            }
            Ok(())
        }
        Attack::Pipelined => {
            let mut many = Vec::new();
            for _ in 0..200 {
                many.extend_from_slice(HEAD);
                many.extend_from_slice(b"\r\n");
            }
            while !over.load(Ordering::Acquire) {
                socket.write_all(&many).await?;
            }
            Ok(())
        }
    }
}

async fn read_to_its_end(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut part = [0; 512];
    while socket.read(&mut part).await? > 0 {}
    Ok(())
}

/// Raises what this process may have open, which holds both ends of a flood's connections.
pub(crate) fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, a flood has fewer connections.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
