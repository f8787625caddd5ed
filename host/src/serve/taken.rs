//! Who listens at a port, as far as the system shows it: the processes of the same user, or to root all of them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// The tables of the sockets of TCP.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// The state of a socket that listens.
const LISTENS: &str = "0A";

/// The process that listens at a port, with its name; none where that is not shown.
pub(super) fn by(port: u16) -> Option<String> {
    let tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok()).collect::<String>();
    let inodes = tables.lines().filter_map(|line| listening(line, port));
    let sockets: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let is_process = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut processes =
        fs::read_dir("/proc").ok()?.filter_map(Result::ok).filter(|found| is_process(&found.file_name()));
    let found = processes.find(|process| !sockets.is_empty() && has_one_of(&process.path(), &sockets))?;
    let name = fs::read_to_string(found.path().join("comm")).unwrap_or_default();
    Some(format!("process {} ({})", found.file_name().to_string_lossy(), name.trim()))
}

/// The inode of the socket in a line of such a table, where it listens at the port.
fn listening(line: &str, port: u16) -> Option<&str> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let (_, at) = local.rsplit_once(':')?;
    let is_it = state == LISTENS && u16::from_str_radix(at, 16) == Ok(port);
    fields.nth(5).filter(|_| is_it)
}

fn has_one_of(process: &Path, sockets: &[String]) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok);
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|leads_to| leads_to.to_str().is_some_and(|name| sockets.iter().any(|socket| socket == name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_listens_is_found_in_the_systems_table() {
        let line =
            "   2: 0100007F:1CFC 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000";
        assert_eq!(listening(line, 7420), Some("4711"));
        assert_eq!(listening(line, 7421), None);
        assert_eq!(listening(&line.replace(" 0A ", " 01 "), 7420), None, "it is connected");
        assert_eq!(listening("  sl  local_address rem_address   st", 7420), None);
        assert_eq!(listening("", 7420), None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = by(listener.local_addr().unwrap().port());
        let own = format!("process {} (", std::process::id());
        assert!(holder.as_ref().is_none_or(|holder| holder.starts_with(&own)), "{holder:?}");
    }
}
