//! One image into the cache, however often the connection breaks and the program restarts.

use std::io::Write;
use std::path::Path;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE,
};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::http::{Fault, Http, Location, pause, refused, text, unreachable};
use super::part::Part;
use super::{Artifact, FetchError, settle};

/// A download of one image.
#[derive(Debug)]
pub(crate) struct Download<'d> {
    http: &'d Http,
    url: String,
    authorization: Option<HeaderValue>,
    artifact: &'d Artifact,
    cache: &'d Path,
    part: Part,
}

impl<'d> Download<'d> {
    pub(crate) fn new(
        http: &'d Http,
        location: Location,
        artifact: &'d Artifact,
        cache: &'d Path,
    ) -> Self {
        Self {
            http,
            url: location.url,
            authorization: location.authorization,
            artifact,
            cache,
            part: Part::of(artifact, cache),
        }
    }

    /// Tries until the image is there or [`super::Limits`] end it.
    ///
    /// Bytes of an earlier run or answer are continued. Where the whole then has the wrong hash they
    /// may be to blame, so it is fetched once more from its first byte; a file that came in one
    /// answer and is wrong stays wrong.
    pub(crate) async fn run(
        &self,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), FetchError> {
        let mut retry = self.http.retry();
        let mut may_blame_parts = true;
        let mut continued = self.part.length() > 0;
        loop {
            let have = self.part.length();
            if have == self.artifact.length {
                match settle(self.artifact, self.cache) {
                    Err(FetchError::Hash(_)) if continued && may_blame_parts => {
                        (may_blame_parts, continued) = (false, false);
                        continue;
                    }
                    settled => return settled,
                }
            }
            match self.attempt(have, progress).await {
                Ok(()) => {}
                Err(fault) => {
                    pause(&mut retry, self.part.length(), fault).await?;
                    continued |= self.part.length() > 0;
                }
            }
        }
    }

    /// One request for what is missing; what it brings is appended to the part.
    async fn attempt(
        &self,
        have: u64,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Fault> {
        let mut response = self.http.send(&self.url, self.request(have)).await?;
        let tag = text(response.headers(), &ETAG);
        let (mut done, mut file) = match response.status() {
            // The range was not honoured, or the file has changed: it starts anew.
            StatusCode::OK => (0, self.part.restart(tag).map_err(|error| self.io(error))?),
            StatusCode::PARTIAL_CONTENT if self.continues(&response, have) => {
                (have, self.part.open(have).map_err(|error| self.io(error))?)
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.remove()?;
                let what = "another range or file than asked for";
                return Err(unreachable(&self.url, &what));
            }
            // The metadata names it, so a store that does not have it may be late.
            StatusCode::NOT_FOUND => {
                return Err(Fault::Transient(
                    FetchError::Missing(self.url.clone()),
                    None,
                ));
            }
            _ => return Err(refused(&self.url, &response)),
        };
        progress(done);
        let mut pace = self.http.pace();
        while let Some(chunk) = self.http.next(&self.url, &mut response, &mut pace).await? {
            done = u64::try_from(chunk.len()).map_or(u64::MAX, |len| done.saturating_add(len));
            if done > self.artifact.length {
                self.remove()?;
                return Err(Fault::Final(FetchError::TooLong {
                    what: self.url.clone(),
                    limit: self.artifact.length,
                }));
            }
            file.write_all(&chunk).map_err(|error| self.io(error))?;
            progress(done);
        }
        if done < self.artifact.length {
            let what = "the server sent less than the whole file";
            return Err(unreachable(&self.url, &what));
        }
        Ok(())
    }

    fn request(&self, have: u64) -> RequestBuilder {
        // Ranges count bytes of the file, not of an encoding of it.
        let request = self.http.client.get(&self.url);
        let mut request = request.header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if have == 0 || have > self.artifact.length {
            return request;
        }
        if let Some(tag) = self.part.tag() {
            request = request.header(IF_RANGE, tag);
        }
        request.header(RANGE, format!("bytes={have}-"))
    }

    /// Whether a partial answer begins where it was asked to, in the file that the part is of.
    fn continues(&self, response: &Response, have: u64) -> bool {
        let range = text(response.headers(), &CONTENT_RANGE).unwrap_or("");
        let first = range
            .strip_prefix("bytes ")
            .and_then(|range| range.split_once('-'))
            .and_then(|(first, _)| first.parse::<u64>().ok());
        let same = match (self.part.tag(), text(response.headers(), &ETAG)) {
            (Some(old), Some(new)) => old == new,
            _ => true,
        };
        first == Some(have) && have > 0 && same
    }

    fn remove(&self) -> Result<(), Fault> {
        self.part.remove().map_err(|error| self.io(error))
    }

    fn io(&self, source: std::io::Error) -> Fault {
        Fault::Final(FetchError::file(self.part.path())(source))
    }
}
