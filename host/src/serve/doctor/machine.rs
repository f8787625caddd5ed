//! The machine around a process: descriptors, memory, the disk and the folder on it.

use std::path::{Path, PathBuf};

use bellhop_api::{descriptors_for, places_of};
use bellhop_clock::{self as clock, Clock as _};
use bellhop_core::text::shell_word;
use bellhop_core::time::Timestamp;
use bellhop_limits::Limits;
use rustix::fs::Access;
use rustix::process::{Resource, getrlimit};
use serde_json::json;

use super::{Check, State};
use crate::serve::{Options, own, versions};

const MB: u64 = 1_000_000;
const DAY_MS: u64 = 86_400_000;
/// With less of the machine's memory few guests run at once, and a compiler may not get what it needs.
const MEMORY_BYTES_MIN: u64 = 512 * MB;
/// A disk on which this takes longer, at its best, holds up everybody who waits for a record.
const SYNC_MS_MAX: u64 = 25;
const SYNCS: usize = 9;
/// Looking takes no longer.
const SYNCING_MS_MAX: u128 = 1_500;
/// A disk that is full in less time is said.
const DAYS_MIN: u64 = 14;

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{}.{} MB", bytes / MB, bytes % MB / (MB / 10)),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / MB),
        _ => format!("{} GB", bytes / (1_000 * MB)),
    }
}

fn word(path: &Path) -> String {
    shell_word(&path.display().to_string()).into_owned()
}

pub(super) fn versions() -> Check {
    let mut check = Check::of("versions").has(versions::line());
    for (name, value) in versions::all() {
        check = check.with(name, value);
    }
    check
}

pub(super) fn settings(options: &Options) -> Check {
    let file = options.settings_file.as_ref().map(|file| file.display().to_string());
    let read = file.as_ref().map_or_else(|| "no bellhop.toml: the defaults".to_owned(), Clone::clone);
    let check = Check::of("settings").has(format!("{read}; data in {}", options.data_dir.display()));
    let proxy = options.proxy.as_ref().map(bellhop_slack::client::Proxy::shown);
    check
        .with("file", json!(file))
        .with("data_dir", options.data_dir.display().to_string())
        .with("listen", options.listen.to_string())
        .with("slack_url", options.slack_url.clone())
        .with("proxy", json!(proxy))
}

pub(super) fn descriptors(limits: &Limits) -> Check {
    let limit = getrlimit(Resource::Nofile);
    // A host raises the soft limit to the hard one.
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let wanted = limits.connections_max;
    let (needed, places) = (descriptors_for(wanted), places_of(wanted, hard));
    let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    let check = Check::of("descriptors").with("soft", soft).with("hard", hard).with("open", json!(open));
    if places >= wanted {
        return check.has(format!("{hard} may be open, enough for {wanted} connections"));
    }
    check
        .fault("descriptors-few", State::Warning)
        .needs(format!("{needed}, for {wanted} connections (`connections_max`) and what the host needs besides"))
        .has(format!("{hard} may be open: {places} connections at once"))
        .fix(format!(
            "let it have {needed}: LimitNOFILE={needed} in its unit, or `ulimit -n {needed}` in the shell that starts it; or write `connections_max = {places}` under [limits] in bellhop.toml"
        ))
}

pub(super) fn memory(limits: &Limits, guests: Option<u64>) -> Check {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let check = Check::of("memory").with("processors", processors).with("guests_of_one_plugin", json!(guests));
    let Some(bytes) = bellhop_sandbox::memory_bytes() else {
        return check.unknown("the system does not tell how much memory there is");
    };
    let for_guests = limits.guests_memory_bytes_max.min(bytes / 2);
    let check = check.with("memory_bytes", bytes).with("guests_memory_bytes", for_guests);
    let follows = guests.map_or_else(String::new, |guests| format!(", so {guests} guests of one plugin at once"));
    let has =
        format!("{} and {processors} processors: guests have {}{follows}", megabytes(bytes), megabytes(for_guests));
    if bytes >= MEMORY_BYTES_MIN {
        return check.has(has);
    }
    check
        .fault("memory-small", State::Warning)
        .needs(format!("{} for the host, its guests and its compiler", megabytes(MEMORY_BYTES_MIN)))
        .has(has)
        .fix("raise the memory of the machine, or of its control group (MemoryMax= in its unit)")
}

/// The folder, or the one in which it would be made.
fn nearest(folder: &Path) -> PathBuf {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    whole.ancestors().find(|folder| folder.is_dir()).unwrap_or_else(|| Path::new("/")).to_owned()
}

pub(super) fn folder(folder: &Path) -> Check {
    let check = Check::of("data-dir").with("path", folder.display().to_string());
    let there = nearest(folder);
    if rustix::fs::access(&there, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return check
            .fault("data-dir-refused", State::Wrong)
            .needs("a folder that the host's user can write")
            .has(format!("{} cannot be written by this user", there.display()))
            .fix("start the host as the user to whom the folder belongs, or name another one by --data-dir");
    }
    match own::look(folder) {
        Ok(None) if !folder.is_dir() => {
            check.has(format!("{} is not there yet: the first start makes it", folder.display()))
        }
        Ok(None) => check.has(format!("{}, this user's alone", folder.display())),
        Ok(Some(open)) => check
            .fault("data-dir-open", State::Wrong)
            .needs("records and secrets that only the host's user can read")
            .has(format!("others may open {}", open.display()))
            .fix(format!("chmod -R go-rwx {}", word(&open))),
        Err(refused) => check
            .fault("data-dir-refused", State::Wrong)
            .needs("a folder of the host's own, into which nobody else can write")
            .has(refused.to_string())
            .fix(refused.remedy()),
    }
}

/// The bytes of the files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file);
    sizes.map(|found| found.len()).sum()
}

/// How long ago the store was begun, in days; none where that is less than a day.
fn age_days(folder: &Path, now: Timestamp) -> Option<u64> {
    let begun = std::fs::metadata(folder.join("store/format")).and_then(|found| found.modified()).ok()?;
    let begun = begun.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    let days = now.as_millis().saturating_sub(u64::try_from(begun).ok()?) / DAY_MS;
    (days > 0).then_some(days)
}

pub(super) fn disk(folder: &Path, limits: &Limits, now: Timestamp) -> Check {
    let there = nearest(folder);
    let check = Check::of("disk").with("store_bytes", bytes_in(&folder.join("store")));
    let check = check.with("compiled_bytes", bytes_in(&folder.join("compiled")));
    let told = rustix::fs::statvfs(&there).ok().filter(|told| told.f_blocks > 0);
    let Some(told) = told else { return check.unknown("the file system does not tell its room") };
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    let (free, total) = (bytes(told.f_bavail), bytes(told.f_blocks));
    let reserve = limits.disk_reserve_bytes.min(total / 2);
    // What a store has grown by since it was begun, as a mean: what it grew by of late is not known.
    let per_day = age_days(folder, now).map(|days| bytes_in(&folder.join("store")) / days);
    let days = per_day.filter(|bytes| *bytes > 0).map(|bytes| free.saturating_sub(reserve) / bytes);
    let check = check
        .with("free_bytes", free)
        .with("total_bytes", total)
        .with("reserve_bytes", reserve)
        .with("days_until_full", json!(days));
    let soon = match days {
        Some(days) => format!("full in about {days} days, as it has grown so far"),
        None => "how soon it is full is unknown: the store is younger than a day".to_owned(),
    };
    let room =
        format!("make room on the disk of {}, or move the folder of the stopped host to a larger one", there.display());
    let has = format!("{} of {} free; {soon}", megabytes(free), megabytes(total));
    if free < reserve {
        return check
            .fault("disk-full", State::Wrong)
            .needs(format!("{} free (`disk_reserve_bytes`): with less nothing begins", megabytes(reserve)))
            .has(has)
            .fix(room);
    }
    if free < reserve.saturating_mul(2).min(total / 2) || days.is_some_and(|days| days < DAYS_MIN) {
        return check
            .fault("disk-nearly-full", State::Warning)
            .needs(format!("more than {} free, for {DAYS_MIN} days at least", megabytes(reserve)))
            .has(has)
            .fix(room);
    }
    check.has(has)
}

/// Synchronises a small file that has no name, and is gone with this.
pub(super) fn sync(folder: &Path) -> Check {
    use std::io::{Seek as _, Write as _};
    let check = Check::of("sync");
    let there = nearest(folder);
    let clock = clock::System::new();
    let mut took = Vec::new();
    let measured = tempfile::tempfile_in(&there).and_then(|mut file| {
        let begun = clock.monotonic();
        while took.len() < SYNCS && (clock.monotonic() - begun).as_millis() < SYNCING_MS_MAX {
            file.rewind()?;
            file.write_all(&[took.len() as u8; 4_096])?;
            let before = clock.monotonic();
            file.sync_all()?;
            took.push(clock.monotonic() - before);
        }
        Ok(())
    });
    took.sort();
    let (Ok(()), Some(best), Some(median)) = (&measured, took.first(), took.get(took.len() / 2)) else {
        let why = measured.err().map_or_else(|| "nothing was measured".to_owned(), |error| error.to_string());
        return check.unknown(format!("nothing can be synchronised in {}: {why}", there.display()));
    };
    let ms = |span: &std::time::Duration| format!("{}.{:02} ms", span.as_millis(), span.subsec_micros() % 1_000 / 10);
    let check =
        check.with("best_us", json!(best.as_micros() as u64)).with("median_us", json!(median.as_micros() as u64));
    let has = format!("{} at best, {} in the middle", ms(best), ms(median));
    if best.as_millis() < u128::from(SYNC_MS_MAX) {
        return check.has(has);
    }
    check
        .fault("sync-slow", State::Warning)
        .needs(format!("less than {SYNC_MS_MAX} ms: whoever is answered waits for one synchronisation"))
        .has(has)
        .fix("put the data folder on a local disk with flash memory, by --data-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_people_read_them() {
        for (bytes, said) in [(0, "0.0 MB"), (1_250_000, "1.2 MB"), (64 << 20, "67 MB"), (20_500_000_000, "20 GB")] {
            assert_eq!(megabytes(bytes), said);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_looked_for_where_it_would_be_made() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&place.path().join("a/b")), place.path());
        let check = folder(&place.path().join("a/b"));
        assert_eq!(check.state, State::Ok, "{check:?}");
    }
}
