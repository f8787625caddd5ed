//! Sources as trees of tokens: what stands in comments and in texts is not code.

use proc_macro2::{TokenStream, TokenTree};

/// A sequence of tokens side by side, and those inside each group of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Side by side.
    pub tokens: Vec<TokenTree>,
    /// Whether they are there for tests alone.
    pub test: bool,
}

/// Every row of a source, the outermost first.
///
/// # Errors
/// When the text is not made of Rust's tokens.
pub fn rows(text: &str, test: bool) -> Result<Vec<Row>, proc_macro2::LexError> {
    let mut found = Vec::new();
    collect(text.parse()?, test, &mut found);
    Ok(found)
}

fn collect(stream: TokenStream, test: bool, found: &mut Vec<Row>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    found.push(Row { tokens: tokens.clone(), test });
    // `#[cfg(test)]` holds up to the end of the item that it stands before.
    let mut for_tests = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let attribute = at > 0 && punct(&tokens[at - 1], '#');
                let text = group.to_string().replace(' ', "");
                for_tests |=
                    attribute && (text == "[cfg(test)]" || text == "[test]" || text.starts_with("[tokio::test"));
                collect(group.stream(), test || for_tests, found);
                if !attribute && group.delimiter() == proc_macro2::Delimiter::Brace {
                    for_tests = false;
                }
            }
            token if punct(token, ';') => for_tests = false,
            _ => {}
        }
    }
}

/// Whether a token is this sign.
#[must_use]
pub fn punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == sign)
}

/// An identifier's text, or nothing.
#[must_use]
pub fn word(token: &TokenTree) -> String {
    match token {
        TokenTree::Ident(ident) => ident.to_string(),
        _ => String::new(),
    }
}

/// The text of a plain string literal.
#[must_use]
pub fn text(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else { return None };
    let written = literal.to_string();
    Some(written.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}
