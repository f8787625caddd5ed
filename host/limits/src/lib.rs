//! Every limit of the host in one table: name, default, hard cap, why. `bellhop config` prints it.
#![forbid(unsafe_code)]

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// As in `bellhop.toml`, with its unit.
    pub name: &'static str,
    /// Unless the operator says otherwise.
    pub default: u64,
    /// No operator can go beyond it.
    pub cap: u64,
    /// Why there is one and why it is what it is.
    pub why: &'static str,
}

macro_rules! limits {
    ($($name:ident = $default:expr, $cap:expr, $why:literal;)*) => {
        /// The limits in force.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $why] pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// The table.
            pub const TABLE: &'static [Line] = &[
                $(Line { name: stringify!($name), default: $default, cap: $cap, why: $why },)*
            ];

            /// Sets one limit by name.
            ///
            /// # Errors
            /// The name is unknown (with the nearest known one, if any is near) or the value is beyond the cap.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), Error> {
                let line = Self::TABLE.iter().find(|line| line.name == name).ok_or_else(|| Error::Unknown {
                    name: name.chars().take(64).collect(),
                    nearest: bellhop_core::diagnostic::nearest(name, Self::TABLE.iter().map(|l| l.name))
                        .map(str::to_owned),
                })?;
                if value > line.cap || value == 0 {
                    return Err(Error::Beyond { name: line.name, value, cap: line.cap });
                }
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => {}
                }
                Ok(())
            }

            /// The value of a line.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

/// Why a limit was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such limit.
    #[error("there is no limit `{name}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was given.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// The value is zero or too large.
    #[error("`{name}` can be from 1 to {cap}, not {value}")]
    Beyond {
        /// Which.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The hard cap.
        cap: u64,
    },
}

limits! {
    value_bytes_max = 1 << 20, 1 << 20, "a value as JSON, wherever it comes from: what is put around it has to fit into a record, and a record into a batch of the store";
    input_bytes_max = 1 << 20, 1 << 20, "a run's input: held in memory while the run is open, and in every snapshot";
    run_events_max = 100_000, 1_000_000, "records of one run: a fold at waking reads them all";
    run_journal_bytes_max = 64 << 20, 256 << 20, "bytes of one run's journal, likewise";
    decision_ms_max = 100, 1_000, "one decision of a run that has more to decide than a short one takes: then what it has decided is recorded, and others have their turn";
    decision_events_max = 2_000, 20_000, "events of one decision: they stand in one record";
    decision_bytes_max = 4 << 20, 8 << 20, "bytes of these: the last step may add some megabytes, and a batch of the store takes 40";
    decision_evaluations_max = 2_000, 20_000, "expressions that one decision evaluates";
    decisions_max = 500, 10_000, "such decisions in a row without a wait or a call: a run that goes round and round is ended";
    open_runs_max = 1_000_000, 10_000_000, "runs that have not ended: each is a key read at start";
    live_runs_max = 256, 100_000, "runs in memory at once, while they do something: as many as can have a guest; more wait for a place";
    guest_memory_bytes_max = 64 << 20, 256 << 20, "linear memory of one action: what a Python interpreter needs, doubled";
    guests_memory_bytes_max = 1 << 40, 1 << 40, "linear memory of all guests together, each counted with the most that it can grow to; never more than half of the machine's memory, or of its control group's, which the default comes to: more wait for a place";
    guest_cpu_ms_max = 1_000, 10_000, "processor time between two calls, of the guest alone; it has three tries";
    guest_calls_max = 200, 1_000, "calls of one slice of an action: what a replay must feed back";
    guest_idle_slices_max = 20, 1_000, "times in a row that an action may ask to be called again without a call or with the state that it had: what gets nowhere ends";
    guest_answers_bytes_max = 8 << 20, 32 << 20, "bytes of answers of one slice, likewise";
    guest_answer_bytes_max = 1 << 20, 1 << 20, "one answer to a guest: ask for smaller pages";
    guest_output_bytes_max = 1 << 20, 1 << 20, "an action's output: it becomes a task's output in the journal";
    guest_log_lines_max = 1_000, 10_000, "lines in the host's log of one execution of a task, all of its attempts and slices together";
    guest_log_bytes_max = 256 << 10, 4 << 20, "bytes of these lines";
    run_log_lines_max = 10_000, 100_000, "lines in the host's log of all actions of one run: a loop, a retry and a slice begin no new count";
    run_log_bytes_max = 1 << 20, 64 << 20, "bytes of these lines";
    waiting_runs_max = 32, 1_000, "runs kept in memory, with their guests, while all of their actions wait for a turn; the rest are put down and run again from what is on record";
    waiting_bytes_max = 256 << 20, 8 << 30, "memory of those guests";
    waiting_ms_max = 30_000, 3_600_000, "such a run is put down after it has waited so long, even where there is room";
    leaving_runs_max = 8, 1_000, "runs beyond those that may stay, until they are put down, and actions that have begun and may come to wait: while there are so many none begins, so that a crowd has few guests at once";
    concurrent_calls_max = 256, 1_000, "actions with an instance at once; fewer where `guests_memory_bytes_max` has no room for so many, and an eighth is left to other plugins than the one that has the most";
    expression_cpu_ms_max = 50, 1_000, "processor time of one evaluation: every hostile expression ends here";
    slack_response_bytes_max = 8 << 20, 64 << 20, "a Slack answer, for the host's own calls; a guest gets less";
    slack_deadline_ms = 30_000, 300_000, "one request to Slack, from the first byte sent to the last byte read";
    slack_attempts_max = 10, 100, "sends of one call that were surely not done, with backoff; then the run parks";
    slack_backoff_ms_max = 60_000, 900_000, "the longest wait between two of them";
    reconcile_delay_ms = 5_000, 60_000, "after a connection ended, before a read-back is believed (semantics 1)";
    read_back_ms_max = 3_600_000, 86_400_000, "trying to read back what became of a write, while the network or Slack is away; then the run parks";
    names_max = 500, 10_000, "names in one action's input that the host looks up: each is a request, and a record";
    names_listed_max = 200_000, 1_000_000, "names of one of Slack's lists that are read to find one, and names that are kept of all lists together: about 200 bytes each";
    body_bytes_max = 1 << 20, 16 << 20, "an HTTP body";
    plugin_bytes_max = 31 << 20, 31 << 20, "a plugin's file: a Python plugin has 18 MB, and one value of the store 32 MiB";
    compile_cpu_ms_max = 60_000, 70_000, "processor time of compiling one plugin, of all threads together: one enormous function takes it";
    compile_memory_bytes_max = 4 << 30, 64 << 30, "address space of the process that compiles a plugin: one of 18 MB needs about 310 MB of memory";
    compiled_bytes_max = 1 << 30, 64 << 30, "compiled plugins that are kept: what was used longest ago goes first, and is compiled again when it is needed";
    header_ms_max = 10_000, 60_000, "reading a request's headers: a slow client holds a socket";
    header_bytes_max = 16 << 10, 48 << 10, "a request's headers, and its address: they are read before anybody knows who asks";
    headers_max = 64, 90, "headers of one request, likewise";
    file_bytes_max = 64 << 20, 1 << 30, "a file or standard input that a verb of the command line reads; what is in it has a limit of its own besides";
    body_ms_max = 30_000, 300_000, "reading a request's body, likewise";
    wait_ms_max = 60_000, 100_000, "a request that waits for a run to end, by `?wait=`: after longer, what is between client and host gives up";
    open_shown_max = 20, 200, "things that wait for a person's word, shown with a run: its summary has them, and what is behind them is shown when these are settled";
    labels_max = 32, 100, "labels of one run: each is kept in its summary, which every list reads";
    linger_bytes_max = 8 << 20, 64 << 20, "what a refused client was still sending, read and thrown away so that the refusal is not lost with it";
    write_ms_max = 30_000, 300_000, "an answer of which the client takes nothing, a stream of events too: it holds a socket";
    connections_max = 5_000, 100_000, "HTTP connections at once, besides those kept for probes; fewer where the process may have fewer descriptors";
    peer_connections_max = 1_250, 100_000, "those of one peer address, and of half of all at most: one client shuts out no other; `trusted_proxies` have no such limit";
    sse_queue_max = 1_000, 100_000, "records that a reader of events who had had all of them may fall behind; then it is cut off";
    drain_ms_max = 10_000, 600_000, "sent calls at SIGTERM; what is still open is resolved at the next start";
    idempotency_kept_ms = 86_400_000, 2_592_000_000, "an idempotency key after its run ended: a day of retries";
    notices_gather_ms = 600_000, 86_400_000, "after people were told of a reason, so long others for the same reason are gathered into one message";
    notices_given_up_ms = 86_400_000, 604_800_000, "what nobody could be told for so long is no news any more: it is given up, and said in the log";
    notices_again_ms = 30_000, 3_600_000, "between two attempts to tell people, when a failure may pass";
    notices_connections_max = 16, 1_000, "connections over which people are told at once: one that is slow holds up no other";
    blocked_again_ms = 60_000, 3_600_000, "until blocked runs are judged again though nothing was changed here: a scope may have been granted in Slack";
    ended_tokens_kept_ms = 86_400_000, 2_592_000_000, "a token after its end, in lists: so that it is seen why something stopped working";
    runs_kept_ms = 7_776_000_000, 316_224_000_000, "a run after its end, where its file says nothing else: an auditor's quarter";
    sweep_every_ms = 600_000, 3_600_000, "between two looks at what may go: what is beyond its time by less than this is still there";
    log_queue_bytes_max = 1 << 20, 1 << 30, "lines of the log that wait for a reader: further ones are dropped, and how many is said when it reads again";
    log_flush_ms_max = 2_000, 60_000, "a reader of what a host says: so long a start waits for it, and an end";
    trace_queue_spans_max = 8_192, 1 << 20, "spans that wait to be sent to a collector: further ones are dropped and counted, some hundred bytes each";
    trace_flush_ms_max = 2_000, 60_000, "the last spans at SIGTERM: so long an end waits for a collector";
    disk_reserve_bytes = 64 << 20, 1 << 40, "room kept free on the store's disk, at most half of it: with less nothing begins and open runs wait; what people order uses it";
    backup_queue_bytes_max = 64 << 20, 1 << 30, "what is written while a backup is taken and its reader takes nothing: it is held in memory for the backup, and with more the backup is broken off";
    store_cache_bytes = 4 << 20, 4 << 30, "the store's page cache: what is behind it is in the system's";
    list_items_max = 200, 1_000, "items of one page of a list";
    list_bytes_max = 4 << 20, 32 << 20, "bytes of one page of a list, as JSON: it ends with the item that comes to it, and leads on; one item is always there";
    list_looked_max = 100_000, 10_000_000, "runs that are looked at for one page: a filter may fit none of them, and the page is then not full";
    table_bytes_max = 1 << 20, 1 << 20, "an operator's table: it is given to expressions whole";
    definition_versions_max = 10_000, 1_000_000, "versions of one workflow";
}
