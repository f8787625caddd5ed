//! The built component has no import at all.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, DecodedWasm};

#[test]
fn no_imports() {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let Ok(module) = std::fs::read(target.join("wasm32-unknown-unknown/plugin/bellhop_expression.wasm")) else {
        println!(
            "skipped: build it with `cargo build -p bellhop-expression --profile plugin --target wasm32-unknown-unknown`"
        );
        return;
    };
    let component = ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap();
    println!("{} bytes as a module, {} as a component", module.len(), component.len());
    let DecodedWasm::Component(resolve, world) = wit_component::decode(&component).unwrap() else {
        panic!("not a component")
    };
    let world = &resolve.worlds[world];
    let name = |key: &wit_parser::WorldKey| resolve.name_world_key(key);
    assert_eq!(world.imports.keys().map(name).collect::<Vec<_>>(), Vec::<String>::new());
    let mut exports: Vec<String> = world.exports.keys().map(name).collect();
    exports.sort();
    assert_eq!(exports, ["evaluate", "inspect"]);
}
