//! What opens keys at rest: a passphrase for a file, a PIN for a token. Never from the command line,
//! where every process of the machine could read it.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use zeroize::Zeroizing;

use crate::{error::Error, files};

/// Holds the passphrase of key files.
pub const PASSPHRASE: &str = "OEM_PASSPHRASE";
/// Holds the PIN of a token.
pub const PIN: &str = "OEM_PIN";

const SECRET_MAX: u64 = 1024;

/// A passphrase or PIN.
pub type Secret = Zeroizing<String>;

/// Where passphrases and PINs come from: a file that was named, else the environment, else whoever
/// sits at the terminal, who is asked once.
#[derive(Debug, Clone, Default)]
pub struct Unlock {
    file: Option<PathBuf>,
    asked: OnceLock<Asked>,
}

#[derive(Clone)]
struct Asked(Secret);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl Unlock {
    /// The first line of `file`, where one is named.
    #[must_use]
    pub const fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            asked: OnceLock::new(),
        }
    }

    /// The same secret for all.
    #[must_use]
    pub fn with(secret: Option<Secret>) -> Self {
        let asked = OnceLock::new();
        if let Some(secret) = secret {
            asked.get_or_init(|| Asked(secret));
        }
        Self { file: None, asked }
    }

    /// The passphrase of the key in `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] where there is none and nobody can be asked, [`Error::File`].
    pub fn passphrase(&self, path: &Path) -> Result<Secret, Error> {
        self.secret(PASSPHRASE, &format!("passphrase of {}", path.display()))
    }

    /// The PIN of the token of that name.
    ///
    /// # Errors
    ///
    /// As [`Unlock::passphrase`].
    pub fn pin(&self, token: &str) -> Result<Secret, Error> {
        self.secret(PIN, &format!("PIN of token {token}"))
    }

    fn secret(&self, variable: &'static str, what: &str) -> Result<Secret, Error> {
        if let Some(Asked(secret)) = self.asked.get() {
            return Ok(secret.clone());
        }
        if let Some(file) = &self.file {
            return first_line(file);
        }
        if let Ok(secret) = env::var(variable) {
            return Ok(Zeroizing::new(secret));
        }
        if !io::stdin().is_terminal() {
            let what = what.to_owned();
            return Err(Error::Locked { what, variable });
        }
        let secret = Self::ask(what)?;
        Ok(self.asked.get_or_init(|| Asked(secret)).0.clone())
    }

    /// Asks at the terminal, without echo.
    pub(crate) fn ask(what: &str) -> Result<Secret, Error> {
        let answer = rpassword::prompt_password(format!("{what}: "));
        let failed = |error| Error::System {
            what: "asking for a passphrase",
            error,
        };
        answer.map(Zeroizing::new).map_err(failed)
    }
}

/// The first line of a file that holds a secret.
pub(crate) fn first_line(path: &Path) -> Result<Secret, Error> {
    let bytes = Zeroizing::new(files::read(path, SECRET_MAX)?);
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::input(path, error))?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => Err(Error::input(path, "its first line is empty")),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}
