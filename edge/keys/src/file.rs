//! Key files: JSON with the public key and the secret seed, plain or encrypted.
//!
//! Encrypted: Argon2id (RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes) makes a key
//! from the passphrase, ChaCha20-Poly1305 seals the seed. The file is written whole or not at all
//! and readable by its owner only.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};
use serde::{Deserialize, Serialize};
use types::{PublicKey, hash, sign::Sign};
use zeroize::Zeroizing;

use crate::SecretKey;

/// Larger files are not key files.
const FILE_BYTES_MAX: u64 = 4_096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u32,
    public_key: PublicKey,
    secret: Secret,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Secret {
    Plain { seed: String },
    Sealed { salt: String, nonce: String, sealed_seed: String },
}

/// Why a key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot {action} the key file {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not a key file of this version", path = path.display())]
    Format { path: PathBuf },
    #[error("{path} can be read by others; run `chmod 600 {path}`", path = path.display())]
    Permissions { path: PathBuf },
    #[error("{path} is encrypted; give its passphrase", path = path.display())]
    PassphraseNeeded { path: PathBuf },
    #[error("the passphrase does not open {path}", path = path.display())]
    WrongPassphrase { path: PathBuf },
    #[error("the system gives no randomness")]
    Randomness { source: getrandom::Error },
    #[error("the passphrase cannot be stretched with the memory at hand")]
    Stretch,
}

/// Loads the key in `path`, or makes one and saves it there.
pub fn load_or_create(path: &Path, passphrase: Option<&str>) -> Result<SecretKey, KeyFileError> {
    match load(path, passphrase) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key =
                SecretKey::generate().map_err(|source| KeyFileError::Randomness { source })?;
            match save(path, &key, passphrase) {
                Ok(()) => Ok(key),
                // Another process was quicker.
                Err(KeyFileError::Io { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists =>
                {
                    load(path, passphrase)
                }
                Err(error) => Err(error),
            }
        }
        result => result,
    }
}

/// Loads the key in `path`.
pub fn load(path: &Path, passphrase: Option<&str>) -> Result<SecretKey, KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
    let format = || KeyFileError::Format { path: path.to_owned() };
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned() });
    }
    let text = Zeroizing::new(fs::read(path).map_err(failed)?);
    let file: KeyFile = serde_json::from_slice(&text).map_err(|_| format())?;
    let seed = match &file.secret {
        Secret::Plain { seed } => hash::from_hex(seed).ok_or_else(format)?,
        Secret::Sealed { salt, nonce, sealed_seed } => {
            let passphrase = passphrase
                .ok_or_else(|| KeyFileError::PassphraseNeeded { path: path.to_owned() })?;
            let salt = hash::from_hex::<16>(salt).ok_or_else(format)?;
            let nonce = hash::from_hex::<12>(nonce).ok_or_else(format)?;
            let sealed = hash::from_hex::<48>(sealed_seed).ok_or_else(format)?;
            let opened = cipher(passphrase, &salt)?
                .decrypt(&nonce.into(), sealed.as_slice())
                .map_err(|_| KeyFileError::WrongPassphrase { path: path.to_owned() })?;
            opened.try_into().map_err(|_| format())?
        }
    };
    let key = SecretKey::from_seed(seed);
    if file.version == 1 && key.public_key() == file.public_key { Ok(key) } else { Err(format()) }
}

/// Writes `key` to a new file; an existing one is never replaced.
pub fn save(path: &Path, key: &SecretKey, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "write", path: path.to_owned(), source };
    let secret = match passphrase {
        None => Secret::Plain { seed: hash::to_hex(&*key.seed()) },
        Some(passphrase) => seal(key, passphrase)?,
    };
    let file = KeyFile { version: 1, public_key: key.public_key(), secret };
    let text = Zeroizing::new(
        serde_json::to_vec_pretty(&file).map_err(|source| failed(io::Error::other(source)))?,
    );
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Of this call alone: another process may be making the same key.
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|source| KeyFileError::Randomness { source })?;
    let draft = path.with_extension(format!("{}.tmp", hash::to_hex(&number)));
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    out.write_all(&text).and_then(|()| out.sync_all()).map_err(failed)?;
    let linked = fs::hard_link(&draft, path);
    let removed = fs::remove_file(&draft);
    linked.and(removed).map_err(failed)
}

fn seal(key: &SecretKey, passphrase: &str) -> Result<Secret, KeyFileError> {
    let (mut salt, mut nonce) = ([0; 16], [0; 12]);
    getrandom::fill(&mut salt).map_err(|source| KeyFileError::Randomness { source })?;
    getrandom::fill(&mut nonce).map_err(|source| KeyFileError::Randomness { source })?;
    let sealed = cipher(passphrase, &salt)?
        .encrypt(&nonce.into(), key.seed().as_slice())
        .map_err(|_| KeyFileError::Stretch)?;
    Ok(Secret::Sealed {
        salt: hash::to_hex(&salt),
        nonce: hash::to_hex(&nonce),
        sealed_seed: hash::to_hex(&sealed),
    })
}

fn cipher(passphrase: &str, salt: &[u8]) -> Result<ChaCha20Poly1305, KeyFileError> {
    let params = Params::new(64 * 1024, 3, 4, Some(32)).map_err(|_| KeyFileError::Stretch)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|_| KeyFileError::Stretch)?;
    Ok(ChaCha20Poly1305::new(&(*key).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/operator.json");
        let made = load_or_create(&path, None).unwrap();
        let again = load_or_create(&path, None).unwrap();
        assert_eq!(made.public_key(), again.public_key());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(save(&path, &made, None).is_err(), "an existing key is never replaced");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&path, None), Err(KeyFileError::Permissions { .. })));
    }

    #[test]
    fn those_who_make_a_key_at_once_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.json");
        let made: Vec<_> = std::thread::scope(|scope| {
            let make = || load_or_create(&path, None).unwrap().public_key();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept = load(&path, None).unwrap().public_key();
        assert!(made.iter().all(|key| *key == kept));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        let made = load_or_create(&path, Some("correct horse")).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(&hash::to_hex(&*made.seed())));
        let error = |passphrase| load(&path, passphrase).unwrap_err();
        assert!(matches!(error(None), KeyFileError::PassphraseNeeded { .. }));
        assert!(matches!(error(Some("battery")), KeyFileError::WrongPassphrase { .. }));
        let opened = load(&path, Some("correct horse")).unwrap();
        assert_eq!(opened.public_key(), made.public_key());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let key = SecretKey::from_seed([7; 32]);
        assert!(!format!("{key:?}").contains(&hash::to_hex(&[7; 32])));
    }
}
