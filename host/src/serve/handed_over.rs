//! A socket that a supervisor has opened and hands over to the host that it starts, as systemd does by `LISTEN_FDS`: whoever
//! connects while the host is started anew waits, and is not refused.

use std::sync::{Mutex, PoisonError};

use bellhop_api::Listener;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::At;

/// Nobody hands over more.
const SOCKETS_MAX: usize = 64;

/// Why no socket is taken. None was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// There is none.
    #[error("no socket was handed over to this process: LISTEN_FDS is not set")]
    Nothing,
    /// They are for another process.
    #[error("the sockets of LISTEN_FDS are for another process: LISTEN_PID is {0}")]
    OfAnother(String),
    /// The number of sockets is none.
    #[error("LISTEN_FDS says `{0}`, which is no number of sockets from 1 to {SOCKETS_MAX}")]
    NoNumber(String),
    /// There are several, and nobody says which.
    #[error("{} sockets were handed over: {}", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    /// None, or more than one, has the name.
    #[error("{count} of the sockets that were handed over are called `{name}`; there are {}", all.join(", "))]
    Named {
        /// Which was wanted.
        name: String,
        /// How many have that name.
        count: usize,
        /// The names of all.
        all: Vec<String>,
    },
    /// It is nothing that a host can listen on.
    #[error("the socket `{name}` that was handed over is of no use: {why}")]
    Unfit {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Refused {
    /// What helps.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Nothing | Self::NoNumber(_) => {
                "start the socket unit and not the service (systemctl start bellhop.socket), or name an address, such as --listen 127.0.0.1:7420"
            }
            Self::OfAnother(_) => "have the supervisor start bellhop itself, with no program between them that stays",
            Self::Several(_) | Self::Named { .. } => {
                "name one by --listen systemd:NAME, as FileDescriptorName= in its socket unit does; each has a name of its own"
            }
            Self::Unfit { .. } => "write ListenStream=, and no Accept=yes, in its socket unit",
        }
    }
}

/// A descriptor that was handed over, and its name.
struct Socket {
    name: String,
    /// A listener and where it is, or why there is none.
    taken: Result<(Listener, At), String>,
}

/// The descriptors are the process's, and there is one of each.
static KEPT: Mutex<Result<Vec<Socket>, Refused>> = Mutex::new(Err(Refused::Nothing));

/// Keeps what was handed over. To be called before there are other threads, because the variables, which are for no child,
/// are removed; and before anything is opened, because a descriptor that was not handed over is free to be somebody else's.
pub(crate) fn keep() {
    let names = names(|name| std::env::var(name).ok(), std::process::id());
    let kept = names.map(|names| {
        let mut descriptors = ListenFd::from_env();
        let socket = |(at, name)| Socket { name, taken: listener(&mut descriptors, at) };
        names.into_iter().enumerate().map(socket).collect()
    });
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = kept;
}

/// The listener among the descriptors, and where it listens.
fn listener(descriptors: &mut ListenFd, at: usize) -> Result<(Listener, At), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(at) {
        must_listen(socket_acceptconn(&listener))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        return Ok((Listener::Address(listener), At::Address(address)));
    }
    let listener = descriptors.take_unix_listener(at).map_err(|error| failed(&error))?;
    let listener = listener.ok_or("it is no socket")?;
    must_listen(socket_acceptconn(&listener))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    Ok((Listener::Path(listener), At::of_unix(&address)))
}

/// Takes the socket of that name, or the only one, and says where it listens.
///
/// # Errors
/// There is none, or it does not listen.
pub(super) fn take(wanted: Option<&str>) -> Result<(Listener, At), Refused> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let sockets = match kept.as_mut() {
        Ok(sockets) => sockets,
        Err(refused) => return Err(refused.clone()),
    };
    let names: Vec<String> = sockets.iter().map(|socket| socket.name.clone()).collect();
    let at = pick(&names, wanted)?;
    let Some(Socket { name, taken }) = sockets.get_mut(at) else { return Err(Refused::Nothing) };
    std::mem::replace(taken, Err("it is taken already".to_owned()))
        .map_err(|why| Refused::Unfit { name: name.clone(), why })
}

fn must_listen(told: rustix::io::Result<bool>) -> Result<(), String> {
    match told {
        Ok(true) => Ok(()),
        Ok(false) => Err("it is a connection, and does not listen".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The names of the sockets that are for the process `own`, in the order of their descriptors.
fn names(variable: impl Fn(&str) -> Option<String>, own: u32) -> Result<Vec<String>, Refused> {
    let count = variable("LISTEN_FDS").ok_or(Refused::Nothing)?;
    let process = variable("LISTEN_PID").filter(|process| !process.is_empty());
    if let Some(other) = process.filter(|process| process.parse::<u32>() != Ok(own)) {
        return Err(Refused::OfAnother(other));
    }
    let number = count.parse().ok().filter(|number| (1..=SOCKETS_MAX).contains(number));
    let number: usize = number.ok_or(Refused::NoNumber(count))?;
    let said = variable("LISTEN_FDNAMES").unwrap_or_default();
    let named = said.split(':').filter(|name| !name.is_empty()).map(str::to_owned);
    // As systemd calls those that nobody has named.
    Ok(named.chain(std::iter::repeat("unknown".to_owned())).take(number).collect())
}

/// Which of them is the one of that name, or the only one.
fn pick(names: &[String], wanted: Option<&str>) -> Result<usize, Refused> {
    let fits = |name: &&String| wanted.is_none_or(|wanted| *name == wanted);
    let count = names.iter().filter(fits).count();
    match (names.iter().position(|name| fits(&name)), wanted) {
        (Some(at), _) if count == 1 => Ok(at),
        (_, Some(name)) => Err(Refused::Named { name: name.to_owned(), count, all: names.to_vec() }),
        (_, None) => Err(Refused::Several(names.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Result<Vec<String>, Refused> {
        names(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()), 7)
    }

    #[test]
    fn surroundings_s7_what_is_handed_over_is_named() {
        assert_eq!(told(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "7")]).unwrap(), ["unknown"]);
        let two = [("LISTEN_FDS", "2"), ("LISTEN_PID", "7"), ("LISTEN_FDNAMES", "web:admin")];
        assert_eq!(told(&two).unwrap(), ["web", "admin"]);
        assert_eq!(told(&[]), Err(Refused::Nothing));
        assert_eq!(told(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "8")]), Err(Refused::OfAnother("8".to_owned())));
        for wrong in ["0", "-1", "65", "many", ""] {
            assert_eq!(told(&[("LISTEN_FDS", wrong)]), Err(Refused::NoNumber(wrong.to_owned())));
        }
    }

    #[test]
    fn surroundings_s7_one_of_several_is_named_or_all_are_said() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let two = names(&["web", "admin"]);
        assert_eq!(pick(&names(&["web"]), None), Ok(0));
        assert_eq!(pick(&two, Some("admin")), Ok(1));
        assert_eq!(pick(&two, None), Err(Refused::Several(two.clone())));
        let none = pick(&two, Some("wbe")).unwrap_err();
        assert_eq!(none.to_string(), "0 of the sockets that were handed over are called `wbe`; there are web, admin");
        let twice = pick(&names(&["web", "web"]), Some("web")).unwrap_err();
        assert!(matches!(twice, Refused::Named { count: 2, .. }), "{twice}");
        assert!(twice.remedy().contains("--listen systemd:NAME"));
    }
}
