//! A release or a root that is not signed yet: a file that goes from person to person, each of whom
//! adds a signature, and back to the desk, which publishes it once they are enough.
//!
//! What is signed is what vehicles will read: the image repository's targets, or the next root.
//! The desk adds snapshot, timestamp and what the director says when it publishes; none of them makes
//! a vehicle believe in an image that the targets do not name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use campaign::{
    UnixTime,
    ids::{CampaignId, Vin},
    layout::Repository,
    meta::{Document, Envelope, Key, KeyId, RoleKeys, RoleName, Root, Targets},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::Error,
    files::{self, Access},
    keys::SigningKey,
    release::{self, OWN_KEYS, ReleaseOptions, Summary},
    repo::Repo,
    root::{self, Which},
};

/// Upper bound of a draft in bytes.
pub const DRAFT_MAX: u64 = 64 << 20;

/// A draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// What it will do.
    pub purpose: Purpose,
    /// When it was made.
    pub made: UnixTime,
    /// The newest root when it was made. It says whose signatures count; the desk goes by its own.
    pub current_root: Envelope,
    /// The next root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Envelope>,
    /// The image repository's next targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Envelope>,
}

/// What a draft does when it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Releases images.
    Release(Request),
    /// Takes the next root of a repository into use.
    Root(Which),
}

/// A release that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    campaign: CampaignId,
    vins: Vec<Vin>,
    images: Vec<PathBuf>,
    rules: Option<PathBuf>,
    allow_downgrade: bool,
    valid_days: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rxswins: BTreeMap<String, String>,
}

/// What a draft did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It released a campaign.
    Release(Summary),
    /// It took a root into use.
    Root {
        /// Of this repository.
        which: Which,
        /// Its version.
        version: u64,
    },
}

/// The signatures that a part of a draft has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Which part, and whose signatures.
    pub what: &'static str,
    /// Valid ones by distinct keys; no more than needed are counted.
    pub valid: usize,
    /// How many are needed.
    pub needed: u32,
}

/// A release of the images, unsigned. It takes no grant sequence: grants are made when it is
/// published.
///
/// # Errors
///
/// As [`release::plan`] but for grants; nothing is changed.
pub fn of_release(repo: &Repo, options: &ReleaseOptions, now: UnixTime) -> Result<Draft, Error> {
    let plan = release::outline(repo, options, now)?;
    let (_, current_root) = root::newest(repo, Repository::Image)?;
    Ok(Draft {
        purpose: Purpose::Release(Request {
            campaign: options.campaign.clone(),
            vins: options.vins.clone(),
            images: options.images.clone(),
            rules: options.rules.clone(),
            allow_downgrade: options.allow_downgrade,
            valid_days: options.valid_days,
            rxswins: options.rxswins.clone(),
        }),
        made: now,
        current_root,
        root: None,
        targets: Some(Envelope::new(&plan.image_targets)?),
    })
}

impl Draft {
    /// Reads a draft.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], [`Error::File`], [`Error::TooLong`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = files::read(path, DRAFT_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::input(path, error))
    }

    /// Writes a draft.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        files::write_json(path, self, Access::Public)
    }

    /// Adds the signature of `key` to each part that it may sign; the roles of these parts.
    ///
    /// # Errors
    ///
    /// [`Error::Draft`] where it may sign none.
    pub fn sign(&mut self, key: &SigningKey) -> Result<Vec<RoleName>, Error> {
        let id = key.public().id();
        let (current, next) = self.roots()?;
        let newest = next.as_ref().unwrap_or(&current);
        let roots = [Some(&current), next.as_ref()];
        let is_root_key = roots
            .iter()
            .flatten()
            .any(|root| root.roles.root.contains(&id));
        let is_targets_key = newest.roles.targets.contains(&id);
        let parts = [
            (RoleName::Root, is_root_key, &mut self.root),
            (RoleName::Targets, is_targets_key, &mut self.targets),
        ];
        let mut signed = Vec::new();
        for (role, may, envelope) in parts {
            if let (true, Some(envelope)) = (may, envelope) {
                key.sign_envelope(envelope)?;
                signed.push(role);
            }
        }
        match signed.is_empty() {
            true => Err(Error::Draft(format!(
                "key {id} may sign no part of it; `oem root show` says whose keys may"
            ))),
            false => Ok(signed),
        }
    }

    /// Adds the signatures of all keys that are at the desk.
    pub(crate) fn sign_here(&mut self, repo: &Repo) -> Result<(), Error> {
        let repository = self.repository();
        let (current, next) = self.roots()?;
        let newest = next.as_ref().unwrap_or(&current);
        let mut keys = root::keys_here(repo, repository, &current, RoleName::Root)?;
        keys.extend(root::keys_here(repo, repository, newest, RoleName::Root)?);
        if self.targets.is_some() {
            keys.extend(root::keys_here(
                repo,
                repository,
                newest,
                RoleName::Targets,
            )?);
        }
        for key in &keys {
            self.sign(key)?;
        }
        Ok(())
    }

    const fn repository(&self) -> Repository {
        match self.purpose {
            Purpose::Release(_) | Purpose::Root(Which::Image) => Repository::Image,
            Purpose::Root(Which::Director) => Repository::Director,
        }
    }

    fn roots(&self) -> Result<(Root, Option<Root>), Error> {
        let root = |envelope: &Envelope| {
            let document = Document::<Root>::from_envelope(envelope.clone());
            let document = document.map_err(|error| Error::Draft(error.to_string()))?;
            Ok::<_, Error>(document.unverified().clone())
        };
        Ok((
            root(&self.current_root)?,
            self.root.as_ref().map(root).transpose()?,
        ))
    }

    /// The signatures that it has and needs.
    ///
    /// # Errors
    ///
    /// [`Error::Draft`] where a part is not what it should be.
    pub fn approvals(&self) -> Result<Vec<Approval>, Error> {
        let (current, next) = self.roots()?;
        let newest = next.as_ref().unwrap_or(&current);
        let mut approvals = Vec::new();
        if let (Some(envelope), Some(next)) = (&self.root, &next) {
            let before = ("root, by keys of the root before", &current);
            for (what, root) in [before, ("root, by its own keys", next)] {
                let role = &root.roles.root;
                approvals.push(approval::<Root>(what, envelope, &root.keys, role)?);
            }
        }
        if let Some(envelope) = &self.targets {
            let (keys, role) = (&newest.keys, &newest.roles.targets);
            approvals.push(approval::<Targets>("targets", envelope, keys, role)?);
        }
        Ok(approvals)
    }

    /// What it would publish, for whoever is to sign it.
    ///
    /// # Errors
    ///
    /// As [`Draft::approvals`].
    pub fn describe(&self) -> Result<Value, Error> {
        let signed = |envelope: &Option<Envelope>| envelope.as_ref().map(|it| it.signed.clone());
        Ok(json!({
            "kind": "draft",
            "purpose": self.purpose,
            "made": self.made,
            "signatures": self.approvals()?,
            "root": signed(&self.root),
            "targets": signed(&self.targets),
        }))
    }

    /// Publishes what enough keys have signed.
    ///
    /// # Errors
    ///
    /// [`Error::Signatures`] where they are too few, [`Error::Draft`] where the repository has changed
    /// since it was made; nothing was changed then. As [`release::release`].
    pub fn publish(&self, repo: &Repo, now: UnixTime) -> Result<Published, Error> {
        match &self.purpose {
            Purpose::Root(which) => {
                let (which, version) = (*which, root::take(repo, *which, self, now)?);
                Ok(Published::Root { which, version })
            }
            Purpose::Release(request) => {
                let options = ReleaseOptions {
                    campaign: request.campaign.clone(),
                    vins: request.vins.clone(),
                    images: request.images.clone(),
                    rules: request.rules.clone(),
                    allow_downgrade: request.allow_downgrade,
                    valid_days: request.valid_days,
                    rxswins: request.rxswins.clone(),
                };
                self.publish_release(repo, &options, now)
            }
        }
    }

    fn publish_release(
        &self,
        repo: &Repo,
        options: &ReleaseOptions,
        now: UnixTime,
    ) -> Result<Published, Error> {
        let envelope = self.targets.as_ref();
        let envelope = envelope.ok_or_else(|| Error::Draft("it holds no targets".into()))?;
        let (root, _) = root::newest(repo, Repository::Image)?;
        let document = Document::<Targets>::from_envelope(envelope.clone())?;
        document
            .verify(&root.keys, &root.roles.targets, OWN_KEYS)
            .map_err(|shortfall| Error::Signatures {
                what: "of the targets",
                shortfall,
            })?;
        let mut plan = release::plan(repo, options, self.made)?;
        // Interrupted after the first document, it is completed.
        plan.go_on(repo, document.unverified(), &envelope.to_json()?)?;
        // Another release, another image under the same name, a changed request: none of them was
        // signed.
        if Envelope::new(&plan.image_targets)?.signed != envelope.signed {
            let reason = "what is published, or an image, has changed since it was made; make it anew \
                          with `oem release --draft` and have it signed";
            return Err(Error::Draft(reason.into()));
        }
        if plan.vehicles.is_empty() {
            let reason = "all of it is published already; there is nothing left to do";
            return Err(Error::Draft(reason.into()));
        }
        let signed = plan.sign_with(repo, Some(envelope), now)?;
        signed.check(repo, &plan, now)?;
        signed.publish(repo, &plan)?;
        Ok(Published::Release(plan.summary(&options.campaign)))
    }
}

fn approval<R: campaign::meta::Role>(
    what: &'static str,
    envelope: &Envelope,
    keys: &std::collections::BTreeMap<KeyId, Key>,
    role: &RoleKeys,
) -> Result<Approval, Error> {
    let document = Document::<R>::from_envelope(envelope.clone());
    let document = document.map_err(|error| Error::Draft(error.to_string()))?;
    let needed = role.threshold();
    let enough = usize::try_from(needed).unwrap_or(usize::MAX);
    let result = document.verify(keys, role, OWN_KEYS);
    let valid = result.map_or_else(|shortfall| shortfall.valid, |_| enough);
    Ok(Approval {
        what,
        valid,
        needed,
    })
}
