//! What the program is told beside the verb: flags over environment over `bellhop.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bellhop_core::diagnostic::{Diagnostic, Place, code, nearest};
use bellhop_core::encoding;
use bellhop_slack::client::{self, certificates};
use reqwest::Url;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address;
use super::flags::Global;
use super::output::Failure;
use super::{proxy, traces};
use crate::serve::read::whole;
use crate::serve::traces::Options as Traces;
use crate::serve::{At, USUAL};
use bellhop_api::{Net, PUBLIC_URL_FORMS, PublicUrl};
use bellhop_limits::{self as limits, Limits};

/// The file that is read when it is there.
const FILE: &str = "bellhop.toml";
/// A longer file is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Slack.
const SLACK_URL: &str = "https://slack.com";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// In force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Where a host keeps everything.
    pub(crate) data_dir: PathBuf,
    /// Whether whoever calls has named it: one that a folder brings along may be anybody's.
    pub(crate) data_dir_is_named: bool,
    /// Where a host serves.
    pub(crate) listen: At,
    /// Where a host serves its metrics besides.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Peers through which many clients come to a host.
    pub(crate) trusted_proxies: Vec<Net>,
    /// The address of a host as its callers know it.
    pub(crate) public_url: Option<PublicUrl>,
    /// Where the verbs that need a server find it.
    pub(crate) url: String,
    /// Whether whoever calls takes it that the token is sent there over http.
    pub(crate) allow_http: bool,
    /// Whether whoever calls has named it, or nobody has: a token is sent there.
    pub(crate) url_is_named: bool,
    /// Slack's address; another one only for a simulator.
    pub(crate) slack_url: String,
    /// Whether whoever calls has named it, or nobody has: Slack's tokens are sent there.
    pub(crate) slack_url_is_named: bool,
    /// What the file says of a proxy.
    proxy: Option<proxy::Setting>,
    /// A file of certificates that are believed besides the system's.
    ca_file: Option<PathBuf>,
    /// Whether whoever calls has named the file that was read. These two together read what is sent to Slack, and the file
    /// of a log may be any that this user can write.
    file_is_named: bool,
    /// What is logged.
    pub(crate) log: String,
    /// How.
    pub(crate) log_format: LogFormat,
    /// To which file, where that is not standard error.
    log_file: Option<PathBuf>,
    /// What is allowed.
    pub(crate) limits: Limits,
    /// Where spans go, as the file says.
    traces: Option<Url>,
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Written {
    data_dir: Option<PathBuf>,
    listen: Option<At>,
    metrics_listen: Option<SocketAddr>,
    trusted_proxies: Vec<Net>,
    public_url: Option<PublicUrl>,
    url: Option<String>,
    slack_url: Option<String>,
    proxy: Option<proxy::Setting>,
    ca_file: Option<PathBuf>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    log_file: Option<PathBuf>,
    limits: Limits,
    /// Where spans go.
    traces: Option<Url>,
}

const KEYS: [&str; 14] = [
    "ca_file",
    "data_dir",
    "limits",
    "listen",
    "log",
    "log_file",
    "log_format",
    "metrics_listen",
    "proxy",
    "public_url",
    "slack_url",
    "traces",
    "trusted_proxies",
    "url",
];

impl Settings {
    /// Reads the file, then what stands above it.
    ///
    /// # Errors
    /// A file that was named is not there, or the file has faults: all of them, exit code 2.
    pub(crate) fn gather(global: &Global) -> Result<Self, Failure> {
        let (file, written) = match &global.config {
            Some(path) => (Some(path.clone()), read(path)?),
            None if Path::new(FILE).is_file() => (Some(FILE.into()), read(Path::new(FILE))?),
            None => (None, Written::default()),
        };
        Ok(Self::of(global, file, written))
    }

    fn of(global: &Global, file: Option<PathBuf>, written: Written) -> Self {
        let listen = written.listen.unwrap_or(At::Address(USUAL));
        // What a file says that only lies in this folder is what anybody may have said.
        let file_is_named = global.config.is_some();
        let url_is_named = global.url.is_some() || written.url.is_none() || file_is_named;
        let is_slack = |url: &String| url.trim_end_matches('/') == SLACK_URL;
        let slack_url_is_named = written.slack_url.as_ref().is_none_or(is_slack) || file_is_named;
        let data_dir_is_named = global.data_dir.is_some() || (file_is_named && written.data_dir.is_some());
        let url = global.url.clone().or(written.url).unwrap_or_else(|| listen.url());
        Self {
            file,
            data_dir: global.data_dir.clone().or(written.data_dir).unwrap_or_else(|| ".bellhop".into()),
            data_dir_is_named,
            listen,
            metrics_listen: written.metrics_listen,
            trusted_proxies: written.trusted_proxies,
            public_url: written.public_url,
            url,
            allow_http: global.allow_http,
            url_is_named,
            slack_url_is_named,
            slack_url: written.slack_url.unwrap_or_else(|| SLACK_URL.to_owned()),
            proxy: written.proxy,
            ca_file: written.ca_file,
            file_is_named,
            log: written.log.unwrap_or_else(|| "info".to_owned()),
            log_format: written.log_format.unwrap_or(LogFormat::Text),
            log_file: written.log_file,
            limits: written.limits,
            traces: written.traces,
        }
    }
}

impl Settings {
    /// Whose certificates are believed besides the system's, as the file says.
    pub(crate) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Where the log goes, as the file says.
    pub(crate) fn log_file(&self) -> Option<&Path> {
        self.log_file.as_deref()
    }

    /// Where the log goes, as a file says that whoever calls has named.
    ///
    /// # Errors
    /// Only a file that lies in this folder names it.
    pub(crate) fn log_file_in_force(&self) -> Result<Option<&Path>, Failure> {
        if self.log_file.is_some() {
            self.must_be_named("log_file")?;
        }
        Ok(self.log_file())
    }

    /// What the file says of a proxy.
    pub(crate) fn proxy(&self) -> Option<&proxy::Setting> {
        self.proxy.as_ref()
    }

    /// The proxy that is in force, by what the file says and by the usual variables.
    ///
    /// # Errors
    /// Only a file that lies in this folder names it, or a variable names something that is no proxy.
    pub(crate) fn proxy_in_force(&self) -> Result<Option<client::Proxy>, Failure> {
        if matches!(self.proxy, Some(proxy::Setting::At(_))) {
            self.must_be_named("proxy")?;
        }
        proxy::in_force(self.proxy.as_ref(), |name| std::env::var(name).ok())
    }

    /// Where spans go, as the file says, without what only its users know.
    pub(crate) fn traces(&self) -> Option<String> {
        self.traces.as_ref().map(traces::shown)
    }

    /// Where spans go, by what the file and the usual variables say.
    ///
    /// # Errors
    /// Only a file that lies in this folder says so, or a variable says what cannot be done.
    pub(crate) fn traces_in_force(&self) -> Result<Option<Traces>, Failure> {
        let sent = traces::in_force(self.traces.as_ref(), |name| std::env::var(name).ok())?;
        let Some(traces::Sent { endpoint, timeout, by_file }) = sent else { return Ok(None) };
        if by_file {
            self.must_be_named("traces")?;
        }
        tracing::info!(collector = traces::shown(&endpoint), "spans are sent to a collector");
        let (proxy, certificates) = (self.proxy_in_force()?, self.certificates()?);
        Ok(Some(Traces { endpoint, timeout, proxy, certificates }))
    }

    /// That a setting, which says who can read what is sent, or which file is written, is not only what a folder brings
    /// along.
    fn must_be_named(&self, setting: &str) -> Result<(), Failure> {
        if self.file_is_named {
            return Ok(());
        }
        let message = format!("`{setting}` is not taken from the bellhop.toml that only lies in this folder");
        Err(Failure::usage(message).with_help("where it is the right one, name the file: --config bellhop.toml"))
    }

    /// The certificates that are believed besides the system's.
    ///
    /// # Errors
    /// The file of them cannot be read, has none, or is named only by what lies in this folder.
    pub(crate) fn certificates(&self) -> Result<certificates::Own, Failure> {
        let Some(path) = &self.ca_file else { return Ok(certificates::Own::default()) };
        self.must_be_named("ca_file")?;
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("the certificates of {}: {why}", path.display()))
                .with_help("name a file in PEM form by `ca_file` in bellhop.toml")
        };
        let pem = whole(path, FILE_BYTES_MAX).map_err(|error| wrong(&error))?;
        certificates::read(&pem).map_err(|error| wrong(&error))
    }
}

fn read(path: &Path) -> Result<Written, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::usage(format!("the configuration {}: {why}", path.display()));
    let bytes = whole(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => failed(&format!("it has more than {FILE_BYTES_MAX} bytes")),
        _ => failed(&error),
    })?;
    let text = encoding::text(&bytes).map_err(|why| failed(&why))?;
    parse(&path.display().to_string(), text).map_err(|diagnostics| {
        Failure::usage(format!("the configuration {} cannot be used", path.display())).with_diagnostics(diagnostics)
    })
}

/// One file being read, with all its faults.
struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    faults: Vec<Diagnostic>,
}

fn parse(file: &str, text: &str) -> Result<Written, Vec<Diagnostic>> {
    let mut reader = Reader { file, text, faults: Vec::new() };
    let written = match DeTable::parse(text) {
        Ok(table) => reader.table(table.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            // A bare word is a number or a date that is none, says the parser.
            let is_word = text.get(span.clone()).is_some_and(|text| text.starts_with(|c: char| c.is_alphabetic()));
            let quotes = is_word.then(|| "text stands in quotes, such as log = \"info\"".to_owned());
            reader.fault(code::INVALID_VALUE, span, error.message().to_owned(), quotes);
            Written::default()
        }
    };
    if reader.faults.is_empty() {
        Ok(written)
    } else {
        reader.faults.sort_by_key(|d| d.place.as_ref().map(|p| (p.line, p.column)));
        Err(reader.faults)
    }
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Written {
        let mut written = Written::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "data_dir" => written.data_dir = self.string(value).map(PathBuf::from),
                "url" => written.url = self.string(value).map(str::to_owned),
                "slack_url" => written.slack_url = self.string(value).map(str::to_owned),
                "ca_file" => written.ca_file = self.string(value).map(PathBuf::from),
                "proxy" => written.proxy = self.word(value, proxy::parse, proxy::FORMS),
                "log" => written.log = self.string(value).map(str::to_owned),
                "log_file" => written.log_file = self.string(value).map(PathBuf::from),
                "listen" => {
                    let wanted = format!("{}; {}", address::FORMS, address::PATH_FORM);
                    written.listen = self.word(value, |text| address::at(text).ok(), &wanted);
                }
                "metrics_listen" => {
                    written.metrics_listen = self.word(value, |text| address::parse(text).ok(), address::FORMS);
                }
                "trusted_proxies" => written.trusted_proxies = self.nets(value),
                "public_url" => written.public_url = self.word(value, |text| text.parse().ok(), PUBLIC_URL_FORMS),
                "log_format" => {
                    let read = |text: &str| match text {
                        "text" => Some(LogFormat::Text),
                        "json" => Some(LogFormat::Json),
                        _ => None,
                    };
                    written.log_format = self.word(value, read, "`text` or `json`");
                }
                "limits" => self.limits(value, &mut written.limits),
                "traces" => written.traces = self.traces(value),
                unknown => {
                    let message = format!("there is no setting `{}`", shortened(unknown));
                    let near = nearest(unknown, KEYS).map(|n| format!("did you mean `{n}`?"));
                    let all = || format!("the settings are {}", KEYS.join(", "));
                    self.fault(code::UNKNOWN_KEY, key.span(), message, Some(near.unwrap_or_else(all)));
                }
            }
        }
        written
    }

    fn limits(&mut self, value: &Spanned<DeValue<'_>>, limits: &mut Limits) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.fault(code::WRONG_TYPE, value.span(), "`limits` is a table of numbers".to_owned(), None);
        };
        for (key, value) in table {
            let number = match value.get_ref() {
                DeValue::Integer(number) => u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok(),
                _ => None,
            };
            let Some(number) = number else {
                let message = format!("the limit `{}` is a whole number", shortened(key.get_ref()));
                self.fault(code::WRONG_TYPE, value.span(), message, None);
                continue;
            };
            match limits.set(key.get_ref(), number) {
                Ok(()) => {}
                Err(limits::Error::Unknown { name, nearest }) => {
                    let near = nearest.map(|n| format!("did you mean `{n}`?"));
                    self.fault(code::UNKNOWN_KEY, key.span(), format!("there is no limit `{name}`"), near);
                }
                Err(error @ limits::Error::Beyond { .. }) => {
                    self.fault(code::INVALID_VALUE, value.span(), error.to_string(), None);
                }
            }
        }
    }

    fn traces(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Url> {
        let DeValue::Table(table) = value.get_ref() else {
            self.fault(code::WRONG_TYPE, value.span(), "`traces` is a table with an `endpoint`".to_owned(), None);
            return None;
        };
        let mut endpoint = None;
        for (key, value) in table {
            if key.get_ref() == "endpoint" {
                endpoint = self.word(value, traces::parse, traces::FORMS);
                continue;
            }
            let message = format!("there is no setting `traces.{}`", shortened(key.get_ref()));
            let near = nearest(key.get_ref(), ["endpoint"]).map(|n| format!("did you mean `{n}`?"));
            self.fault(code::UNKNOWN_KEY, key.span(), message, near);
        }
        endpoint
    }

    fn nets(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Net> {
        let DeValue::Array(items) = value.get_ref() else {
            let message = "`trusted_proxies` is a list of addresses and networks, such as [\"10.0.0.0/8\"]".to_owned();
            self.fault(code::WRONG_TYPE, value.span(), message, None);
            return Vec::new();
        };
        let wanted = "an address or a network, such as 10.0.0.7 or 10.0.0.0/8";
        items.iter().filter_map(|item| self.word(item, |text| text.parse().ok(), wanted)).collect()
    }

    fn string<'v>(&mut self, value: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => {
                self.fault(code::WRONG_TYPE, value.span(), "this has to be text".to_owned(), None);
                None
            }
        }
    }

    fn word<T>(&mut self, value: &Spanned<DeValue<'_>>, read: impl Fn(&str) -> Option<T>, wanted: &str) -> Option<T> {
        let text = self.string(value)?;
        let found = read(text);
        if found.is_none() {
            let message = format!("`{}` is not {wanted}", shortened(text));
            self.fault(code::INVALID_VALUE, value.span(), message, None);
        }
        found
    }

    fn fault(
        &mut self,
        code: bellhop_core::diagnostic::Code,
        span: std::ops::Range<usize>,
        message: String,
        label: Option<String>,
    ) {
        let mut diagnostic = Diagnostic::error(code, message);
        diagnostic.place = Some(self.place(span));
        diagnostic.label = label;
        diagnostic.who = Some("the operator of this host".to_owned());
        self.faults.push(diagnostic);
    }

    fn place(&self, span: std::ops::Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let marked = self.text.get(span).and_then(|t| t.lines().next()).unwrap_or_default();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: self.file.to_owned(),
            line: number(before.matches('\n').count() + 1),
            column: number(before[start.min(before.len())..].chars().count() + 1),
            length: number(marked.chars().count().max(1)),
            text: line.to_owned(),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use bellhop_core::diagnostic::render_all;
    use expect_test::expect;

    use super::*;

    #[test]
    fn every_setting_is_read() {
        let text = "data_dir = \"/var/lib/bellhop\"\nlisten = \"[::1]:80\"\n\
                    metrics_listen = \"127.0.0.1:9090\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nurl = \"http://h\"\npublic_url = \"https://h/b\"\nslack_url = \"http://s\"\n\
                    log = \"warn\"\nlog_format = \"json\"\nlog_file = \"log\"\n[limits]\nlive_runs_max = 1_000\nguest_memory_bytes_max = 0x100_0000\n";
        let written = parse("bellhop.toml", text).unwrap();
        assert_eq!(written.data_dir, Some("/var/lib/bellhop".into()));
        assert_eq!(written.listen, Some(At::Address("[::1]:80".parse().unwrap())));
        assert_eq!(written.metrics_listen, Some("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(written.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(written.public_url, Some("https://h/b".parse().unwrap()));
        assert_eq!((written.log_format, written.log_file), (Some(LogFormat::Json), Some("log".into())));
        assert_eq!((written.limits.live_runs_max, written.limits.guest_memory_bytes_max), (1_000, 0x100_0000));
    }

    #[test]
    fn author_d8_what_only_lies_in_a_folder_names_nothing_for_whoever_calls() {
        let nothing = Global { config: None, data_dir: None, url: None, allow_http: false, output: None };
        let text = "url = \"https://elsewhere.example\"\nslack_url = \"https://slack.example\"\ndata_dir = \"there\"\n";
        let named = |global: &Global, text: &str| {
            let settings = Settings::of(global, Some(FILE.into()), parse(FILE, text).unwrap());
            (settings.url_is_named, settings.slack_url_is_named, settings.data_dir_is_named)
        };
        assert_eq!(named(&nothing, text), (false, false, false));
        assert_eq!(named(&nothing, "slack_url = \"https://slack.com/\""), (true, true, false));
        assert_eq!(named(&Global { config: Some(FILE.into()), ..nothing.clone() }, text), (true, true, true));
        let flags =
            Global { data_dir: Some("here".into()), url: Some("https://host.example".into()), ..nothing.clone() };
        assert_eq!(named(&flags, text), (true, false, true));
        // A proxy and a certificate for it read what is sent to Slack.
        for (text, is_taken) in [
            ("ca_file = \"ca.pem\"", false),
            ("proxy = \"http://elsewhere:1\"", false),
            ("proxy = \"none\"", true),
            ("log_file = \"/etc/profile\"", false),
        ] {
            let settings = Settings::of(&nothing, Some(FILE.into()), parse(FILE, text).unwrap());
            let taken = settings.certificates().map(drop).and_then(|()| settings.proxy_in_force().map(drop));
            let taken = taken.and_then(|()| settings.log_file_in_force().map(drop));
            assert_eq!(taken.is_ok(), is_taken, "{text}");
            taken
                .err()
                .iter()
                .for_each(|failure| assert!(failure.help.as_ref().unwrap().contains("--config"), "{failure:?}"));
        }
    }

    #[test]
    fn every_fault_is_said_with_its_place() {
        let text = "data-dir = \"x\"\nlisten = \"somewhere\"\nlog = 5\nlog_format = \"xml\"\n\n[limits]\nguest_cpu_max = 5\n\
                    guest_cpu_ms_max = 99999999\ninput_bytes_max = \"1 MiB\"\n\n[journal]\n";
        let faults = parse("bellhop.toml", text).unwrap_err();
        expect![[r#"
            error[unknown-key]: there is no setting `data-dir`
             --> bellhop.toml:1:1
              |
            1 | data-dir = "x"
              | ^^^^^^^^ did you mean `data_dir`?
              |
              = who:   the operator of this host
              = more:  bellhop explain unknown-key

            error[invalid-value]: `somewhere` is not an address with its port, such as 127.0.0.1:7420, [::1]:7420 or localhost:7420; a port alone, as 7420, is on this machine only, and one behind a colon, as :7420, on all of its addresses; `unix:PATH` is a socket in the file system, `unix:@NAME` one that is in none, and `systemd` or `systemd:NAME` the one that a supervisor hands over
             --> bellhop.toml:2:10
              |
            2 | listen = "somewhere"
              |          ^^^^^^^^^^^
              |
              = who:   the operator of this host
              = more:  bellhop explain invalid-value

            error[wrong-type]: this has to be text
             --> bellhop.toml:3:7
              |
            3 | log = 5
              |       ^
              |
              = who:   the operator of this host
              = more:  bellhop explain wrong-type

            error[invalid-value]: `xml` is not `text` or `json`
             --> bellhop.toml:4:14
              |
            4 | log_format = "xml"
              |              ^^^^^
              |
              = who:   the operator of this host
              = more:  bellhop explain invalid-value

            error[unknown-key]: there is no limit `guest_cpu_max`
             --> bellhop.toml:7:1
              |
            7 | guest_cpu_max = 5
              | ^^^^^^^^^^^^^ did you mean `guest_cpu_ms_max`?
              |
              = who:   the operator of this host
              = more:  bellhop explain unknown-key

            error[invalid-value]: `guest_cpu_ms_max` can be from 1 to 10000, not 99999999
             --> bellhop.toml:8:20
              |
            8 | guest_cpu_ms_max = 99999999
              |                    ^^^^^^^^
              |
              = who:   the operator of this host
              = more:  bellhop explain invalid-value

            error[wrong-type]: the limit `input_bytes_max` is a whole number
             --> bellhop.toml:9:19
              |
            9 | input_bytes_max = "1 MiB"
              |                   ^^^^^^^
              |
              = who:   the operator of this host
              = more:  bellhop explain wrong-type

            error[unknown-key]: there is no setting `journal`
              --> bellhop.toml:11:2
               |
            11 | [journal]
               |  ^^^^^^^ the settings are ca_file, data_dir, limits, listen, log, log_file, log_format, metrics_listen, proxy, public_url, slack_url, traces, trusted_proxies, url
               |
               = who:   the operator of this host
               = more:  bellhop explain unknown-key

            8 errors, 0 warnings
        "#]]
        .assert_eq(&render_all(&faults));
    }

    #[test]
    fn a_file_that_is_no_toml_is_said_with_its_place() {
        let faults = parse("bellhop.toml", "listen = \n").unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].place.as_ref().map(|p| p.line), Some(1));
    }
}
