//! The empty WASI 0.2, for toolchains that insist on one.
//!
//! A clock that stands still, randomness that is the same each time, a standard output that is the log,
//! and nothing else: no file, no variable, no argument, no socket. What a guest sees of it is a function
//! of the task, so that a replay sees the same.

use sha2::{Digest as _, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceDynamic, ResourceType, Val};
use wasmtime::{StoreContextMut, bail};

use super::instance::{Context, State, Trap};

/// The interfaces that a plugin may import besides the capabilities; of each, version 0.2. Sorted.
pub(crate) const WASI_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// What a reading of the monotonic clock adds to it, so that a loop which waits for it to move ends.
const READING_NS: u64 = 1_000;
/// What one write may have; guests ask before they write.
const WRITE_BYTES_MAX: usize = 4_096;
/// What one call for randomness may have.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// A line that does not end is written in pieces of this.
const LINE_BYTES_MAX: usize = 8 << 10;

/// The resources of these interfaces, by the names that WASI gives them; no name is used twice there.
/// Nothing is behind any of them: all that a handle has is this number and, for streams, which one it is.
const RESOURCES: &[&str] = &[
    "pollable",
    "error",
    "input-stream",
    "output-stream",
    "network",
    "descriptor",
    "directory-entry-stream",
    "tcp-socket",
    "udp-socket",
    "incoming-datagram-stream",
    "outgoing-datagram-stream",
    "resolve-address-stream",
    "terminal-input",
    "terminal-output",
];

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// What one call sees and has done.
pub(super) struct World {
    context: Context,
    monotonic_ns: u64,
    random_blocks: u64,
    random_left: Vec<u8>,
    /// Lines begun on standard output and standard error.
    lines: [Vec<u8>; 2],
}

impl World {
    pub(super) fn new(context: Context) -> Self {
        Self { context, monotonic_ns: 0, random_blocks: 0, random_left: Vec::new(), lines: Default::default() }
    }

    /// As if nothing had been asked of it yet.
    pub(super) fn begin_again(&mut self) {
        *self = Self::new(self.context);
    }

    fn now(&mut self) -> u64 {
        self.monotonic_ns = self.monotonic_ns.saturating_add(READING_NS);
        self.monotonic_ns
    }

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        while self.random_left.len() < bytes {
            let block = Sha256::new()
                .chain_update(b"bellhop task randomness")
                .chain_update(self.context.seed.to_le_bytes())
                .chain_update(self.random_blocks.to_le_bytes())
                .finalize();
            self.random_blocks += 1;
            self.random_left.extend_from_slice(&block);
        }
        let rest = self.random_left.split_off(bytes);
        std::mem::replace(&mut self.random_left, rest)
    }

    fn random_u64(&mut self) -> u64 {
        self.random(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Adds to a line; gives those that ended.
    fn write(&mut self, stream: u32, bytes: &[u8]) -> Vec<String> {
        let line = &mut self.lines[usize::from(stream == STDERR)];
        let mut ended = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                ended.push(String::from_utf8_lossy(&std::mem::take(line)).into_owned());
            }
        }
        ended
    }
}

impl State {
    fn world(&mut self) -> wasmtime::Result<&mut World> {
        match self.wasi.as_deref_mut() {
            Some(world) => Ok(world),
            None => bail!("this plugin was prepared without WASI"),
        }
    }

    fn print(&mut self, stream: u32, bytes: &[u8]) -> wasmtime::Result<()> {
        let lines = self.world()?.write(stream, bytes);
        for line in lines {
            self.log(level(stream), &line);
        }
        Ok(())
    }

    /// The lines that never ended.
    pub(super) fn print_rest(&mut self) {
        let Some(world) = self.wasi.as_deref_mut() else { return };
        let [stdout, stderr] = std::mem::take(&mut world.lines);
        for (stream, line) in [(STDOUT, stdout), (STDERR, stderr)] {
            if !line.is_empty() {
                self.log(level(stream), &String::from_utf8_lossy(&line));
            }
        }
    }
}

fn level(stream: u32) -> &'static str {
    if stream == STDERR { "warn" } else { "info" }
}

/// `base` and what the component imports of WASI, under the very versions that it imports.
pub(super) fn linker(base: &Linker<State>, component: &Component) -> wasmtime::Result<Linker<State>> {
    let mut linker = base.clone();
    let engine = component.engine();
    for (import, item) in component.component_type().imports(engine) {
        let path = import.split_once('@').map_or(import, |(path, _)| path);
        let ComponentItem::ComponentInstance(exports) = item.ty else { continue };
        if !WASI_INTERFACES.contains(&path) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        for (name, export) in exports.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => define(&mut instance, path, name)?,
                ComponentItem::Resource(_) => instance.resource(name, resource_type(name)?, |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(linker)
}

fn number_of(name: &str) -> wasmtime::Result<u32> {
    match RESOURCES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok()) {
        Some(number) => Ok(number),
        None => bail!("WASI has no resource `{name}`"),
    }
}

fn resource_type(name: &str) -> wasmtime::Result<ResourceType> {
    Ok(ResourceType::host_dynamic(number_of(name)?))
}

type Store<'a> = StoreContextMut<'a, State>;

/// Of every function, what makes its result; those that are not here can be reached only through something
/// that a guest never gets, like a file.
fn define(instance: &mut LinkerInstance<'_, State>, path: &str, name: &str) -> wasmtime::Result<()> {
    let Some(function) = function(path, name) else {
        let full = format!("{path}#{name}");
        return instance.func_new(name, move |_, _, _, _| bail!("`{full}` has nothing behind it"));
    };
    instance.func_new(name, move |mut store, _, arguments, results| {
        let mut given = Vec::with_capacity(arguments.len());
        for argument in arguments {
            given.push(Argument::take(&mut store, argument)?);
        }
        let result = function(&mut store, &given)?;
        if let (Some(place), Some(result)) = (results.first_mut(), result) {
            *place = result;
        }
        Ok(())
    })
}

/// An argument in a form without handles, which have to be given back at once.
enum Argument {
    Number(u64),
    Bytes(Vec<u8>),
    /// What the handle stands for.
    Handle(u32),
    Handles(usize),
    Other,
}

impl Argument {
    fn take(store: &mut Store<'_>, value: &Val) -> wasmtime::Result<Self> {
        let handle = |store: &mut Store<'_>, value: &Val| match value {
            Val::Resource(handle) => Ok(handle.try_into_resource_dynamic(&mut *store)?.rep()),
            _ => bail!("not a handle"),
        };
        Ok(match value {
            Val::U64(number) => Self::Number(*number),
            Val::Resource(_) => Self::Handle(handle(store, value)?),
            Val::List(items) if matches!(items.first(), Some(Val::Resource(_))) => {
                for item in items {
                    handle(store, item)?;
                }
                Self::Handles(items.len())
            }
            Val::List(items) => {
                Self::Bytes(items.iter().map(|item| if let Val::U8(byte) = item { *byte } else { b'?' }).collect())
            }
            _ => Self::Other,
        })
    }
}

type Function = fn(&mut Store<'_>, &[Argument]) -> wasmtime::Result<Option<Val>>;

fn function(path: &str, name: &str) -> Option<Function> {
    Some(match (path, name) {
        ("wasi:clocks/wall-clock", "now") => |store, _| {
            let ms = store.data_mut().world()?.context.started_at_ms;
            // Below a second, so it fits.
            let nanoseconds = u32::try_from(ms % 1_000 * 1_000_000)?;
            Ok(Some(datetime(ms / 1_000, nanoseconds)))
        },
        ("wasi:clocks/wall-clock", "resolution") => |_, _| Ok(Some(datetime(0, 1_000_000))),
        ("wasi:clocks/monotonic-clock", "now") => |store, _| Ok(Some(Val::U64(store.data_mut().world()?.now()))),
        ("wasi:clocks/monotonic-clock", "resolution") => |_, _| Ok(Some(Val::U64(READING_NS))),
        ("wasi:clocks/monotonic-clock", "subscribe-duration") => |store, arguments| {
            let world = store.data_mut().world()?;
            world.monotonic_ns = world.monotonic_ns.saturating_add(number(arguments)?);
            own(store, "pollable", 0)
        },
        ("wasi:clocks/monotonic-clock", "subscribe-instant") => |store, arguments| {
            let world = store.data_mut().world()?;
            world.monotonic_ns = world.monotonic_ns.max(number(arguments)?);
            own(store, "pollable", 0)
        },
        ("wasi:io/poll", "[method]pollable.ready") => |_, _| Ok(Some(Val::Bool(true))),
        ("wasi:io/poll", "[method]pollable.block") => |_, _| Ok(None),
        ("wasi:io/poll", "poll") => |_, arguments| match arguments {
            [Argument::Handles(count)] => {
                let ready = (0..u32::try_from(*count)?).map(Val::U32);
                Ok(Some(Val::List(ready.collect())))
            }
            _ => bail!("a poll of nothing never ends"),
        },
        ("wasi:io/streams", name) => return stream(name),
        ("wasi:random/random" | "wasi:random/insecure", "get-random-bytes" | "get-insecure-random-bytes") => {
            |store, arguments| {
                let bytes = number(arguments)?;
                if bytes > RANDOM_BYTES_MAX {
                    bail!("more than {RANDOM_BYTES_MAX} random bytes at once");
                }
                let bytes = store.data_mut().world()?.random(usize::try_from(bytes)?);
                Ok(Some(Val::List(bytes.into_iter().map(Val::U8).collect())))
            }
        }
        ("wasi:random/random" | "wasi:random/insecure", "get-random-u64" | "get-insecure-random-u64") => {
            |store, _| Ok(Some(Val::U64(store.data_mut().world()?.random_u64())))
        }
        ("wasi:random/insecure-seed", "insecure-seed") => |store, _| {
            let world = store.data_mut().world()?;
            Ok(Some(Val::Tuple(vec![Val::U64(world.random_u64()), Val::U64(world.random_u64())])))
        },
        ("wasi:cli/environment", "get-environment" | "get-arguments")
        | ("wasi:filesystem/preopens", "get-directories") => |_, _| Ok(Some(Val::List(Vec::new()))),
        ("wasi:cli/environment", "initial-cwd") => |_, _| Ok(Some(Val::Option(None))),
        ("wasi:cli/exit", _) => |store, _| store.data_mut().stop(Trap::Other("it called exit".to_owned())),
        ("wasi:cli/stdin", "get-stdin") => |store, _| own(store, "input-stream", 0),
        ("wasi:cli/stdout", "get-stdout") => |store, _| own(store, "output-stream", STDOUT),
        ("wasi:cli/stderr", "get-stderr") => |store, _| own(store, "output-stream", STDERR),
        ("wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr", _) => {
            |_, _| Ok(Some(Val::Option(None)))
        }
        ("wasi:sockets/instance-network", "instance-network") => |store, _| own(store, "network", 0),
        ("wasi:sockets/tcp-create-socket" | "wasi:sockets/udp-create-socket" | "wasi:sockets/ip-name-lookup", name)
            if !name.starts_with('[') =>
        {
            |_, _| Ok(Some(Val::Result(Err(Some(Box::new(Val::Enum("access-denied".to_owned())))))))
        }
        _ => return None,
    })
}

/// Input is at its end, output is the log.
fn stream(name: &str) -> Option<Function> {
    Some(match name {
        "[method]input-stream.subscribe" | "[method]output-stream.subscribe" => |store, _| own(store, "pollable", 0),
        "[method]output-stream.check-write" => |_, _| Ok(ok(Some(Val::U64(WRITE_BYTES_MAX as u64)))),
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => |store, arguments| {
            let [Argument::Handle(stream), Argument::Bytes(bytes)] = arguments else { bail!("not a write") };
            if bytes.len() > WRITE_BYTES_MAX {
                bail!("more than {WRITE_BYTES_MAX} bytes in a write");
            }
            store.data_mut().print(*stream, bytes)?;
            Ok(ok(None))
        },
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => |_, _| Ok(ok(None)),
        "[method]output-stream.write-zeroes" | "[method]output-stream.blocking-write-zeroes-and-flush" => {
            |_, _| Ok(ok(None))
        }
        _ if name.starts_with("[method]input-stream.") || name.ends_with("splice") => |_, _| {
            let closed = Val::Variant("closed".to_owned(), None);
            Ok(Some(Val::Result(Err(Some(Box::new(closed))))))
        },
        _ => return None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "a function's result, of which some have none")]
fn ok(value: Option<Val>) -> Option<Val> {
    Some(Val::Result(Ok(value.map(Box::new))))
}

fn datetime(seconds: u64, nanoseconds: u32) -> Val {
    Val::Record(vec![("seconds".to_owned(), Val::U64(seconds)), ("nanoseconds".to_owned(), Val::U32(nanoseconds))])
}

fn number(arguments: &[Argument]) -> wasmtime::Result<u64> {
    match arguments {
        [Argument::Number(number)] => Ok(*number),
        _ => bail!("not one number"),
    }
}

fn own(store: &mut Store<'_>, resource: &str, stands_for: u32) -> wasmtime::Result<Option<Val>> {
    let handle = ResourceDynamic::new_own(stands_for, number_of(resource)?);
    Ok(Some(Val::Resource(handle.try_into_resource_any(store)?)))
}
