//! The simulator from outside, over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that panics has failed, and JSON literals read better handed over whole"
)]

mod cases;
mod driver;
mod faults;
mod journal;
mod kept;
mod page;
mod paging;
mod shapes;
