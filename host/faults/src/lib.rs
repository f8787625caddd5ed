//! Where the program can be made to die: what `make faults` switches on to see that every promise holds.
//!
//! Only with the feature `faults`, which no release has; without it these functions are nothing, and no name of a point is
//! in the program.
//!
//! Between two points there may be nothing that outlives the process and nothing that anybody outside could notice. What
//! comes after a death at the one is then what comes after a death at the other, and they are one *place*: a place begins
//! at the first point after something was written, or asked, or an answer left, and ends where the next begins. While
//! Slack has a request, each point is a place of its own, since nobody here knows when Slack does what it is asked. How
//! far the file beside the store got that says what was synchronised makes no place: it may lag behind, and is only
//! compared.
#![forbid(unsafe_code)]

/// Places at which a life may end. What is said of each is how things stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A group of records is with the store and not yet with the operating system.
    Unwritten,
    /// A group outlives the process and not yet the machine.
    Unsynced,
    /// What is waited for is on the disk, and those who wait have not heard of it.
    Unacknowledged,
    /// A run is durable and its caller has not heard of it.
    Unanswered,
    /// A request to Slack is about to leave: of a guest, of a read-back, of a name, of a notice.
    Unsent,
    /// What Slack answered is in hand, or that it did not.
    Answered,
    /// What came of a call is about to be recorded.
    Unrecorded,
    /// What was decided about a run is about to be recorded.
    Undecided,
    /// A notice is in the outbox, and its run does not know.
    HandedOver,
    /// People were told, and the notice is still in the outbox.
    Told,
    /// The end of a run is durable, and what it held is still held.
    Ended,
    /// A blocked run may begin, and nothing says so yet.
    Unblocked,
    /// An open run was found at a start and is about to be read.
    FoundOpen,
}

#[cfg(feature = "faults")]
mod switched_on {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::Point;

    /// The process aborts at the passage of this number, counted from 1 over all points.
    const DIE_AT: &str = "BELLHOP_FAULTS_DIE_AT";
    /// The process aborts where the place of this number begins, counted from 1.
    const DIE_AT_PLACE: &str = "BELLHOP_FAULTS_DIE_AT_PLACE";
    /// The name of each point that is passed is appended to this file, a line each; that of one at which a place begins
    /// comes after [`PLACE`].
    const TRACE: &str = "BELLHOP_FAULTS_TRACE";
    const PLACE: &str = "* ";

    struct Orders {
        die_at: u64,
        die_at_place: u64,
        trace: Option<File>,
    }

    fn orders() -> &'static Orders {
        static ORDERS: OnceLock<Orders> = OnceLock::new();
        let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(0);
        ORDERS.get_or_init(|| Orders {
            die_at: number(DIE_AT),
            die_at_place: number(DIE_AT_PLACE),
            trace: std::env::var_os(TRACE).and_then(|path| File::options().create(true).append(true).open(path).ok()),
        })
    }

    /// How far this life has come.
    struct Passed {
        points: u64,
        places: u64,
        /// Requests that Slack has.
        asked: u64,
        /// Something is not as it was at the last point.
        news: bool,
    }

    /// Held over a whole passage, so that the order of the points is that of their numbers.
    static PASSED: Mutex<Passed> = Mutex::new(Passed { points: 0, places: 0, asked: 0, news: true });

    /// `TakeAll` as `take-all`.
    pub(super) fn dashed(name: &str) -> String {
        let mut dashed = String::with_capacity(name.len() + 4);
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !dashed.is_empty() {
                dashed.push('-');
            }
            dashed.push(letter.to_ascii_lowercase());
        }
        dashed
    }

    /// Dies here if that was ordered.
    pub fn pass(point: Point) {
        let orders = orders();
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        match point {
            Point::Unsynced => passed.news = true,
            Point::Answered => {
                passed.asked = passed.asked.saturating_sub(1);
                passed.news = true;
            }
            _ => {}
        }
        let begins = std::mem::take(&mut passed.news) || passed.asked > 0;
        passed.points += 1;
        passed.places += u64::from(begins);
        if let Some(mut trace) = orders.trace.as_ref() {
            let mark = if begins { PLACE } else { "" };
            // One that is lost shows as a wrong count.
            let _lost = trace.write_all(format!("{mark}{}\n", dashed(&format!("{point:?}"))).as_bytes());
        }
        if passed.points == orders.die_at || (begins && passed.places == orders.die_at_place) {
            std::process::abort();
        }
        if point == Point::Unsent {
            passed.asked += 1;
        }
    }

    /// What follows is another place.
    pub fn news() {
        PASSED.lock().unwrap_or_else(PoisonError::into_inner).news = true;
    }
}

#[cfg(feature = "faults")]
pub use switched_on::{news, pass};

/// Dies here if that was ordered.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn pass(_: Point) {}

/// Something was written beside the store that outlives the process, or an answer leaves: what follows is another place.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn news() {}
