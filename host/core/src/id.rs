//! Typed, time-ordered identifiers, `prefix_ULID` on the outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an identifier of the form `{prefix}_…` with 26 characters of Crockford's base 32")]
pub struct Error {
    /// What was given.
    pub text: String,
    /// The prefix that this type of identifier has.
    pub prefix: &'static str,
}

/// How many partitions there are.
pub const PARTITIONS: u16 = 1 << PARTITION_BITS;
const PARTITION_BITS: u32 = 10;
/// Random bits behind those of the partition.
const REST_BITS: u32 = 80 - PARTITION_BITS;

/// A part of all runs that has one owner at a time: what is of one organisation is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition(u16);

impl Partition {
    /// The partition of an organisation's id, or of whatever else has no organisation. It never changes, on no machine.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let [first, second, ..] = *crate::digest::Digest::of(name).as_bytes();
        Self(u16::from_be_bytes([first, second]) % PARTITIONS)
    }

    /// The partition of this number; none where there are not so many.
    #[must_use]
    pub fn numbered(number: u16) -> Option<Self> {
        (number < PARTITIONS).then_some(Self(number))
    }

    /// Its number, below [`PARTITIONS`].
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl RunId {
    /// A run of this partition.
    #[must_use]
    pub fn of(at: crate::time::Timestamp, partition: Partition, entropy: u128) -> Self {
        let rest = entropy & ((1 << REST_BITS) - 1);
        Self::new(at, u128::from(partition.0) << REST_BITS | rest)
    }

    /// The partition that it is of, for ever.
    #[must_use]
    pub fn partition(self) -> Partition {
        // Ten bits always fit.
        Partition(((self.0.0 >> REST_BITS) as u16) % PARTITIONS)
    }

    /// A run of this partition that is later than `self`, whatever the clock says, and close to it.
    #[must_use]
    pub fn later(self, partition: Partition, entropy: u64) -> Self {
        let next = self.next(entropy);
        if next.partition() == partition {
            return next;
        }
        let at = crate::time::Timestamp::from_millis(self.0.timestamp_ms());
        let here = Self::of(at, partition, u128::from(entropy));
        if here > self { here } else { Self::of(at.plus_millis(1), partition, u128::from(entropy)) }
    }
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(ulid::Ulid);

        impl $name {
            /// The text before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an identifier from a time in milliseconds and 80 random bits.
            #[must_use]
            pub fn new(at: crate::time::Timestamp, entropy: u128) -> Self {
                Self(ulid::Ulid::from_parts(at.as_millis(), entropy))
            }

            /// One that is later than this, whatever the clock says, and close to it.
            #[must_use]
            pub fn next(self, entropy: u64) -> Self {
                Self(ulid::Ulid(self.0.0.saturating_add(1 + u128::from(entropy))))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let wrong = || Error { text: text.chars().take(64).collect(), prefix: $prefix };
                let body = text.strip_prefix(concat!($prefix, "_")).ok_or_else(wrong)?;
                let id = ulid::Ulid::from_string(body).map_err(|_| wrong())?;
                // Only the canonical spelling is an identifier: two texts for one run would be two keys.
                if id.to_string() == body { Ok(Self(id)) } else { Err(wrong()) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

typed_id!(
    /// One execution of one workflow. Its first 48 bits are the time of its acceptance, the next ten its [`Partition`],
    /// the others are random.
    RunId, "run"
);
typed_id!(
    /// One bearer token of the HTTP interface (its id, never its secret).
    TokenId, "tok"
);
typed_id!(
    /// One HTTP request, named in every problem and log line about it.
    RequestId, "req"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn a_run_keeps_its_partition_and_its_time() {
        for number in [0, 1, 511, 1_023] {
            let partition = Partition::numbered(number).unwrap();
            for entropy in [0, 1, u128::MAX] {
                let run = RunId::of(Timestamp::from_millis(7), partition, entropy);
                assert_eq!(run.partition(), partition);
                assert!(run < RunId::of(Timestamp::from_millis(8), Partition::default(), 0));
                assert_eq!(run.to_string().parse::<RunId>().unwrap().partition(), partition);
            }
        }
        assert_eq!(Partition::numbered(PARTITIONS), None);
    }

    #[test]
    fn a_later_run_is_later_whatever_its_partition() {
        let numbered = |number| Partition::numbered(number).unwrap();
        for (before, after) in [(5, 5), (5, 6), (6, 5), (1_023, 0), (0, 1_023)] {
            for entropy in [0, u64::MAX] {
                let run = RunId::of(Timestamp::from_millis(7), numbered(before), u128::MAX);
                let later = run.later(numbered(after), entropy);
                assert!(later > run && later.partition() == numbered(after), "{before} {after} {entropy}");
                assert!(later < RunId::of(Timestamp::from_millis(9), Partition::default(), 0));
            }
        }
    }

    #[test]
    fn an_organisation_has_one_partition_on_every_machine() {
        // Made by another program from SHA-256: no build may choose others.
        assert_eq!([&b"E012ACME"[..], b"T0PLUS"].map(|name| Partition::of(name).number()), [397, 605]);
        let some: std::collections::BTreeSet<u16> =
            (0..200).map(|n| Partition::of(format!("T{n}").as_bytes()).number()).collect();
        assert!(some.len() > 150, "{} of 200", some.len());
    }
}
