//! Whose certificates an HTTP client believes: those of the system and of the operator, and Mozilla's list where the
//! system has none.

use reqwest::{Certificate, Client, ClientBuilder};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

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
    let mut read = Vec::new();
    for (number, found) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let damaged = |why: &dyn std::fmt::Display| format!("its certificate {} cannot be read: {why}", number + 1);
        let found = found.map_err(|error| damaged(&error))?;
        // The client reads them when it first asks somebody, and then cannot say which of them it is.
        RootCertStore::empty().add(found.clone()).map_err(|error| damaged(&error))?;
        read.push(Certificate::from_der(&found).map_err(|error| damaged(&error))?);
    }
    if read.is_empty() { Err("it has no certificate in PEM form".to_owned()) } else { Ok(Own(read)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_a_certificate_that_is_damaged_is_said() {
        let pem = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        for text in ["MIIB", "AAAA", ""] {
            let why = read(pem(text).as_bytes()).err().unwrap_or_default();
            assert!(why.starts_with("its certificate 1 cannot be read: "), "{text}: {why}");
        }
        for none in ["", "what is this", "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(read(none.as_bytes()).err().as_deref(), Some("it has no certificate in PEM form"), "{none}");
        }
    }
}
