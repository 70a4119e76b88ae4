//! The envelope of a statement: DSSE 1.0 with one ed25519 signature, and the keys for it as PEM, which openssl(1)
//! reads as well. An envelope is accepted only byte for byte as it is written here, so that nothing in it can be
//! another than what was signed.

use super::sha256::Sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde_json::{Value, json};

/// What is in the envelope.
const TYPE: &str = "application/vnd.in-toto+json";

/// Why something was not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no envelope as rfs writes them.
    #[error("it is no envelope as rfs writes them: {0}")]
    Form(&'static str),
    /// It was signed by another key.
    #[error("it was signed by the key {0}, not by {1}")]
    Key(String, String),
    /// It is not what was signed.
    #[error("its signature does not hold")]
    Signature,
    /// The key cannot be read.
    #[error("the key cannot be read: {0}")]
    Pem(String),
}

/// Who signs.
pub struct Private(SigningKey);

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the private key of {}", self.public().id())
    }
}

impl Private {
    /// Of 32 random bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let key = SigningKey::from_pkcs8_pem(pem);
        key.map(Self).map_err(|error| Error::Pem(error.to_string()))
    }

    /// As PKCS #8 in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        pem.expect("BUG: a key has a PEM").to_string()
    }

    /// Who verifies.
    #[must_use]
    pub fn public(&self) -> Public {
        Public(self.0.verifying_key())
    }
}

/// Who verifies.
#[derive(Debug, Clone)]
pub struct Public(VerifyingKey);

impl Public {
    /// Reads a SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let key = VerifyingKey::from_public_key_pem(pem);
        key.map(Self).map_err(|error| Error::Pem(error.to_string()))
    }

    /// As a SubjectPublicKeyInfo in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let pem = self.0.to_public_key_pem(LineEnding::LF);
        pem.expect("BUG: a key has a PEM")
    }

    /// SHA-256 of the key, in hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        Sha256::of(self.0.as_bytes()).to_string()
    }
}

/// A statement with its signature, as JSON on one line.
#[must_use]
pub fn seal(statement: &Value, key: &Private) -> String {
    let payload = statement.to_string().into_bytes();
    let signature = key.0.sign(&authenticated(&payload));
    write(&payload, &key.public().id(), &signature.to_bytes())
}

/// The statement of an envelope that was signed by a key.
///
/// # Errors
/// It was not, or it is no envelope.
pub fn open(envelope: &str, key: &Public) -> Result<Vec<u8>, Error> {
    let value: Value =
        serde_json::from_str(envelope).map_err(|_not_json| Error::Form("it is not JSON"))?;
    let signed = &value["signatures"][0];
    let bytes = |value: &Value| BASE64.decode(value.as_str()?).ok();
    let payload = bytes(&value["payload"]).ok_or(Error::Form("it has no payload"))?;
    let signature = bytes(&signed["sig"]).ok_or(Error::Form("it has no signature"))?;
    let id = signed["keyid"].as_str().unwrap_or_default();
    if write(&payload, id, &signature) != envelope {
        return Err(Error::Form("something in it is not as it is written"));
    }
    if id != key.id() {
        return Err(Error::Key(id.to_owned(), key.id()));
    }
    let signature = Signature::from_slice(&signature);
    let signature = signature.map_err(|_length| Error::Form("its signature has another length"))?;
    let holds = key.0.verify_strict(&authenticated(&payload), &signature);
    holds.map_err(|_not| Error::Signature)?;
    Ok(payload)
}

fn write(payload: &[u8], id: &str, signature: &[u8]) -> String {
    let envelope = json!({
        "payload": BASE64.encode(payload),
        "payloadType": TYPE,
        "signatures": [{"keyid": id, "sig": BASE64.encode(signature)}],
    });
    format!("{envelope}\n")
}

/// What is signed: the pre-authentication encoding of DSSE.
fn authenticated(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {TYPE} {} ", TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_comes_out() {
        let key = Private::new(&[7; 32]);
        let statement = json!({"a": [1, "b"]});
        let sealed = seal(&statement, &key);
        let payload = open(&sealed, &key.public()).unwrap();
        assert_eq!(payload, statement.to_string().as_bytes());
        let other = Private::new(&[8; 32]).public();
        assert!(matches!(open(&sealed, &other), Err(Error::Key(..))));
    }

    #[test]
    fn whatever_bit_is_another_it_is_noticed() {
        let key = Private::new(&[7; 32]);
        let sealed = seal(&json!({"subject": [{"name": "a"}]}), &key).into_bytes();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut bytes = sealed.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(text) = String::from_utf8(bytes) {
                    assert!(open(&text, &key.public()).is_err(), "byte {at}, bit {bit}");
                }
            }
        }
        let text = String::from_utf8(sealed).unwrap();
        open(&format!("{text} "), &key.public()).unwrap_err();
        open(&text[..text.len() - 1], &key.public()).unwrap_err();
    }

    #[test]
    fn keys_come_back_from_their_files() {
        let key = Private::new(&[9; 32]);
        assert_eq!(Private::from_pem(&key.pem()).unwrap().0, key.0);
        let public = Public::from_pem(&key.public().pem()).unwrap();
        assert_eq!(public.id(), key.public().id());
        assert!(key.pem().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        Public::from_pem(&key.pem()).unwrap_err();
        Private::from_pem("").unwrap_err();
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
