//! How many bytes there are of which kind of record.

use super::journal::{Error, Journal};
use super::key::{self, Space};
use super::store::SCAN_ITEMS_MAX;

/// Bytes of the keys and values of one kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What they are, for people.
    pub kind: &'static str,
    /// How many bytes they have, as they were written.
    pub bytes: u64,
}

/// The kinds that people tell apart.
const KINDS: [(&str, &[Space]); 7] = [
    ("logs of runs", &[Space::Event]),
    ("states of runs", &[Space::Snapshot]),
    ("lists of runs", &[Space::Open, Space::Summary, Space::Listing]),
    ("public events", &[Space::Public]),
    ("large values and plugins", &[Space::Blob, Space::Reference, Space::Naming]),
    (
        "timers, messages and keys",
        &[
            Space::Timer,
            Space::Notice,
            Space::Mail,
            Space::Member,
            Space::Lock,
            Space::Idempotency,
            Space::Expiry,
            Space::Limiter,
        ],
    ),
    (
        "what is set up",
        &[
            Space::Workflow,
            Space::WorkflowCurrent,
            Space::Bindings,
            Space::Table,
            Space::TableCurrent,
            Space::Connection,
            Space::Plugin,
            Space::Grant,
            Space::Token,
            Space::Host,
        ],
    ),
];

impl Journal {
    /// The bytes of each kind of record. Reads everything: for a store that is small.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sizes(&self) -> Result<Vec<Size>, Error> {
        let mut sizes = Vec::new();
        for (kind, spaces) in KINDS {
            let mut bytes = 0;
            for space in spaces {
                let range = key::all(*space);
                let mut from = Some(range.from);
                while let Some(begin) = from {
                    let page = self.store.scan(&begin, &range.to, SCAN_ITEMS_MAX).await?;
                    bytes += page.items.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
                    from = page.next.map(|next| next.to_vec());
                    // Whoever else has this thread comes between two pages.
                    tokio::task::yield_now().await;
                }
            }
            sizes.push(Size { kind, bytes });
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_record_is_of_one_kind_for_people() {
        let named: Vec<u8> = KINDS.iter().flat_map(|(_, spaces)| spaces.iter().map(|space| *space as u8)).collect();
        let all: BTreeSet<u8> = Space::ALL.iter().map(|space| *space as u8).collect();
        assert_eq!(named.len(), all.len());
        assert_eq!(named.into_iter().collect::<BTreeSet<u8>>(), all);
    }
}
