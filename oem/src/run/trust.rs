//! The commands that decide who is trusted.

use std::io::IsTerminal as _;
use std::path::Path;

use campaign::manifest::MANIFEST_MAX_LEN;
use serde_json::json;

use super::{now, released, run_inspect, say, serve, tell};
use crate::{
    audit,
    cli::{self, Cli},
    draft::{Draft, Published},
    error::Error,
    files, inspect,
    keys::{self, RSA_BITS, SigningKey, Unlock},
    keyset, manifest,
    repo::Repo,
    revoke::{self, Revoked},
    root,
    vault::{self, PartOptions},
};

pub(super) fn audit(repo: &Repo, command: &cli::Audit) -> Result<(), Error> {
    match command {
        cli::Audit::Show { json } => {
            for entry in audit::read(repo)?.entries {
                let (sequence, time, body) = (entry.sequence, entry.time, &entry.body);
                if *json {
                    let text = serde_json::to_string(&entry);
                    say(&text.map_err(Error::crypto("JSON encoding"))?)?;
                } else {
                    let text = |name: &str| body[name].as_str().unwrap_or("?").to_owned();
                    let (who, what) = (text("who"), text("what"));
                    say(&format!(
                        "{sequence} {time} {who}: {what} {}",
                        body["details"]
                    ))?;
                }
            }
            Ok(())
        }
        cli::Audit::Verify { head, json } => {
            let record = audit::verify(repo, head.as_ref())?;
            let (head, count) = (record.head, record.entries.len());
            match json {
                true => say(&json!(head).to_string()),
                false => say(&format!("{count} entries, head {}", audit::NotedHead(head))),
            }
        }
    }
}

pub(super) fn vault(cli: &Cli, command: &cli::Vault) -> Result<(), Error> {
    match command {
        cli::Vault::Part { store, url } => {
            let options = PartOptions {
                store: store.clone(),
                url: url.clone(),
            };
            let parted = vault::part(&Repo::open(&cli.repo)?, &options)?;
            let text = format!(
                "keys of {} vehicles and {} images are in {}, and no longer here; move it to the vault's host",
                parted.vehicles,
                parted.images,
                store.display()
            );
            tell(cli.json, &json!(parted), &text)
        }
        cli::Vault::Serve { listen } => {
            serve(cli.json, || vault::service::bind(&cli.repo, *listen))
        }
        cli::Vault::Permit { image } => {
            vault::permit(&Repo::open(&cli.repo)?, *image)?;
            let text = format!("image {image} may be granted below what was granted before");
            tell(cli.json, &json!({ "permitted": image }), &text)
        }
    }
}

pub(super) fn keyset(cli: &Cli, command: &cli::Keyset) -> Result<(), Error> {
    let unlock = || Unlock::new(cli.passphrase_file.clone());
    let open = || Ok::<_, Error>(Repo::open(&cli.repo)?.with_unlock(unlock()));
    match command {
        cli::Keyset::Make {
            rotate,
            algorithm,
            revoke,
            drop,
            out,
        } => {
            let changes = keyset::Changes {
                rotate: *rotate,
                algorithm: algorithm.map(Into::into),
                revoke: revoke.clone(),
                drop: drop.clone(),
            };
            keyset::make(&open()?, &changes, RSA_BITS, out)?;
            let content = inspect::inspect(out)?;
            let shown = inspect::to_text(&content);
            let text = format!(
                "unsigned key set in {}\n{}",
                out.display(),
                shown.trim_end()
            );
            tell(
                cli.json,
                &json!({ "key_set": out, "content": content }),
                &text,
            )
        }
        cli::Keyset::Sign { input, root, out } => {
            keyset::sign_with(input, &SigningKey::open(root, &unlock())?, out)?;
            let text = format!("signed key set in {}", out.display());
            tell(cli.json, &json!({ "key_set": out }), &text)
        }
        cli::Keyset::Use { input } => {
            let version = keyset::take(&open()?, input)?;
            let text = format!("key set {version} is in use");
            tell(cli.json, &json!({ "version": version }), &text)
        }
        cli::Keyset::Show(arguments) => run_inspect(arguments),
    }
}

pub(super) fn manifest(repo: &Repo, command: &cli::Manifest) -> Result<(), Error> {
    let (known, json) = match command {
        cli::Manifest::Nonce { vin } => {
            return say(&manifest::nonce(repo, vin, now())?.to_string());
        }
        cli::Manifest::Verify { vin, file, json } => {
            let max = u64::try_from(MANIFEST_MAX_LEN).unwrap_or(u64::MAX);
            (
                manifest::accept(repo, vin, &files::read(file, max)?, now())?,
                *json,
            )
        }
        cli::Manifest::Show { vin, json } => (manifest::known(repo, vin)?, *json),
    };
    if json {
        let known = json!({
            "accepted": known.accepted,
            "installed": known.installed,
            "silent": known.silent,
            "disbelieved": known.disbelieved,
        });
        return say(&known.to_string());
    }
    for (ecu, it) in &known.installed {
        let (state, counter, floor) = (&it.state, it.security_counter, it.floor);
        let image = it.image;
        let mark = match known.silent.contains(ecu) {
            true => " (before; it did not answer)",
            false => "",
        };
        let line = format!("{ecu}: {state}, counter {counter}, floor {floor}, image {image}{mark}");
        say(&line)?;
    }
    let unheard = |ecu: &&_| !known.installed.contains_key(*ecu);
    for ecu in known.silent.iter().filter(unheard) {
        say(&format!("{ecu}: never answered"))?;
    }
    match &known.disbelieved {
        Some(lie) => say(&format!(
            "the telematics unit is not believed since {}: {}",
            lie.at, lie.fault
        )),
        None => Ok(()),
    }
}

pub(super) fn root(repo: &Repo, command: &cli::Root, as_json: bool) -> Result<(), Error> {
    match command {
        cli::Root::Show { repository, json } => {
            let (root, _) = root::newest(repo, (*repository).into())?;
            if *json {
                return say(&serde_json::json!(root).to_string());
            }
            say(&format!(
                "version {}, expires {}",
                root.header.version, root.header.expires
            ))?;
            for name in root::ROLES {
                let role = root.role(name);
                let (threshold, count) = (role.threshold(), role.keyids().len());
                say(&format!("{name}: {threshold} of {count}"))?;
                role.keyids()
                    .iter()
                    .try_for_each(|id| say(&format!("  {id}")))?;
            }
            Ok(())
        }
        cli::Root::Change(arguments) => {
            let add = arguments.add.iter();
            let add = add.map(|(role, path)| Ok((*role, keys::read_public(path)?)));
            let change = root::RootChange {
                add: add.collect::<Result<_, Error>>()?,
                remove: arguments.remove.clone(),
                thresholds: arguments.threshold.clone(),
            };
            let which = arguments.repository;
            if let Some(path) = &arguments.draft {
                root::draft(repo, which, &change, now())?.store(path)?;
                let text = format!("to be signed: {}", path.display());
                return tell(as_json, &json!({ "draft": path }), &text);
            }
            let version = root::change(repo, which, &change, now())?;
            let text = format!("root version {version} is in use");
            tell(as_json, &json!({ "root": version }), &text)
        }
    }
}

pub(super) fn revoke(
    repo: &Repo,
    key: &str,
    draft: Option<&Path>,
    as_json: bool,
) -> Result<(), Error> {
    let (value, text) = match revoke::revoke(repo, key, draft, now())? {
        Revoked::Draft => {
            let text = "to be signed; nothing has changed yet";
            (json!({ "draft": draft }), text.to_owned())
        }
        Revoked::KeySet => {
            let path = draft.ok_or_else(|| Error::KeySet("no file for the key set".into()))?;
            let content = inspect::inspect(path)?;
            let text = format!(
                "unsigned key set; next: `oem keyset sign` twice, `oem keyset use`\n{}",
                inspect::to_text(&content).trim_end()
            );
            (json!({ "key_set": draft, "content": content }), text)
        }
        Revoked::Root(version) => {
            let text = format!("root version {version} no longer names the key");
            (json!({ "root": version }), text)
        }
    };
    tell(as_json, &value, &text)
}

pub(super) fn sign(path: &Path, key: &Path, unlock: &Unlock, as_json: bool) -> Result<(), Error> {
    let mut draft = Draft::load(path)?;
    let roles = draft.sign(&SigningKey::open(key, unlock)?)?;
    draft.store(path)?;
    if as_json {
        let roles: Vec<_> = roles.iter().map(ToString::to_string).collect();
        let value = json!({ "signed": roles, "signatures": draft.approvals()? });
        return say(&value.to_string());
    }
    for role in roles {
        say(&format!("{role} signed"))?;
    }
    draft.approvals()?.iter().try_for_each(|approval| {
        let (what, valid, needed) = (approval.what, approval.valid, approval.needed);
        say(&format!("{what}: {valid} of {needed} signatures"))
    })
}

pub(super) fn publish(repo: &Repo, path: &Path, json: bool) -> Result<(), Error> {
    match Draft::load(path)?.publish(repo, now())? {
        Published::Release(summary) => released(&summary, json),
        Published::Root { version, .. } if json => say(&json!({ "root": version }).to_string()),
        Published::Root { version, .. } => say(&format!("root version {version} is in use")),
    }
}

pub(super) fn key(command: &cli::Key, unlock: &Unlock, as_json: bool) -> Result<(), Error> {
    let (key, public) = match command {
        cli::Key::New {
            out,
            algorithm,
            token,
            encrypt,
            public,
        } => {
            let key = match token {
                Some(uri) => SigningKey::generate_in_token(uri, RSA_BITS, unlock)?,
                None => SigningKey::generate_for_images((*algorithm).into(), RSA_BITS)?,
            };
            let passphrase = encrypt.then(|| unlock.passphrase(out)).transpose()?;
            let key = key.with_passphrase(passphrase);
            key.store(out)?;
            (key, public)
        }
        cli::Key::Passphrase { key: path, new } => {
            let key = SigningKey::open(path, unlock)?;
            let new = match new {
                Some(file) => keys::first_line(file)?,
                None if !std::io::stdin().is_terminal() => {
                    return Err(Error::NoNewPassphrase(path.clone()));
                }
                None => Unlock::ask("new passphrase")?,
            };
            return key.with_passphrase(Some(new)).store(path);
        }
        cli::Key::Public { key, out } => (SigningKey::open(key, unlock)?, out),
    };
    keys::write_public(key.public(), public)?;
    let id = key.public().id();
    tell(
        as_json,
        &json!({ "key_id": id, "public": public }),
        id.as_str(),
    )
}
