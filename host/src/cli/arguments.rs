//! The verbs and their flags.

use clap::{Parser, Subcommand};

use super::flags::Global;
use super::{
    action, backup, bench, check, clock, connections, demo, doctor, explain, packaging, plugin, restore, run, runs,
    serve, simulator, tables, tokens, verify, workflows,
};

/// Durable workflows that carry people in and out of Slack.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 diagnostics, 4 not found or conflict, 5 server unreachable, 70 storage failure,
/// 71 a part of the host ended. `bellhop --version --verbose` says which build this is, and which forms it reads and writes.
#[derive(Debug, Parser)]
#[command(name = "bellhop", version, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run a host
    Serve(serve::Serve),
    /// Run a host and a simulated Slack in one, to try things
    Dev(serve::Dev),
    /// Say what is wrong with definitions, and whether the connections allow them; needs no server
    Check(check::Check),
    /// Start a run
    Run(run::Run),
    /// Look at runs, stop them, let them go on
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Register definitions and bind their connections
    #[command(subcommand)]
    Workflows(workflows::Workflows),
    /// Run a single action
    #[command(subcommand)]
    Action(action::Action),
    /// Put and show the tables that expressions read
    #[command(subcommand)]
    Tables(tables::Tables),
    /// Make a connection
    #[command(subcommand)]
    Connect(connections::Connect),
    /// Look at connections, test them, remove them
    #[command(subcommand)]
    Connections(connections::Connections),
    /// Build plugins, see what they can do, install them
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Make and end the tokens of the HTTP interface
    #[command(subcommand)]
    Token(tokens::Token),
    /// Show whether the clock of the host's machine is believed, and say that it is right
    Clock(clock::Clock),
    /// Say what a code means and how to mend it
    Explain(explain::Explain),
    /// Look at what surrounds a host, and say what is wrong and what helps
    Doctor(doctor::Doctor),
    /// Take a backup of what a host keeps
    Backup(backup::Backup),
    /// Make a host's folder of a backup; and have a restored host go on
    Restore(restore::Restore),
    /// Compare what a stopped host keeps with itself, or look whether a backup is whole
    Verify(verify::Verify),
    /// Print the settings in force and every limit with its reason
    Config,
    /// Run a Slack to test against
    SlackSimulator(simulator::Simulator),
    /// Show the whole of it once, against a simulated Slack, with two kills
    Demo(demo::Options),
    /// Measure it, from a bare call into WebAssembly to a durable run
    #[command(hide = true)]
    Bench(bench::Options),
    /// Write what a package has besides the program: completions and pages of the manual
    #[command(subcommand, hide = true)]
    Packaging(packaging::Packaging),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_verbs_do_not_contradict_themselves() {
        super::Arguments::command().debug_assert();
    }
}
