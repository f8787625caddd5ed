//! The built component: its imports are what the actions declare, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use wit_component::DecodedWasm;

use bellhop_plugin_slack::PLUGIN;

/// What `make plugins` leaves.
fn component() -> Option<Vec<u8>> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins/slack.wasm")).ok()
}

#[test]
fn imports_are_the_declared_functions() {
    let Some(component) = component() else {
        println!("skipped: build it with `make plugins`");
        return;
    };
    println!("{} bytes", component.len());
    let DecodedWasm::Component(resolve, world) = wit_component::decode(&component).unwrap() else {
        panic!("not a component")
    };
    let mut imported = BTreeSet::new();
    for (key, _) in &resolve.worlds[world].imports {
        let interface = resolve.name_world_key(key);
        let wit_parser::WorldItem::Interface { id, .. } = resolve.worlds[world].imports[key] else {
            panic!("imports `{interface}`, which is no interface")
        };
        let name = interface.strip_prefix("bellhop:slack/").and_then(|rest| rest.strip_suffix("@1.0.0"));
        let name = name.unwrap_or_else(|| panic!("imports `{interface}`"));
        imported.extend(resolve.interfaces[id].functions.keys().map(|function| format!("{name}.{function}")));
    }
    let declared: BTreeSet<String> = PLUGIN
        .actions
        .iter()
        .flat_map(|entry| entry.spec().calls)
        .flat_map(|alternative| alternative.always.iter().chain(alternative.maybe))
        .map(|function| (*function).to_owned())
        .collect();
    assert_eq!(imported, declared);
}
