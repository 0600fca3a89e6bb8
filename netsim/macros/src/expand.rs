//! From a scenario to a test, and what is wrong with what is not a scenario.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ExprRange, Ident, ItemFn, Lit, RangeLimits, Result, Token};

/// The test that runs this scenario over its seeds.
pub(crate) fn test(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let scenario: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(error.span(), "`#[netsim::test]` makes a test of a function: `async fn …(sim: Sim)`")
    })?;
    check(&scenario)?;
    let Options { seeds, time_limit, again, meets, whole_log } = Options::parse(options)?;
    let ItemFn { attrs, vis, sig, block } = scenario;
    let (name, inputs, output) = (&sig.ident, &sig.inputs, &sig.output);
    let text = name.unraw().to_string();
    let fn_token = sig.fn_token;
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis #fn_token #name() {
            async #fn_token scenario(#inputs) #output #block
            ::netsim::suite::Test {
                seeds: #seeds,
                time_limit: #time_limit,
                again: #again,
                meets: &#meets,
                whole_log: #whole_log,
                place: ::netsim::suite::Place {
                    package: ::core::env!("CARGO_PKG_NAME"),
                    crate_name: ::core::env!("CARGO_CRATE_NAME"),
                    module: ::core::module_path!(),
                    name: #text,
                    file: ::core::file!(),
                    binary: ::core::option_env!("CARGO_BIN_NAME"),
                    integration: ::core::option_env!("CARGO_TARGET_TMPDIR").is_some(),
                    release: !::core::cfg!(debug_assertions),
                },
            }
            .run(scenario);
        }
    })
}

/// A scenario is `async fn name(sim: Sim)`, with nothing else to it.
fn check(scenario: &ItemFn) -> Result<()> {
    let sig = &scenario.sig;
    if sig.asyncness.is_none() {
        return Err(Error::new(sig.fn_token.span(), "a scenario is `async`: `async fn …(sim: Sim)`"));
    }
    if let Some(generic) = sig.generics.params.first() {
        return Err(Error::new(
            generic.span(),
            "a scenario has no generic parameters: nobody would say which ones are meant",
        ));
    }
    let taken = sig.inputs.len();
    if taken != 1 {
        let message = format!("a scenario takes one argument, the simulated world: `sim: Sim`; this one takes {taken}");
        return Err(Error::new(sig.paren_token.span.join(), message));
    }
    if let syn::FnArg::Receiver(receiver) = &sig.inputs[0] {
        return Err(Error::new(
            receiver.span(),
            "a scenario is not a method: it takes the simulated world, `sim: Sim`",
        ));
    }
    for attribute in &scenario.attrs {
        if attribute.path().segments.last().is_some_and(|segment| segment.ident == "test") {
            let message = "`#[netsim::test]` makes the test by itself: take this attribute away";
            return Err(Error::new(attribute.span(), message));
        }
    }
    Ok(())
}

/// What stands in the parentheses of the attribute, as expressions of their types.
#[derive(Debug)]
struct Options {
    seeds: TokenStream,
    time_limit: TokenStream,
    again: TokenStream,
    meets: TokenStream,
    whole_log: TokenStream,
}

impl Options {
    fn parse(tokens: TokenStream) -> Result<Self> {
        let mut parsed = Self {
            seeds: quote!(0..10),
            time_limit: quote!(::core::option::Option::None),
            again: quote!(true),
            meets: quote!([]),
            whole_log: quote!(false),
        };
        let mut seen = Vec::<Ident>::new();
        for Setting { name, value } in Punctuated::<Setting, Token![,]>::parse_terminated.parse2(tokens)? {
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is said twice")));
            }
            match name.to_string().as_str() {
                "seeds" => parsed.seeds = seeds(&value)?,
                "time_limit" => parsed.time_limit = quote!(::core::option::Option::Some(#value)),
                "again" => parsed.again = quote!(#value),
                "meets" if !matches!(value, Expr::Array(_)) => {
                    return Err(Error::new(
                        value.span(),
                        "what is to be met is a list: `meets = [\"a link was lost\"]`",
                    ));
                }
                "meets" => parsed.meets = quote!(#value),
                "whole_log" => parsed.whole_log = quote!(#value),
                other => {
                    let message = format!(
                        "there is no option `{other}`; there are `seeds`, `time_limit`, `meets`, `again` and `whole_log`"
                    );
                    return Err(Error::new(name.span(), message));
                }
            }
            seen.push(name);
        }
        Ok(parsed)
    }
}

/// A count, or a range with both its ends.
fn seeds(value: &Expr) -> Result<TokenStream> {
    let wrong = |message: &str| Err(Error::new(value.span(), message));
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(count), .. }) => match count.base10_parse::<u64>()? {
            0 => wrong("a test has at least one seed"),
            _ => Ok(quote!(0..#count)),
        },
        Expr::Lit(_) => wrong(SEEDS),
        Expr::Range(ExprRange { start: Some(start), end: Some(end), limits: RangeLimits::HalfOpen(_), .. }) => {
            if let (Some(from), Some(to)) = (number(start), number(end))
                && from >= to
            {
                return wrong("there is no seed in this range");
            }
            Ok(quote!(#value))
        }
        Expr::Range(_) => wrong(SEEDS),
        // A constant: a count.
        count => Ok(quote!(0..#count)),
    }
}

fn number(value: &Expr) -> Option<u64> {
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = value else { return None };
    number.base10_parse().ok()
}

const SEEDS: &str = "the seeds are a count, `seeds = 100`, or a range with both its ends, `seeds = 5..20`";

/// `name = value`
struct Setting {
    name: Ident,
    value: Expr,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.call(Ident::parse_any)?;
        if !input.peek(Token![=]) {
            return Err(Error::new(name.span(), format!("an option has a value: `{name} = …`")));
        }
        input.parse::<Token![=]>()?;
        Ok(Self { name, value: input.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(options: TokenStream, item: TokenStream) -> String {
        test(options, item).expect_err("it is wrong").to_string()
    }

    fn wrong_option(options: TokenStream) -> String {
        error(
            options,
            quote!(
                async fn a(sim: Sim) {}
            ),
        )
    }

    #[test]
    fn a_scenario_becomes_a_test() {
        let made = test(
            quote!(seeds = 100),
            quote!(
                #[ignore]
                async fn a(sim: Sim) -> Result<()> {
                    Ok(())
                }
            ),
        )
        .unwrap();
        let made: ItemFn = syn::parse2(made).unwrap();
        assert!(made.sig.asyncness.is_none() && made.sig.inputs.is_empty());
        assert_eq!(made.attrs.len(), 2, "#[ignore] and #[test]");
        let text = quote!(#made).to_string();
        for part in ["seeds : 0 .. 100", "async fn scenario (sim : Sim) -> Result < () >", "name : \"a\""] {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
    }

    #[test]
    fn options_are_read() {
        let options =
            Options::parse(quote!(seeds = 5..20, time_limit = 60.s(), again = false, whole_log = true,)).unwrap();
        assert_eq!(options.seeds.to_string(), "5 .. 20");
        assert!(options.time_limit.to_string().ends_with("Some (60 . s ())"));
        assert_eq!(options.again.to_string(), "false");
        assert_eq!(options.whole_log.to_string(), "true");
        assert_eq!(Options::parse(quote!(seeds = SEEDS)).unwrap().seeds.to_string(), "0 .. SEEDS");
    }

    #[test]
    fn wrong_options_are_told_with_the_right_ones() {
        let unknown = "there is no option `seed`; there are `seeds`, `time_limit`, `meets`, `again` and `whole_log`";
        assert_eq!(wrong_option(quote!(seed = 1)), unknown);
        assert_eq!(wrong_option(quote!(seeds = "many")), SEEDS);
        assert_eq!(wrong_option(quote!(seeds = 5..)), SEEDS);
        assert_eq!(wrong_option(quote!(seeds = 5..=9)), SEEDS);
        assert_eq!(wrong_option(quote!(seeds = 0)), "a test has at least one seed");
        assert_eq!(wrong_option(quote!(seeds = 9..5)), "there is no seed in this range");
        assert!(wrong_option(quote!(meets = "a trap")).starts_with("what is to be met is a list"));
        assert_eq!(wrong_option(quote!(seeds)), "an option has a value: `seeds = …`");
        assert_eq!(wrong_option(quote!(seeds = 1, seeds = 2)), "`seeds` is said twice");
    }

    #[test]
    fn what_is_no_scenario_is_told() {
        let wrong = |item| error(quote!(), item);
        assert_eq!(
            wrong(quote!(
                fn a(sim: Sim) {}
            )),
            "a scenario is `async`: `async fn …(sim: Sim)`"
        );
        let takes = |n| format!("a scenario takes one argument, the simulated world: `sim: Sim`; this one takes {n}");
        assert_eq!(
            wrong(quote!(
                async fn a() {}
            )),
            takes(0)
        );
        assert_eq!(
            wrong(quote!(
                async fn a(sim: Sim, seed: u64) {}
            )),
            takes(2)
        );
        assert!(
            wrong(quote!(
                async fn a<T>(sim: T) {}
            ))
            .starts_with("a scenario has no generic parameters")
        );
        assert!(
            wrong(quote!(
                #[test]
                async fn a(sim: Sim) {}
            ))
            .contains("take this attribute away")
        );
        assert!(
            wrong(quote!(
                struct A;
            ))
            .contains("makes a test of a function")
        );
    }
}
