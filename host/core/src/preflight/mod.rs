//! One pure function that says, before anything happens, whether a workflow can run on these connections.
