//! The attribute on an action's function.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ItemFn, Lit, LitInt, LitStr, Meta, ReturnType, Token, Type, parenthesized,
};

const EFFECTS: [(&str, &str); 5] =
    [("read", "Read"), ("create", "Create"), ("update", "Update"), ("delete", "Delete"), ("notify", "Notify")];
const KINDS: [(&str, &str); 3] =
    [("workspace", "Workspace"), ("grid-workspace", "GridWorkspace"), ("grid-org", "GridOrg")];
const LICENCES: [(&str, &str); 2] = [("adds", "Adds"), ("reclaims", "Reclaims")];
const PURPOSES: [&str; 6] = ["onboarding", "offboarding", "access-request", "access-review", "licence", "other"];

#[derive(Default)]
struct Args {
    name: Option<LitStr>,
    title: Option<LitStr>,
    effect: Option<LitStr>,
    inverse: Option<LitStr>,
    licence: Option<LitStr>,
    purposes: Vec<LitStr>,
    exclusive: Vec<Vec<LitStr>>,
    errors: Vec<(LitStr, LitInt, LitStr)>,
    calls: Vec<Calls>,
    /// Whether it is said what the action calls, be it nothing.
    says_calls: bool,
}

#[derive(Default)]
struct Calls {
    on: Vec<LitStr>,
    always: Vec<LitStr>,
    maybe: Vec<LitStr>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self, Error> {
        let mut args = Self::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            match key.to_string().as_str() {
                "name" => once(&mut args.name, &key, value(input)?)?,
                "title" => once(&mut args.title, &key, value(input)?)?,
                "effect" => once(&mut args.effect, &key, value(input)?)?,
                "inverse" => once(&mut args.inverse, &key, value(input)?)?,
                "licence" => once(&mut args.licence, &key, value(input)?)?,
                "purposes" => args.purposes.extend(texts(input)?),
                "exclusive" => args.exclusive.push(texts(input)?),
                "error" => args.errors.push(error(input)?),
                "calls" => {
                    args.says_calls = true;
                    args.calls.extend(calls(input)?);
                }
                other => {
                    let known = "name, title, effect, inverse, licence, purposes, exclusive, error, calls";
                    return Err(Error::new(key.span(), format!("`{other}` is none of {known}")));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

fn once(slot: &mut Option<LitStr>, key: &Ident, value: LitStr) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(key.span(), "given twice")),
    }
}

fn value(input: ParseStream<'_>) -> Result<LitStr, Error> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn texts(input: ParseStream<'_>) -> Result<Vec<LitStr>, Error> {
    let inside;
    parenthesized!(inside in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&inside)?.into_iter().collect())
}

fn error(input: ParseStream<'_>) -> Result<(LitStr, LitInt, LitStr), Error> {
    let inside;
    parenthesized!(inside in input);
    let code = inside.parse()?;
    inside.parse::<Token![,]>()?;
    let status: LitInt = inside.parse()?;
    inside.parse::<Token![,]>()?;
    let description = inside.parse()?;
    let _: Option<Token![,]> = inside.parse()?;
    match status.base10_parse::<u16>()? {
        400..=599 => Ok((code, status, description)),
        _ => Err(Error::new(status.span(), "a status is between 400 and 599")),
    }
}

/// One alternative; none where the parentheses are empty, which says that the action calls nothing.
fn calls(input: ParseStream<'_>) -> Result<Option<Calls>, Error> {
    let inside;
    parenthesized!(inside in input);
    if inside.is_empty() {
        return Ok(None);
    }
    let mut calls = Calls::default();
    while !inside.is_empty() {
        let key: Ident = inside.parse()?;
        let list = match key.to_string().as_str() {
            "on" => &mut calls.on,
            "always" => &mut calls.always,
            "maybe" => &mut calls.maybe,
            other => return Err(Error::new(key.span(), format!("`{other}` is none of on, always, maybe"))),
        };
        list.extend(texts(&inside)?);
        if !inside.is_empty() {
            inside.parse::<Token![,]>()?;
        }
    }
    if calls.on.is_empty() {
        return Err(inside.error("`calls` needs `on(…)` with the kinds of connection"));
    }
    Ok(Some(calls))
}

/// The variant of one of ours for a word.
fn variant(words: &[(&str, &str)], word: &LitStr) -> Result<Ident, Error> {
    let text = word.value();
    match words.iter().find(|(w, _)| *w == text) {
        Some((_, variant)) => Ok(Ident::new(variant, word.span())),
        None => {
            let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
            Err(Error::new(word.span(), format!("`{text}` is none of {}", known.join(", "))))
        }
    }
}

pub(crate) fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let args = Args::parse.parse2(args)?;
    let function: ItemFn = syn::parse2(item)?;
    let input = match function.sig.inputs.iter().collect::<Vec<_>>()[..] {
        [FnArg::Typed(_), FnArg::Typed(input)] => &*input.ty,
        _ => return Err(Error::new_spanned(&function.sig, "an action takes `&Context` and its input")),
    };
    // An action that only looks at its input may borrow it.
    let (input, given) = match input {
        Type::Reference(borrowed) => (&*borrowed.elem, quote!(&input)),
        owned => (owned, quote!(input)),
    };
    let ReturnType::Type(_, output) = &function.sig.output else {
        return Err(Error::new_spanned(&function.sig, "an action answers `Result<Done<…>, Failure>`"));
    };
    let description = description(&function.attrs);
    if description.is_empty() {
        return Err(Error::new_spanned(&function.sig, "an action has a doc comment: it is its description"));
    }
    let spec = spec(&args, &function.sig.ident, &description)?;
    let (name, visibility) = (&function.sig.ident, &function.vis);
    Ok(quote! {
        #function

        #[doc = #description]
        #[allow(non_camel_case_types, reason = "the action is named by its function's path")]
        #visibility struct #name {}

        impl ::bellhop_plugin::Action for #name {
            type Input = #input;
            type Output = <#output as ::bellhop_plugin::Answer>::Output;
            const SPEC: ::bellhop_plugin::Spec = #spec;

            fn run(
                context: &::bellhop_plugin::Context,
                input: Self::Input,
            ) -> ::core::result::Result<::bellhop_plugin::Done<Self::Output>, ::bellhop_plugin::Failure> {
                #name(context, #given)
            }
        }
    })
}

fn spec(args: &Args, function: &Ident, description: &str) -> Result<TokenStream, Error> {
    let needed = |value: &Option<LitStr>, key: &str| {
        value.clone().ok_or_else(|| Error::new(function.span(), format!("the attribute `action` needs `{key}`")))
    };
    let (name, title) = (needed(&args.name, "name")?, needed(&args.title, "title")?);
    if !args.says_calls {
        let message = "the attribute `action` needs `calls(on(…), always(…), maybe(…))`; an action that calls nothing \
                       says `calls()` and runs on every kind of connection";
        return Err(Error::new(function.span(), message));
    }
    let effect = variant(&EFFECTS, &needed(&args.effect, "effect")?)?;
    if let Some(unknown) = args.purposes.iter().find(|p| !PURPOSES.contains(&p.value().as_str())) {
        let message = format!("`{}` is none of {}", unknown.value(), PURPOSES.join(", "));
        return Err(Error::new(unknown.span(), message));
    }
    let purposes = &args.purposes;
    let inverse = match &args.inverse {
        Some(inverse) => quote!(::core::option::Option::Some(#inverse)),
        None => quote!(::core::option::Option::None),
    };
    let licence = match &args.licence {
        Some(word) => {
            let licence = variant(&LICENCES, word)?;
            quote!(::core::option::Option::Some(::bellhop_plugin::Licence::#licence))
        }
        None => quote!(::core::option::Option::None),
    };
    let exclusive = args
        .exclusive
        .iter()
        .map(|texts| match &texts[..] {
            [name, fields @ ..] => Ok(quote!(::bellhop_plugin::Exclusive { name: #name, fields: &[#(#fields),*] })),
            [] => Err(Error::new(function.span(), "`exclusive` needs a name")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let errors = args.errors.iter().map(|(code, status, description)| {
        quote!(::bellhop_plugin::ErrorCode { code: #code, status: #status, description: #description })
    });
    let calls = args
        .calls
        .iter()
        .map(|Calls { on, always, maybe }| {
            let on = on.iter().map(|kind| variant(&KINDS, kind)).collect::<Result<Vec<_>, _>>()?;
            Ok(quote! {
                ::bellhop_plugin::Alternative {
                    on: &[#(::bellhop_plugin::Kind::#on),*],
                    always: &[#(#always),*],
                    maybe: &[#(#maybe),*],
                }
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(quote! {
        ::bellhop_plugin::Spec {
            name: #name,
            title: #title,
            description: #description,
            effect: ::bellhop_plugin::Effect::#effect,
            purposes: &[#(#purposes),*],
            inverse: #inverse,
            licence: #licence,
            exclusive: &[#(#exclusive),*],
            errors: &[#(#errors),*],
            calls: &[#(#calls),*],
        }
    })
}

/// The doc comment, its lines joined to paragraphs.
fn description(attrs: &[Attribute]) -> String {
    let mut paragraphs = vec![String::new()];
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        let Meta::NameValue(meta) = &attr.meta else { continue };
        let Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) = &meta.value else { continue };
        let text = text.value();
        match (text.trim(), paragraphs.last_mut()) {
            ("", _) => paragraphs.push(String::new()),
            (line, Some(last)) if last.is_empty() => last.push_str(line),
            (line, Some(last)) => {
                last.push(' ');
                last.push_str(line);
            }
            (_, None) => {}
        }
    }
    paragraphs.retain(|p| !p.is_empty());
    paragraphs.join("\n\n")
}
