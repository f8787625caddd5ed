//! The simulator from outside, over HTTP.

mod cases;
mod driver;
mod faults;
mod journal;
mod paging;
mod shapes;
