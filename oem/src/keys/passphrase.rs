//! What opens keys at rest: a passphrase for a file, a PIN for a token. Never from the command line,
//! where every process of the machine could read it.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
/// sits at the terminal, who is asked once for each key file and token. A passphrase is never given to
/// a token: it would count as a wrong PIN there.
#[derive(Clone, Default)]
pub struct Unlock {
    file: Option<PathBuf>,
    /// For all, where it was given.
    all: Option<Secret>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What somebody has answered.
#[derive(Clone)]
struct Asked {
    variable: &'static str,
    /// The question.
    what: String,
    secret: Secret,
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unlock")
    }
}

impl Unlock {
    /// The first line of `file`, where one is named.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    /// The same secret for all.
    #[must_use]
    pub fn with(secret: Option<Secret>) -> Self {
        Self {
            all: secret,
            ..Self::default()
        }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passphrases that were answered for other key files: people have one for several.
    pub(crate) fn known_passphrases(&self) -> Vec<Secret> {
        let asked = self.asked();
        let of_files = asked.iter().filter(|asked| asked.variable == PASSPHRASE);
        of_files.map(|asked| asked.secret.clone()).collect()
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
        if let Some(secret) = &self.all {
            return Ok(secret.clone());
        }
        let given = || env::var(variable).ok().map(Zeroizing::new);
        // A token counts wrong PINs: what is meant for it comes before what may be for files.
        if let Some(pin) = given().filter(|_| variable == PIN) {
            return Ok(pin);
        }
        if let Some(file) = &self.file {
            return first_line(file);
        }
        if let Some(secret) = given() {
            return Ok(secret);
        }
        if !io::stdin().is_terminal() {
            let what = what.to_owned();
            return Err(Error::Locked { what, variable });
        }
        self.ask_once(variable, what, Self::ask)
    }

    fn ask_once(
        &self,
        variable: &'static str,
        what: &str,
        ask: impl FnOnce(&str) -> Result<Secret, Error>,
    ) -> Result<Secret, Error> {
        let known = self
            .asked()
            .iter()
            .find(|asked| asked.what == what)
            .cloned();
        if let Some(known) = known {
            return Ok(known.secret);
        }
        let secret = ask(what)?;
        self.asked().push(Asked {
            variable,
            what: what.to_owned(),
            secret: secret.clone(),
        });
        Ok(secret)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_and_token_is_asked_for_once_and_a_token_never_gets_a_passphrase() {
        let unlock = Unlock::default();
        let mut questions = 0;
        let mut ask = |variable, what: &str, answer: &str| {
            let secret = unlock.ask_once(variable, what, |_| {
                questions += 1;
                Ok(Zeroizing::new(answer.to_owned()))
            });
            secret.unwrap().to_string()
        };
        assert_eq!(
            ask(PASSPHRASE, "passphrase of a.pem", "correct horse"),
            "correct horse"
        );
        assert_eq!(ask(PIN, "PIN of token desk", "1234"), "1234");
        assert_eq!(
            ask(PASSPHRASE, "passphrase of a.pem", "other"),
            "correct horse"
        );
        assert_eq!(ask(PIN, "PIN of token desk", "5678"), "1234");
        assert_eq!(ask(PIN, "PIN of token safe", "5678"), "5678");
        assert_eq!(questions, 3);
        let known = unlock.known_passphrases();
        assert_eq!(known.len(), 1, "no PIN is tried on a file");
        assert_eq!(known[0].as_str(), "correct horse");
    }
}
