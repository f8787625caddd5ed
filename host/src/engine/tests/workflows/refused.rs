//! What is wrong is refused with its code, its place and its remedy, and Slack never hears of it.
