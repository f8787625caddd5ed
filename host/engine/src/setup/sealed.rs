//! What is sealed with a passphrase: the tokens of connections, in a backup.
//!
//! The key is made of the passphrase by Argon2id, which costs whoever guesses a piece of memory and some time for each guess;
//! what is sealed is encrypted and authenticated by ChaCha20-Poly1305. Before it stands a line of JSON that says how, and is
//! authenticated with it.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A shorter passphrase is guessed.
pub const PASSPHRASE_BYTES_MIN: usize = 12;
/// A longer one is no passphrase.
pub const PASSPHRASE_BYTES_MAX: usize = 1_024;

/// Memory of one guess.
const MEMORY_KIB: u32 = 64 * 1024;
/// Times that this memory is gone through.
const PASSES: u32 = 3;
/// What a sealed text of others may ask for of these.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const SALT_BYTES: usize = 16;

/// A passphrase. It is shown nowhere, and overwritten when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Passphrase {
    /// Takes the text; line ends behind it (a file's) do not count.
    ///
    /// # Errors
    /// In words: it is too short or too long.
    pub fn new(text: String) -> Result<Self, String> {
        let text = Zeroizing::new(text);
        let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if (PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(format!(
                "a passphrase has {PASSPHRASE_BYTES_MIN} to {PASSPHRASE_BYTES_MAX} bytes, and this one has {}",
                text.len()
            ))
        }
    }

    /// The passphrase itself: for a host, on its way there.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn key(&self, how: &How) -> Option<LessSafeKey> {
        let params = Params::new(how.memory_kib, how.passes, 1, Some(KEY_BYTES)).ok()?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let mut memory = vec![Block::default(); params.block_count()];
        let made = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        made.hash_password_into_with_memory(self.0.as_bytes(), &how.salt, &mut *key, &mut memory).ok()?;
        UnboundKey::new(&CHACHA20_POLY1305, &*key).ok().map(LessSafeKey::new)
    }
}

/// Why something is not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The passphrase is another one, or what is sealed was changed: nobody can tell these apart.
    #[error("it does not open with this passphrase")]
    Wrong,
    /// What is sealed cannot be read.
    #[error("what is sealed cannot be read")]
    Damaged,
    /// The machine gave no randomness or no memory.
    #[error("the machine has no randomness or no memory for it")]
    Machine,
}

/// How something is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    key: String,
    memory_kib: u32,
    passes: u32,
    salt: [u8; SALT_BYTES],
    cipher: String,
    nonce: [u8; NONCE_BYTES],
}

const KEY: &str = "argon2id";
const CIPHER: &str = "chacha20-poly1305";

impl How {
    fn new() -> Option<Self> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        getrandom::fill(&mut salt).ok()?;
        getrandom::fill(&mut nonce).ok()?;
        let (key, cipher) = (KEY.to_owned(), CIPHER.to_owned());
        Some(Self { key, memory_kib: MEMORY_KIB, passes: PASSES, salt, cipher, nonce })
    }

    /// One that this program knows, and that does not cost more than it may.
    fn is_known(&self) -> bool {
        self.key == KEY
            && self.cipher == CIPHER
            && (8..=MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=PASSES_MAX).contains(&self.passes)
    }
}

/// Seals `text`. It computes for a while.
///
/// # Errors
/// [`Error::Machine`].
pub fn seal(passphrase: &Passphrase, text: &str) -> Result<Vec<u8>, Error> {
    let how = How::new().ok_or(Error::Machine)?;
    let key = passphrase.key(&how).ok_or(Error::Machine)?;
    let mut sealed = serde_json::to_vec(&how).map_err(|_| Error::Machine)?;
    sealed.push(b'\n');
    // A copy that is encrypted in its place.
    let mut body = text.as_bytes().to_vec();
    let nonce = Nonce::assume_unique_for_key(how.nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(&sealed), &mut body).map_err(|_| Error::Machine)?;
    sealed.extend_from_slice(&body);
    Ok(sealed)
}

/// Opens what was [sealed](seal). It computes for a while.
///
/// # Errors
/// All but that of a machine mean that nothing of it can be had.
pub fn open(passphrase: &Passphrase, sealed: &[u8]) -> Result<Zeroizing<String>, Error> {
    let end = sealed.iter().position(|byte| *byte == b'\n').ok_or(Error::Damaged)? + 1;
    let (head, body) = sealed.split_at_checked(end).ok_or(Error::Damaged)?;
    let how: How = serde_json::from_slice(head).map_err(|_| Error::Damaged)?;
    if !how.is_known() {
        return Err(Error::Damaged);
    }
    let key = passphrase.key(&how).ok_or(Error::Machine)?;
    let mut body = Zeroizing::new(body.to_vec());
    let nonce = Nonce::assume_unique_for_key(how.nonce);
    let opened = key.open_in_place(nonce, Aad::from(head), body.as_mut_slice()).map_err(|_| Error::Wrong)?;
    let text = std::str::from_utf8(opened).map_err(|_| Error::Damaged)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let right = passphrase("correct horse battery\n");
        let sealed = seal(&right, "acme bot=xoxb-secret\n").unwrap();
        assert!(!sealed.windows(6).any(|some| some == b"secret"));
        assert_eq!(open(&right, &sealed).unwrap().as_str(), "acme bot=xoxb-secret\n");
        assert_eq!(open(&passphrase("correct horse batterz"), &sealed), Err(Error::Wrong));
        let last = sealed.len() - 1;
        let mut changed = sealed.clone();
        changed[last] ^= 1;
        assert_eq!(open(&right, &changed), Err(Error::Wrong));
        assert_eq!(open(&right, &sealed[..10]), Err(Error::Damaged));
        assert_ne!(seal(&right, "acme bot=xoxb-secret\n").unwrap(), sealed, "each has a salt of its own");
    }

    /// A backup of somebody else's must not have this machine compute for days.
    #[test]
    fn what_would_cost_too_much_is_not_tried() {
        let right = passphrase("correct horse battery");
        let how = How { memory_kib: u32::MAX, ..How::new().unwrap() };
        let sealed = [serde_json::to_vec(&how).unwrap().as_slice(), b"\n0123456789abcdef"].concat();
        assert_eq!(open(&right, &sealed), Err(Error::Damaged));
    }

    #[test]
    fn a_passphrase_that_is_guessed_is_none() {
        for wrong in ["", "short", "12345678901\n", "x".repeat(2_000).as_str()] {
            assert!(Passphrase::new(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", passphrase("correct horse battery")), "…");
    }
}
