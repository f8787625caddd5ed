//! The run's state machine: `decide`, `apply`, `pending`.
