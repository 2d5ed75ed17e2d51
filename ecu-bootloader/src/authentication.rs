//! Authentication 29 by challenge and response with asymmetric keys (ISO 14229-1:2020 clause 10.6,
//! ACR, unidirectional), in place of a secret that testers share.
//!
//! ```text
//! 29 05 00 algorithm ──▶ challenge        29 06 algorithm proof challengeClient key-id ──▶ access
//! ```
//!
//! The proof is RSA-PSS-SHA-256 over `"CNAU" ‖ serial (32) ‖ challenge (16) ‖ challengeClient`, so it
//! is good for one ECU and once. What it opens is what a right key of SecurityAccess opens, and a
//! wrong proof counts as a wrong key. The board names the testers' keys; they are none of those that
//! images are signed with.

use ecu_image::crypto::sha256;
use ecu_image::pss::Progress;
use ecu_image::{KeyId, Signature};
use uds::nrc::Nrc;
use uds::service::{
    AlgorithmIndicator, Authentication, AuthenticationResponse, AuthenticationResult,
    AuthenticationTask, Field, Pdu, ProofParameters,
};
use uds::time::Instant;

use crate::access::SEED_LEN;
use crate::download::Reply;
use crate::job::{Answer, Core, Then, Work};
use crate::machine::Storage;
use crate::platform::Platform;

/// id-RSASSA-PSS, 1.2.840.113549.1.1.10, in BER.
pub const ALGORITHM: AlgorithmIndicator = [
    0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A, 0, 0, 0, 0, 0,
];
/// The longest challengeClient, in bytes.
pub const CLIENT_LEN: u16 = 32;
/// Lengths of 29 06 that can be right: a proof of 256 to 512 bytes and a key id of 8.
pub(crate) const PROOF_LEN: (u16, u16) = (288, 544 + CLIENT_LEN);

/// authenticationReturnParameter (annex B.5).
const REQUEST_ACCEPTED: u8 = 0x00;
const ACR_ASYMMETRIC: u8 = 0x03;
const DEAUTHENTICATED: u8 = 0x10;
const AUTHENTICATED: u8 = 0x12;

/// The bytes that a tester signs, hashed. `serial` is F18C, zero-filled.
#[must_use]
pub fn message_digest(serial: &[u8; 32], challenge: &[u8; SEED_LEN], client: &[u8]) -> [u8; 32] {
    sha256(&[b"CNAU", serial, challenge, client]).0
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// 29, a task that the service table has.
    pub(crate) fn authentication(&mut self, now: Instant, request: &[u8]) -> Result<Reply, Nrc> {
        let request = Authentication::parse(request).map_err(|error| error.nrc())?;
        match request.task {
            AuthenticationTask::DeAuthenticate => Ok(Reply::Now(Answer::DeAuthenticated)),
            AuthenticationTask::Configuration => Ok(Reply::Now(Answer::AuthenticationMethod)),
            AuthenticationTask::RequestChallenge {
                communication_configuration: 0,
                algorithm: ALGORITHM,
            } => self.reserve(now, Answer::Challenge),
            AuthenticationTask::VerifyProofUnidirectional(proof) => self.begin_proof(now, &proof),
            _ => Err(Nrc::REQUEST_OUT_OF_RANGE),
        }
    }

    fn begin_proof(&mut self, now: Instant, proof: &ProofParameters<'_>) -> Result<Reply, Nrc> {
        let challenge = self.access.take_challenge();
        let challenge = challenge.ok_or(Nrc::REQUEST_SEQUENCE_ERROR)?;
        let client = proof.challenge.bytes();
        let key_id = proof.additional.bytes().try_into().ok().map(KeyId);
        let signature = Signature::new(proof.proof.bytes());
        let (Some(key_id), Some(signature)) = (key_id, signature) else {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        };
        if proof.algorithm != ALGORITHM || client.len() > usize::from(CLIENT_LEN) {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        let mut serial = [0; 32];
        let text = self.platform.board().serial;
        for (to, from) in serial.iter_mut().zip(text.as_str().bytes()) {
            *to = from;
        }
        let digest = message_digest(&serial, &challenge, client);
        // It counts as wrong until it is right.
        self.access.count_wrong(now);
        let failed = Nrc::OWNERSHIP_VERIFICATION_FAILED;
        let testers = self.platform.testers().ok_or(failed)?;
        testers
            .begin_pinned(key_id, &digest, signature.as_bytes())
            .map_err(|_| failed)?;
        self.work = Work::Proof;
        Ok(Reply::Later)
    }

    /// A step of the proof's signature.
    pub(crate) fn step_proof(&mut self) {
        let progress = match self.platform.testers() {
            Some(testers) => testers.step(1),
            None => Progress::Invalid,
        };
        match progress {
            Progress::Pending => self.work = Work::Proof,
            Progress::Valid => self.clear_attempts(Then::Answer(Answer::Authenticated)),
            Progress::Invalid => self.answer = Some(Err(Nrc::OWNERSHIP_VERIFICATION_FAILED)),
        }
    }

    /// Writes a positive response; its length.
    pub(crate) fn write_authentication(
        &mut self,
        answer: Answer,
        response: &mut [u8],
    ) -> Result<usize, Nrc> {
        let none = Field::new(&[]).ok_or(Nrc::GENERAL_REJECT)?;
        let mut seed = [0; SEED_LEN];
        if answer == Answer::Challenge {
            seed = self.make_challenge()?;
        }
        let challenge = Field::new(&seed).ok_or(Nrc::GENERAL_REJECT)?;
        let (return_parameter, result) = match answer {
            Answer::Challenge => (
                REQUEST_ACCEPTED,
                AuthenticationResult::RequestChallenge {
                    algorithm: ALGORITHM,
                    challenge,
                    needed_additional: none,
                },
            ),
            Answer::Authenticated => (
                AUTHENTICATED,
                AuthenticationResult::VerifyProofUnidirectional {
                    algorithm: ALGORITHM,
                    session_key_info: none,
                },
            ),
            Answer::DeAuthenticated => (DEAUTHENTICATED, AuthenticationResult::DeAuthenticate),
            _ => (ACR_ASYMMETRIC, AuthenticationResult::Configuration),
        };
        let response_pdu = AuthenticationResponse {
            return_parameter,
            result,
        };
        let written = response_pdu.write(response);
        written.map_err(|_| Nrc::RESPONSE_TOO_LONG)
    }
}
