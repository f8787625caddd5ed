//! The generated bindings of everything that a plugin can import.
//!
//! The world has every function; a component keeps only those that its code calls, so that its import list says what
//! it can do.

#![allow(unsafe_code, reason = "generated: strings cross the component boundary by pointer and length")]
#![allow(missing_docs, reason = "generated; the WIT files document the functions")]
#![allow(clippy::all, rust_2018_idioms, unreachable_pub, unused_qualifications, reason = "generated")]

wit_bindgen::generate!({
    inline: "
        package bellhop:sdk;
        world author {
            include bellhop:action/plugin@1.0.0;
            include bellhop:slack/all@1.0.0;
        }
    ",
    path: ["../../wit/action@1.0.0", "../../wit/slack@1.0.0"],
    world: "bellhop:sdk/author",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "bellhop_plugin::bindings",
});
