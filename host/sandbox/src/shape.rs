//! What a component is made of: core instances, memories, tables, counted in its binary before it is compiled.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Parser, Payload,
};

/// What an instance of a component, or of a module, has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Of components in it. Each is compiled by putting what it has in its place.
    pub(super) component_instances: u64,
    pub(super) core_instances: u64,
    pub(super) memories: u64,
    pub(super) tables: u64,
    /// Its memories at the start, together.
    pub(super) memory_bytes: u64,
    /// What they can grow to by their own declarations; none where one of them has no end.
    pub(super) memory_bytes_max: Option<u64>,
    /// The largest of its tables at the start.
    pub(super) table_elements: u64,
}

impl Shape {
    const EMPTY: Self = Self {
        component_instances: 0,
        core_instances: 0,
        memories: 0,
        tables: 0,
        memory_bytes: 0,
        memory_bytes_max: Some(0),
        table_elements: 0,
    };

    fn add(&mut self, other: &Self) {
        self.component_instances = self.component_instances.saturating_add(other.component_instances);
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.memory_bytes_max =
            self.memory_bytes_max.zip(other.memory_bytes_max).map(|(ours, theirs)| ours.saturating_add(theirs));
        self.table_elements = self.table_elements.max(other.table_elements);
    }

    fn memory(&mut self, memory: &wasmparser::MemoryType) {
        let bytes = |pages: u64| pages.saturating_mul(1 << memory.page_size_log2.unwrap_or(16).min(16));
        self.memories += 1;
        self.memory_bytes = self.memory_bytes.saturating_add(bytes(memory.initial));
        self.memory_bytes_max =
            self.memory_bytes_max.zip(memory.maximum).map(|(ours, pages)| ours.saturating_add(bytes(pages)));
    }
}

/// A component while it is read: its modules and components by index. Those that come from elsewhere cannot be told.
struct Level {
    modules: Vec<Option<Shape>>,
    components: Vec<Option<Shape>>,
    has: Shape,
    /// Whether something is instantiated in it that cannot be told.
    is_unclear: bool,
}

enum Frame {
    Module(Shape),
    Component(Level),
}

/// What an instance of the component in `bytes`, which is valid, has. None where it instantiates what it is given: what
/// that is, the compiler finds out. Adapters between components, which the compiler makes, are not counted.
///
/// # Errors
/// The parser's.
pub(super) fn of(bytes: &[u8]) -> Result<Option<Shape>, BinaryReaderError> {
    let mut stack = vec![Frame::Component(Level::new())];
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } => {
                stack.push(Frame::Module(Shape { core_instances: 1, ..Shape::EMPTY }));
            }
            Payload::ComponentSection { .. } => stack.push(Frame::Component(Level::new())),
            Payload::End(_) => {
                let Some(ended) = stack.pop() else { break };
                match (ended, stack.last_mut()) {
                    (Frame::Module(shape), Some(Frame::Component(outer))) => outer.modules.push(Some(shape)),
                    (Frame::Component(level), Some(Frame::Component(outer))) => outer.components.push(level.shape()),
                    (Frame::Component(level), None) => return Ok(level.shape()),
                    _ => break,
                }
            }
            payload => match stack.split_last_mut() {
                Some((Frame::Module(shape), _)) => module(shape, payload)?,
                Some((Frame::Component(level), outer)) => level.section(outer, payload)?,
                None => break,
            },
        }
    }
    Ok(None)
}

fn module(shape: &mut Shape, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
    match payload {
        Payload::MemorySection(section) => {
            for memory in section {
                shape.memory(&memory?);
            }
        }
        Payload::TableSection(section) => {
            for table in section {
                shape.tables += 1;
                shape.table_elements = shape.table_elements.max(table?.ty.initial);
            }
        }
        _ => {}
    }
    Ok(())
}

impl Level {
    fn new() -> Self {
        Self { modules: Vec::new(), components: Vec::new(), has: Shape::EMPTY, is_unclear: false }
    }

    fn shape(&self) -> Option<Shape> {
        (!self.is_unclear).then_some(self.has)
    }

    fn instantiate(&mut self, what: Option<Shape>) {
        match what {
            Some(shape) => self.has.add(&shape),
            None => self.is_unclear = true,
        }
    }

    fn section(&mut self, outer: &[Frame], payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instantiate(at(&self.modules, module_index));
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.has.component_instances = self.has.component_instances.saturating_add(1);
                        self.instantiate(at(&self.components, component_index));
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    match import?.ty {
                        ComponentTypeRef::Module(_) => self.modules.push(None),
                        ComponentTypeRef::Component(_) => self.components.push(None),
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                // An export is a new name with an index of its own.
                for export in section {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Module => self.modules.push(at(&self.modules, export.index)),
                        ComponentExternalKind::Component => self.components.push(at(&self.components, export.index)),
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(outer, &alias?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, outer: &[Frame], alias: &ComponentAlias<'_>) {
        match *alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => self.modules.push(None),
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => self.components.push(None),
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => {
                let found = match around(outer, count) {
                    Some(level) => at(&level.modules, index),
                    None => at(&self.modules, index),
                };
                self.modules.push(found);
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                let found = match around(outer, count) {
                    Some(level) => at(&level.components, index),
                    None => at(&self.components, index),
                };
                self.components.push(found);
            }
            _ => {}
        }
    }
}

fn at(shapes: &[Option<Shape>], index: u32) -> Option<Shape> {
    shapes.get(usize::try_from(index).ok()?).copied().flatten()
}

/// The component that is `count` further out; none for the one itself.
fn around(outer: &[Frame], count: u32) -> Option<&Level> {
    let place = outer.len().checked_sub(usize::try_from(count).ok().filter(|count| *count > 0)?)?;
    match outer.get(place)? {
        Frame::Component(level) => Some(level),
        Frame::Module(_) => None,
    }
}

/// What a core module imports from, for saying what made it.
pub(super) fn import_modules(bytes: &[u8]) -> Vec<String> {
    let mut modules = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(Payload::ImportSection(section)) = payload else { continue };
        modules.extend(section.into_imports().flatten().map(|import| import.module.to_owned()));
    }
    modules.sort();
    modules.dedup();
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Option<Shape> {
        of(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn author_c1_what_is_instantiated_is_counted_as_often_as_it_is() {
        let counted = shape(
            r#"(component
                (core module $one (memory 1 2) (table 3 funcref))
                (core module $unused (memory 100))
                (component $inner
                    (core module $two (memory 1 1) (memory 2 2))
                    (alias outer 1 $one (core module $again))
                    (core instance (instantiate $two))
                    (core instance (instantiate $again)))
                (core instance (instantiate $one))
                (instance (instantiate $inner))
                (instance (instantiate $inner)))"#,
        )
        .unwrap();
        assert_eq!(
            counted,
            Shape {
                component_instances: 2,
                core_instances: 5,
                memories: 7,
                tables: 3,
                memory_bytes: (1 + 2 * 4) << 16,
                memory_bytes_max: Some((2 + 2 * 5) << 16),
                table_elements: 3,
            }
        );
    }

    #[test]
    fn a_memory_without_an_end_has_none() {
        let text = "(component (core module $a (memory 1 2)) (core module $b (memory 1))
            (core instance (instantiate $a)) (core instance (instantiate $b)))";
        assert_eq!(shape(text).unwrap().memory_bytes_max, None);
        assert_eq!(shape("(component)").unwrap(), Shape::EMPTY);
    }

    #[test]
    fn what_is_given_cannot_be_told() {
        assert_eq!(shape(r#"(component (import "m" (core module $m)) (core instance (instantiate $m)))"#), None);
        assert!(shape(r#"(component (import "m" (core module $m)))"#).is_some());
    }

    /// Each level makes two of the next: a few lines of text, and as many instances as nobody has memory for.
    #[test]
    fn doubling_is_counted_without_doing_it() {
        let mut text = String::from("(component $c0 (core module $m) (core instance (instantiate $m)))");
        for level in 1..40 {
            text = format!(
                "(component $c{level} {text} (instance (instantiate $c{inner})) (instance (instantiate $c{inner})))",
                inner = level - 1
            );
        }
        let counted = shape(&text).unwrap();
        assert_eq!((counted.core_instances, counted.component_instances), (1 << 39, (1 << 40) - 2));
    }
}
