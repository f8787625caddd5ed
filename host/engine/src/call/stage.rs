//! How far an attempt has come, and what follows from how it is left there. Nothing here waits, reads or writes.

use bellhop_core::fault::Fault;
use bellhop_core::run::{Returned, Why};

use super::scope::Stopped;
use crate::execution::Parking;
use crate::execution::invoker::{CallEnd, Wish};
use bellhop_sandbox::Trap;

/// A trap for computing too long can be the machine's fault: so many times in all, then a person looks.
const CPU_TRIES_MAX: u32 = 3;

/// How far an attempt has come. It goes through the first three in their order; then its guest is begun, perhaps several
/// times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The names in its input are looked up. It holds nothing.
    Naming,
    /// It waits for its keys, and may have some of them. Nothing is on record of it but names.
    Locking,
    /// It has its keys, and waits until one more guest may begin.
    Entering,
    /// Its guest does again what an earlier life has on record.
    Replaying,
    /// Its guest makes calls that are not on record.
    Acting,
}

impl Stage {
    fn moves(&mut self, from: &[Self], to: Self) {
        debug_assert!(from.contains(self), "from {self:?} to {to:?}");
        *self = to;
    }

    /// Its input has ids in place of names.
    pub(super) fn is_named(&mut self) {
        self.moves(&[Self::Naming], Self::Locking);
    }

    /// All of its keys are its own.
    pub(super) fn has_keys(&mut self) {
        self.moves(&[Self::Locking], Self::Entering);
    }

    /// Its guest begins, the first time or again.
    pub(super) fn begins(&mut self, is_on_record: bool) {
        let to = if is_on_record { Self::Replaying } else { Self::Acting };
        self.moves(&[Self::Entering, Self::Replaying, Self::Acting], to);
    }

    /// Its guest has come to a call that is not on record.
    pub(super) fn leaves_record(&mut self) {
        self.moves(&[Self::Replaying, Self::Acting], Self::Acting);
    }
}

/// How a guest was left.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a guest, taken apart at once")]
pub(super) enum Left {
    /// It came to its end, or was trapped.
    Ran(Result<Result<String, String>, Trap>),
    /// One of its calls could not be brought to an end. The guest was dropped there.
    Stopped(Stopped),
    /// Nobody wanted it any more. The guest was dropped where it was.
    Dropped,
}

/// What is known when a guest was left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// How often this slice was begun in this life, this time included.
    pub(super) tries: u32,
    /// The guest was begun although nobody waited for it any more: to do again what is on record.
    pub(super) stopping: bool,
    /// What is wished by now.
    pub(super) wish: Wish,
    /// The process is stopping.
    pub(super) drains: bool,
    /// The attempt has carried out a write.
    pub(super) wrote: bool,
}

/// What follows.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a guest, taken apart at once")]
pub(super) enum Then {
    /// This is what the guest answered.
    Read(Result<String, String>),
    /// The slice is begun again, and answered from the record.
    Again,
    /// The same, not counted as a try: what is on record may be all that the action does, and it knows how to take its
    /// change back.
    FromRecord,
    /// Nobody waits for its answer: what it changed goes into the ledger.
    CutShort,
    /// The attempt ends.
    End(CallEnd),
}

impl Met {
    /// What follows from how a guest was left; `pointer` is its task's.
    pub(super) fn then(self, left: Left, pointer: &str) -> Then {
        match left {
            Left::Ran(Ok(answered)) => Then::Read(answered),
            Left::Ran(Err(Trap::Cpu { .. })) if self.tries < CPU_TRIES_MAX => Then::Again,
            Left::Ran(Err(trap @ Trap::Cpu { .. })) => {
                let fault = Fault::of_code("plugin-timeout", format!("{trap}, {} times", self.tries));
                Then::End(CallEnd::Park(Parking::at(pointer, Why::Timeout, fault)))
            }
            Left::Dropped | Left::Stopped(Stopped::PutDown) | Left::Ran(Err(Trap::Halted(_))) => self.unwanted(),
            Left::Ran(Err(trap)) => {
                let code = match trap {
                    Trap::OutputTooLarge { .. } => "plugin-output-invalid",
                    _ => "plugin-trapped",
                };
                Then::End(CallEnd::Returned(Returned::Fault(Fault::of_code(code, trap.to_string()))))
            }
            // Stopping the process parks nothing: the next one reads back and finds out.
            Left::Stopped(Stopped::Park(_)) if self.drains => Then::End(CallEnd::PutDown),
            Left::Stopped(Stopped::Park(parking)) => Then::End(CallEnd::Park(parking)),
            Left::Stopped(Stopped::Unread) => Then::End(CallEnd::PutDown),
            Left::Stopped(Stopped::Failed(error)) => Then::End(CallEnd::Failed(error)),
        }
    }

    const fn unwanted(self) -> Then {
        match self.wish {
            // One that is wanted after all is begun anew: what it came to could not be begun at that moment.
            Wish::PutDown | Wish::Run => Then::End(CallEnd::PutDown),
            Wish::Stop if !self.stopping && self.wrote => Then::FromRecord,
            Wish::Stop => Then::CutShort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::Error;

    const MET: Met = Met { tries: 1, stopping: false, wish: Wish::Stop, drains: false, wrote: false };

    fn parking() -> Parking {
        Parking::at("/do/0/x", Why::Doubt, Fault::of_code("outcome-unknown", "a test".to_owned()))
    }

    fn then(met: Met, left: Left) -> String {
        match met.then(left, "/do/0/x") {
            Then::Read(answer) => format!("read {answer:?}"),
            Then::Again => "again".to_owned(),
            Then::FromRecord => "from the record".to_owned(),
            Then::CutShort => "cut short".to_owned(),
            Then::End(CallEnd::Returned(_)) => "fault".to_owned(),
            Then::End(CallEnd::Park(parking)) => format!("park {:?}", parking.why),
            Then::End(CallEnd::ParkPartway(_)) => "park partway".to_owned(),
            Then::End(CallEnd::PutDown) => "put down".to_owned(),
            Then::End(CallEnd::Failed(_)) => "failed".to_owned(),
        }
    }

    #[test]
    fn an_attempt_goes_through_its_stages_in_their_order() {
        let mut stage = Stage::Naming;
        stage.is_named();
        stage.has_keys();
        stage.begins(true);
        assert_eq!(stage, Stage::Replaying);
        stage.leaves_record();
        stage.leaves_record();
        assert_eq!(stage, Stage::Acting);
        stage.begins(false);
        assert_eq!(stage, Stage::Acting, "the next slice has nothing on record");
        stage.begins(true);
        assert_eq!(stage, Stage::Replaying, "a try that was trapped is begun again");
    }

    #[test]
    #[should_panic(expected = "from Naming to Acting")]
    fn no_guest_begins_before_its_keys_are_there() {
        Stage::Naming.begins(false);
    }

    #[test]
    #[should_panic(expected = "from Acting to Entering")]
    fn keys_are_not_taken_by_an_attempt_that_acts() {
        let mut stage = Stage::Acting;
        stage.has_keys();
    }

    #[test]
    fn what_a_guest_answers_is_read_whatever_is_wished() {
        for wish in [Wish::Run, Wish::Stop, Wish::PutDown] {
            assert_eq!(then(Met { wish, ..MET }, Left::Ran(Ok(Ok("{}".to_owned())))), r#"read Ok("{}")"#);
        }
    }

    #[test]
    fn a_guest_that_computes_too_long_is_tried_three_times() {
        let tried = |tries| then(Met { tries, ..MET }, Left::Ran(Err(Trap::Cpu { ms_max: 1 })));
        assert_eq!([tried(1), tried(2), tried(3)], ["again", "again", "park Timeout"]);
        assert_eq!(then(MET, Left::Ran(Err(Trap::OutputTooLarge { bytes_max: 1 }))), "fault");
    }

    /// Nobody waits for it: what it wrote is accounted for by itself where it can be, else as far as it is known.
    #[test]
    fn one_that_nobody_wants_accounts_for_what_it_wrote_once() {
        for left in [|| Left::Dropped, || Left::Stopped(Stopped::PutDown)] {
            assert_eq!(then(MET, left()), "cut short");
            assert_eq!(then(Met { wrote: true, ..MET }, left()), "from the record");
            assert_eq!(then(Met { wrote: true, stopping: true, ..MET }, left()), "cut short");
            for wish in [Wish::PutDown, Wish::Run] {
                assert_eq!(then(Met { wish, wrote: true, ..MET }, left()), "put down");
            }
        }
    }

    #[test]
    fn a_process_that_stops_parks_nothing_and_one_that_makes_room_does() {
        let stopped = |drains, stopped| then(Met { wish: Wish::PutDown, drains, ..MET }, Left::Stopped(stopped));
        assert_eq!(stopped(true, Stopped::Park(parking())), "put down");
        assert_eq!(stopped(false, Stopped::Park(parking())), "park Doubt");
        for drains in [true, false] {
            assert_eq!(stopped(drains, Stopped::Unread), "put down");
            assert_eq!(stopped(drains, Stopped::Failed(Error::Stopping)), "failed");
        }
    }
}
