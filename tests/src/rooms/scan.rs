//! From sources to modules, the names that each has, and every path that is written in them.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Site;

/// A source that is not made of Rust's tokens.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {source}")]
pub struct Error {
    /// Which.
    pub file: String,
    /// Why.
    pub source: proc_macro2::LexError,
}

/// A module by the names from the crate's root to it.
pub(super) type Module = Vec<String>;

/// A path as it is written somewhere.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) site: Site,
    /// The module that it is written in.
    pub(super) module: Module,
    /// Begins with `::`.
    pub(super) global: bool,
    pub(super) segments: Vec<String>,
    /// It is a `use` that others than this room can see.
    pub(super) leaves_room: bool,
    /// It ends in `::*`.
    pub(super) glob: bool,
    /// It stands in a `use`.
    pub(super) import: bool,
}

impl Reference {
    pub(super) fn written(&self) -> String {
        let mut text = if self.global { "::".to_owned() } else { String::new() };
        text.push_str(&self.segments.join("::"));
        if self.glob {
            text.push_str("::*");
        }
        text
    }
}

/// What a module has.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) children: BTreeSet<String>,
    pub(super) items: BTreeSet<String>,
    /// Names that a `use` brings in. The same name may come twice: a type and a function.
    pub(super) imports: BTreeMap<String, Vec<Reference>>,
    pub(super) globs: Vec<Reference>,
    test: bool,
}

#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) modules: BTreeMap<Module, Names>,
    pub(super) references: Vec<Reference>,
    pub(super) hidden: Vec<(Site, &'static str)>,
}

const ITEM_WORDS: [&str; 9] = ["struct", "enum", "union", "fn", "trait", "type", "const", "static", "macro_rules"];

impl Crate {
    pub(super) fn scan(sources: &[(String, String)]) -> Result<Self, Error> {
        let mut krate = Self::default();
        for (file, text) in sources {
            let tokens: TokenStream = text.parse().map_err(|source| Error { file: file.clone(), source })?;
            let module = module_of(file);
            for depth in 0..module.len() {
                let names = krate.modules.entry(module[..depth].to_vec()).or_default();
                names.children.insert(module[depth].clone());
            }
            krate.modules.entry(module.clone()).or_default();
            krate.walk(tokens, &mut Here { file, module, line: None });
        }
        Ok(krate)
    }

    /// Whether a module, or one around it, is there for tests alone.
    pub(super) fn is_test(&self, module: &[String]) -> bool {
        (1..=module.len()).any(|depth| self.modules.get(&module[..depth]).is_some_and(|names| names.test))
    }

    fn walk(&mut self, tokens: TokenStream, here: &mut Here<'_>) {
        // `$crate` is `crate` for whoever reads it where it is written.
        let tokens: Vec<TokenTree> = tokens.into_iter().filter(|token| !is(token, '$')).collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.step(&tokens, at, here);
        }
    }

    /// Reads what begins at `at` and says where the next thing does.
    fn step(&mut self, tokens: &[TokenTree], at: usize, here: &mut Here<'_>) -> usize {
        match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(tokens, at, here),
            TokenTree::Punct(_) if is_colons(tokens, at) && starts_global(tokens, at) => self.path(tokens, at, here),
            TokenTree::Group(group) => {
                self.walk(group.stream(), here);
                at + 1
            }
            TokenTree::Ident(_) => match word(&tokens[at]).as_str() {
                "mod" if tokens.get(at + 1).is_some_and(is_word) => self.module(tokens, at, here),
                "use" if !tokens.get(at + 1).is_some_and(|t| is(t, '<')) => self.import(tokens, at, here),
                "extern" if tokens.get(at + 1).is_some_and(|t| word(t) == "crate") => {
                    self.extern_crate(tokens, at, here)
                }
                "include" if tokens.get(at + 1).is_some_and(|t| is(t, '!')) => {
                    // What the build wrote is data; a source of ours that comes in this way would not be read.
                    if !tokens.get(at + 2).is_some_and(|argument| argument.to_string().contains("\"OUT_DIR\"")) {
                        self.hidden.push((here.site(&tokens[at]), "`include!`"));
                    }
                    at + 2
                }
                _ => {
                    self.item(tokens, at, here);
                    self.path(tokens, at, here)
                }
            },
            _ => at + 1,
        }
    }

    fn attribute(&mut self, tokens: &[TokenTree], at: usize, here: &mut Here<'_>) -> usize {
        let inner = usize::from(tokens.get(at + 1).is_some_and(|t| is(t, '!')));
        let Some(TokenTree::Group(group)) = tokens.get(at + 1 + inner) else { return at + 1 };
        let body: Vec<TokenTree> = group.stream().into_iter().collect();
        match body.first().map(word).as_deref() {
            Some("doc") => {}
            Some("path") => self.hidden.push((here.site(&tokens[at]), "`#[path]`")),
            Some("macro_use") => self.hidden.push((here.site(&tokens[at]), "`#[macro_use]`")),
            _ => {
                self.walk(group.stream(), here);
                self.texts(group, here);
            }
        }
        at + 2 + inner
    }

    /// Attributes may name functions in texts: `#[serde(with = "crate::x")]`.
    fn texts(&mut self, group: &Group, here: &mut Here<'_>) {
        for token in group.stream() {
            match token {
                TokenTree::Group(group) => self.texts(&group, here),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let inside = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or_default();
                    if inside.contains("::")
                        && !inside.contains(char::is_whitespace)
                        && let Ok(tokens) = inside.parse()
                    {
                        let line = here.line.replace(literal.span().start().line);
                        self.walk(tokens, here);
                        here.line = line;
                    }
                }
                _ => {}
            }
        }
    }

    fn module(&mut self, tokens: &[TokenTree], at: usize, here: &mut Here<'_>) -> usize {
        let name = word(&tokens[at + 1]);
        let test = attributes_before(tokens, at).any(|group| group.to_string().replace(' ', "") == "[cfg(test)]");
        let names = self.modules.entry(here.module.clone()).or_default();
        names.children.insert(name.clone());
        here.module.push(name);
        self.modules.entry(here.module.clone()).or_default().test |= test;
        let mut next = at + 2;
        if let Some(TokenTree::Group(group)) = tokens.get(next)
            && group.delimiter() == Delimiter::Brace
        {
            self.walk(group.stream(), here);
            next += 1;
        }
        here.module.pop();
        next
    }

    fn extern_crate(&mut self, tokens: &[TokenTree], at: usize, here: &mut Here<'_>) -> usize {
        let name = tokens.get(at + 2).map(word).unwrap_or_default();
        let alias = match tokens.get(at + 3) {
            Some(token) if word(token) == "as" => tokens.get(at + 4).map(word).unwrap_or_default(),
            _ => name.clone(),
        };
        let (global, segments) = if name == "self" { (false, vec!["crate".to_owned()]) } else { (true, vec![name]) };
        let leaves_room = here.leaves_room(tokens, at);
        let reference = here.reference(&tokens[at], global, segments, leaves_room);
        self.bring_in(reference, Some(alias));
        at + 3
    }

    fn import(&mut self, tokens: &[TokenTree], at: usize, here: &mut Here<'_>) -> usize {
        let end = (at..tokens.len()).find(|i| is(&tokens[*i], ';')).unwrap_or(tokens.len());
        let leaves_room = here.leaves_room(tokens, at);
        self.tree(&tokens[at + 1..end], &[], false, leaves_room, here);
        end + 1
    }

    /// One branch of a `use`: `a::b`, `a::{…}`, `a::*`, `a as b`.
    fn tree(&mut self, tokens: &[TokenTree], prefix: &[String], global: bool, leaves_room: bool, here: &mut Here<'_>) {
        let Some(first) = tokens.first() else { return };
        let mut segments = prefix.to_vec();
        let mut global = global;
        let mut at = 0;
        while at < tokens.len() {
            if is_colons(tokens, at) {
                global |= at == 0 && prefix.is_empty();
                at += 2;
                continue;
            }
            match &tokens[at] {
                TokenTree::Group(group) => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inside.split(|token| is(token, ',')) {
                        self.tree(branch, &segments, global, leaves_room, here);
                    }
                    return;
                }
                // `$name` in the body of a macro: any name.
                token if is(token, '$') => {}
                token if is(token, '*') => {
                    let mut reference = here.reference(first, global, segments, leaves_room);
                    reference.glob = true;
                    self.bring_in(reference, None);
                    return;
                }
                token => match word(token).as_str() {
                    "as" => {
                        let alias = tokens.get(at + 1).map(word).filter(|alias| alias != "_");
                        let reference = here.reference(first, global, segments, leaves_room);
                        self.bring_in(reference, alias);
                        return;
                    }
                    "self" if !segments.is_empty() => {}
                    name => segments.push(name.to_owned()),
                },
            }
            at += 1;
        }
        let alias = segments.last().cloned();
        let reference = here.reference(first, global, segments, leaves_room);
        self.bring_in(reference, alias);
    }

    fn bring_in(&mut self, mut reference: Reference, alias: Option<String>) {
        reference.import = true;
        let names = self.modules.entry(reference.module.clone()).or_default();
        if reference.glob {
            names.globs.push(reference.clone());
        } else if let Some(alias) = alias {
            names.imports.entry(alias).or_default().push(reference.clone());
        }
        self.references.push(reference);
    }

    fn item(&mut self, tokens: &[TokenTree], at: usize, here: &Here<'_>) {
        let keyword = word(&tokens[at]);
        if !ITEM_WORDS.contains(&keyword.as_str()) {
            return;
        }
        let name = match tokens.get(at + 1) {
            Some(token) if is(token, '!') => tokens.get(at + 2).map(word),
            Some(token) => Some(word(token)),
            None => None,
        };
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.modules.entry(here.module.clone()).or_default().items.insert(name);
        }
    }

    /// A path outside of `use`, which may go on into a group inside a macro's body: `crate::{a, b}`.
    fn path(&mut self, tokens: &[TokenTree], at: usize, here: &mut Here<'_>) -> usize {
        let global = is_colons(tokens, at);
        let mut segments = Vec::new();
        let mut next = if global { at + 2 } else { at };
        let field = at > 0 && is(&tokens[at - 1], '.') && !(at > 1 && is(&tokens[at - 2], '.'));
        while let Some(token) = tokens.get(next).filter(|token| is_word(token)) {
            segments.push(word(token));
            next += 1;
            if !is_colons(tokens, next) {
                break;
            }
            match tokens.get(next + 2) {
                Some(token) if is_word(token) => next += 2,
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inside.split(|token| is(token, ',')) {
                        self.tree(branch, &segments, global, false, here);
                    }
                    return next + 3;
                }
                _ => {
                    next += 2;
                    break;
                }
            }
        }
        if segments.is_empty() {
            return at + 1;
        }
        if !field {
            let reference = here.reference(&tokens[at], global, segments, false);
            self.references.push(reference);
        }
        next.max(at + 1)
    }
}

/// Where the walk is.
struct Here<'a> {
    file: &'a str,
    module: Module,
    /// Where a text stands whose tokens are read.
    line: Option<usize>,
}

impl Here<'_> {
    fn site(&self, token: &TokenTree) -> Site {
        Site { file: self.file.to_owned(), line: self.line.unwrap_or_else(|| token.span().start().line) }
    }

    fn reference(&self, token: &TokenTree, global: bool, segments: Vec<String>, leaves_room: bool) -> Reference {
        let module = self.module.clone();
        Reference { site: self.site(token), module, global, segments, leaves_room, glob: false, import: false }
    }

    /// Whether the item that begins at `at` can be seen outside of the room: `pub`, `pub(crate)`, and `pub(super)` at
    /// the door of the room. What `main` has is seen by all the same.
    fn leaves_room(&self, tokens: &[TokenTree], at: usize) -> bool {
        let Some(before) = at.checked_sub(1).map(|i| &tokens[i]) else { return false };
        match before {
            TokenTree::Group(group) if at > 1 && word(&tokens[at - 2]) == "pub" => {
                let scope = group.stream().to_string().replace(' ', "");
                match scope.as_str() {
                    "crate" | "incrate" => true,
                    "self" => false,
                    "super" => self.module.len() < 2,
                    path => match path.strip_prefix("incrate::") {
                        Some(_) => false,
                        None => path.matches("super").count() >= self.module.len(),
                    },
                }
            }
            token => word(token) == "pub",
        }
    }
}

/// The module that a file is: `engine/call/mod.rs` is `engine::call`, `main.rs` the root.
fn module_of(file: &str) -> Module {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut module: Module = stem.split('/').map(str::to_owned).collect();
    let last = module.last().map(String::as_str);
    if last == Some("mod") || (module.len() == 1 && matches!(last, Some("main" | "lib"))) {
        module.pop();
    }
    module
}

fn attributes_before(tokens: &[TokenTree], at: usize) -> impl Iterator<Item = &Group> {
    let mut at = at;
    // Back over the visibility.
    if at > 0 && matches!(&tokens[at - 1], TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis) {
        at -= 1;
    }
    if at > 0 && word(&tokens[at - 1]) == "pub" {
        at -= 1;
    }
    std::iter::from_fn(move || {
        let TokenTree::Group(group) = tokens.get(at.checked_sub(1)?)? else { return None };
        let hash = tokens.get(at.checked_sub(2)?)?;
        if !is(hash, '#') {
            return None;
        }
        at -= 2;
        Some(group)
    })
}

fn is(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == punct)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    tokens.get(at).is_some_and(|t| is(t, ':')) && tokens.get(at + 1).is_some_and(|t| is(t, ':'))
}

/// `::` that no path stands before: `<T as X>::f` and `Vec::<T>::new` go on, `(::journal::X)` begins.
fn starts_global(tokens: &[TokenTree], at: usize) -> bool {
    at == 0 || !(is_word(&tokens[at - 1]) || is(&tokens[at - 1], '>'))
}

fn is_word(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(_))
}

/// An identifier's text, without `r#`; nothing for what is none.
fn word(token: &TokenTree) -> String {
    match token {
        TokenTree::Ident(ident) => {
            let text = ident.to_string();
            text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
        }
        _ => String::new(),
    }
}
