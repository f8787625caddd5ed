//! The attributes of `bellhop-plugin`: see there for how they are used.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::quote;

mod action;
mod shape;

/// Makes a function an action.
///
/// ```text
/// #[action(
///     name = "usergroup.add-user",              // required, `noun.verb`
///     title = "Add a person to a user group",   // required
///     effect = "update",                        // required: read, create, update, delete or notify
///     purposes("onboarding", "access-request"), // none: any
///     inverse = "usergroup.remove-user",
///     licence = "adds",                         // or reclaims, a paid seat; none: neither
///     exclusive("usergroup", "/usergroup"),     // a name, and JSON pointers into the input; may be repeated
///     error("usergroup-empty", 409, "…"),       // a code, a status and what it means; may be repeated
///     calls(on("workspace"), always("usergroups-users.list"), maybe("usergroups-users.update")), // required, may be
///                                           // repeated; `calls()` for an action that calls nothing
/// )]
/// fn add_user(context: &Context, input: AddUser) -> Result<Done<Added>, Failure> { … }
/// ```
///
/// The function's doc comment is the description. It may take its input by reference as well. The input's and the output's JSON Schemas come from their types.
#[proc_macro_attribute]
pub fn action(args: TokenStream, item: TokenStream) -> TokenStream {
    action::expand(args.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type part of an action's input: it is read from JSON with `camelCase` names, and a name that it does not have
/// is an error.
#[proc_macro_attribute]
pub fn input(args: TokenStream, item: TokenStream) -> TokenStream {
    let derives = quote!(::bellhop_plugin::export::serde::Deserialize);
    shape::expand(args.into(), item.into(), &derives, true).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type part of an action's output: it is written as JSON with `camelCase` names.
#[proc_macro_attribute]
pub fn output(args: TokenStream, item: TokenStream) -> TokenStream {
    let derives = quote!(::bellhop_plugin::export::serde::Serialize);
    shape::expand(args.into(), item.into(), &derives, false).unwrap_or_else(syn::Error::into_compile_error).into()
}
