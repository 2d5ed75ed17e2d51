//! Both repositories together (Uptane Standard 2.1, clause 5.4.4.2): the director first, then what the
//! image repository says about each target that the director names.

use crate::{
    directing,
    error::{DocumentFault, Refusal, VerifyError},
    layout::Repository,
    meta::{RoleName, Target, Targets},
    repository::{Client, Wanted},
    time::UnixTime,
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
};

/// What the image repository says about each target of the director; `None` where it has none.
pub type Offered = BTreeMap<String, Option<Target>>;

/// The clients of both repositories: asks for documents and takes them.
#[derive(Debug)]
pub struct Pair {
    director: Client,
    image: Client,
    /// The director's targets that the image repository has not been asked about.
    left: VecDeque<String>,
    /// What the image repository says about those before.
    offered: Offered,
}

impl Pair {
    /// Begins with two clients that have not been asked anything.
    #[must_use]
    pub const fn new(director: Client, image: Client) -> Self {
        Self {
            director,
            image,
            left: VecDeque::new(),
            offered: BTreeMap::new(),
        }
    }

    /// The document that is needed next, and of which repository; `None` when all are there, or one was
    /// refused.
    #[must_use]
    pub fn wanted(&self) -> Option<(Repository, Wanted)> {
        let repository = self.turn();
        let wanted = self.client(repository).wanted()?;
        Some((repository, wanted))
    }

    /// The wanted document, or that there is none.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Document`]: nothing more is asked for.
    pub fn on_document(&mut self, bytes: Option<&[u8]>) -> Result<(), VerifyError> {
        let repository = self.turn();
        let client = match repository {
            Repository::Director => &mut self.director,
            Repository::Image => &mut self.image,
        };
        let result = match bytes {
            Some(bytes) => client.on_file(bytes),
            None => client.on_missing(),
        };
        result.map_err(|refusal| of(repository, refusal))?;
        if repository == Repository::Director && self.director.is_current() {
            self.begin_targets()?;
        }
        self.search()
    }

    /// The targets of the director and of the image repository, and what the latter says about the
    /// former, when nothing is wanted any more.
    ///
    /// # Errors
    ///
    /// The targets of a repository are missing: not all documents were given.
    pub fn current(&self) -> Result<(&Targets, &Targets, &Offered), VerifyError> {
        let missing = |repository| {
            let refusal = Refusal::of(RoleName::Targets, None, None, DocumentFault::Missing);
            of(repository, refusal)
        };
        let director = self.director.targets();
        let director = director.ok_or_else(|| missing(Repository::Director))?;
        let image = self.image.targets();
        let image = image.filter(|_| self.left.is_empty() && self.image.is_current());
        let image = image.ok_or_else(|| missing(Repository::Image))?;
        Ok((director, image, &self.offered))
    }

    /// The client of a repository.
    #[must_use]
    pub const fn client(&self, repository: Repository) -> &Client {
        match repository {
            Repository::Director => &self.director,
            Repository::Image => &self.image,
        }
    }

    /// Judges expiry in both repositories by another time from here on.
    ///
    /// # Errors
    ///
    /// A root has expired by it.
    pub(crate) fn judge_at(&mut self, now: UnixTime) -> Result<(), VerifyError> {
        for (repository, client) in [
            (Repository::Director, &mut self.director),
            (Repository::Image, &mut self.image),
        ] {
            client
                .judge_at(now)
                .map_err(|refusal| of(repository, refusal))?;
        }
        Ok(())
    }

    /// Whose documents are asked for now.
    fn turn(&self) -> Repository {
        match self.director.is_current() {
            false => Repository::Director,
            true => Repository::Image,
        }
    }

    /// The director's targets are there: each is searched for in the image repository.
    fn begin_targets(&mut self) -> Result<(), VerifyError> {
        let Some(targets) = self.director.targets() else {
            return Ok(());
        };
        directing::no_delegations(targets)?;
        self.left = targets.targets.keys().cloned().collect();
        Ok(())
    }

    /// Takes what was found, and goes on to the next target while no document is needed for it.
    fn search(&mut self) -> Result<(), VerifyError> {
        while self.turn() == Repository::Image && self.image.is_current() {
            let Some(path) = self.left.front() else {
                return Ok(());
            };
            if !self.image.has_searched(path) {
                let path = path.clone();
                let directed = self.director.targets();
                let directed = directed.and_then(|targets| targets.targets.get(&path));
                let hardware = directed.map(directing::hardware_of).unwrap_or_default();
                self.image
                    .find_for(&path, hardware)
                    .map_err(|refusal| of(Repository::Image, refusal))?;
                continue;
            }
            let found = self.image.found().map(|(_, target)| target.clone());
            if let Some(path) = self.left.pop_front() {
                self.offered.insert(path, found);
            }
        }
        Ok(())
    }
}

pub(crate) const fn of(repository: Repository, refusal: Refusal) -> VerifyError {
    VerifyError::Document {
        repository,
        refusal,
    }
}
