//! Every action of the Slack plugin through the engine, on every kind of connection that it has an alternative for.
