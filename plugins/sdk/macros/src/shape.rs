//! The attributes on input and output types.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Item};

pub(crate) fn expand(
    args: TokenStream,
    item: TokenStream,
    derives: &TokenStream,
    strict: bool,
) -> Result<TokenStream, Error> {
    if !args.is_empty() {
        return Err(Error::new_spanned(args, "this attribute takes no arguments"));
    }
    let item: Item = syn::parse2(item)?;
    let (names, strict) = match &item {
        // The variants of an enum are words, the fields of a struct are names.
        Item::Enum(_) => (quote!("kebab-case"), quote!()),
        Item::Struct(_) if strict => (quote!("camelCase"), quote!(deny_unknown_fields,)),
        Item::Struct(_) => (quote!("camelCase"), quote!()),
        other => return Err(Error::new_spanned(other, "this attribute is for structs and enums")),
    };
    Ok(quote! {
        #[derive(Debug, Clone, PartialEq, #derives, ::bellhop_plugin::export::schemars::JsonSchema)]
        #[serde(crate = "::bellhop_plugin::export::serde", rename_all = #names, #strict)]
        #[schemars(crate = "::bellhop_plugin::export::schemars")]
        #item
    })
}
