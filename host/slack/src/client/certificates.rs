//! Whose certificates an HTTP client believes: those of the system and of the operator, and Mozilla's list where the
//! system has none.

use reqwest::{Certificate, Client, ClientBuilder};

/// Certificates of the operator's.
#[derive(Debug, Clone, Default)]
pub struct Own(Vec<Certificate>);

/// Builds the client that `make` begins. Nothing of certificates is looked for where `is_encrypted` is false, since a
/// machine without any must not keep a client from a host beside it.
///
/// # Errors
/// The HTTP library refuses what `make` or `own` says.
pub fn build(make: impl Fn() -> ClientBuilder, is_encrypted: bool, own: &Own) -> reqwest::Result<Client> {
    if !is_encrypted {
        return make().tls_certs_only([]).build();
    }
    make().tls_certs_merge(own.0.iter().cloned()).build().or_else(|error| {
        tracing::warn!(
            %error,
            "this system has no certificates that can be used: those of Mozilla that the program has count; Debian's package is `ca-certificates`"
        );
        let built_in = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let built_in = built_in.map(|certificate| Certificate::from_der(certificate)).collect::<Result<Vec<_>, _>>()?;
        make().tls_certs_only(built_in.into_iter().chain(own.0.iter().cloned())).build()
    })
}

/// The certificates of a file in PEM form.
///
/// # Errors
/// There is none in it, or one that is damaged: a text for people.
pub fn read(pem: &[u8]) -> Result<Own, String> {
    let read = Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
    if read.is_empty() { Err("it has no certificate in PEM form".to_owned()) } else { Ok(Own(read)) }
}
