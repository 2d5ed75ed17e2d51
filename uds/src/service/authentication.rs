//! Authentication (ISO 14229-1:2020 clause 10.6): 29.

use super::SubFunction;
use super::codec::{Field, ParseError, ParseErrorKind, Pdu, Reader, Writer};

/// algorithmIndicator: an object identifier in BER, zero-padded.
pub type AlgorithmIndicator = [u8; 16];

/// A certificate and, perhaps, the client's challenge (sub-functions 01 and 02).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateParameters<'a> {
    /// communicationConfiguration: how messages are secured afterwards; 0 not at all.
    pub communication_configuration: u8,
    /// certificateClient.
    pub certificate: Field<'a>,
    /// challengeClient.
    pub challenge: Field<'a>,
}

/// A proof for a challenge (sub-functions 06 and 07).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofParameters<'a> {
    /// The algorithm of the proof.
    pub algorithm: AlgorithmIndicator,
    /// proofOfOwnershipClient.
    pub proof: Field<'a>,
    /// challengeClient.
    pub challenge: Field<'a>,
    /// additionalParameter.
    pub additional: Field<'a>,
}

/// authenticationTask of a request with its parameters (table 75).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationTask<'a> {
    /// 00 deAuthenticate.
    DeAuthenticate,
    /// 01 verifyCertificateUnidirectional.
    VerifyCertificateUnidirectional(CertificateParameters<'a>),
    /// 02 verifyCertificateBidirectional.
    VerifyCertificateBidirectional(CertificateParameters<'a>),
    /// 03 proofOfOwnership.
    ProofOfOwnership {
        /// proofOfOwnershipClient.
        proof: Field<'a>,
        /// ephemeralPublicKeyClient.
        ephemeral_public_key: Field<'a>,
    },
    /// 04 transmitCertificate.
    TransmitCertificate {
        /// certificateEvaluationId.
        evaluation_id: u16,
        /// certificateData.
        certificate: Field<'a>,
    },
    /// 05 requestChallengeForAuthentication.
    RequestChallenge {
        /// communicationConfiguration.
        communication_configuration: u8,
        /// The algorithm the client will use.
        algorithm: AlgorithmIndicator,
    },
    /// 06 verifyProofOfOwnershipUnidirectional.
    VerifyProofUnidirectional(ProofParameters<'a>),
    /// 07 verifyProofOfOwnershipBidirectional.
    VerifyProofBidirectional(ProofParameters<'a>),
    /// 08 authenticationConfiguration.
    Configuration,
}

/// `29 task parameters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authentication<'a> {
    /// What is asked for.
    pub task: AuthenticationTask<'a>,
    /// No positive response is wanted.
    pub suppress: bool,
}

impl AuthenticationTask<'_> {
    /// The sub-function's value.
    #[must_use]
    pub const fn value(&self) -> u8 {
        match self {
            Self::DeAuthenticate => 0,
            Self::VerifyCertificateUnidirectional(_) => 1,
            Self::VerifyCertificateBidirectional(_) => 2,
            Self::ProofOfOwnership { .. } => 3,
            Self::TransmitCertificate { .. } => 4,
            Self::RequestChallenge { .. } => 5,
            Self::VerifyProofUnidirectional(_) => 6,
            Self::VerifyProofBidirectional(_) => 7,
            Self::Configuration => 8,
        }
    }
}

impl<'a> CertificateParameters<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            communication_configuration: reader.u8("communicationConfiguration")?,
            certificate: Field::read(reader, "certificateClient")?,
            challenge: Field::read(reader, "challengeClient")?,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.communication_configuration);
        writer.field(self.certificate);
        writer.field(self.challenge);
    }
}

impl<'a> ProofParameters<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            algorithm: reader.array("algorithmIndicator")?,
            proof: Field::read(reader, "proofOfOwnershipClient")?,
            challenge: Field::read(reader, "challengeClient")?,
            additional: Field::read(reader, "additionalParameter")?,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.bytes(&self.algorithm);
        writer.field(self.proof);
        writer.field(self.challenge);
        writer.field(self.additional);
    }
}

impl<'a> Pdu<'a> for Authentication<'a> {
    const FIRST: u8 = 0x29;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        use AuthenticationTask as Task;
        let sub_function = SubFunction::from_byte(reader.u8("authenticationTask")?);
        let task = match sub_function.value() {
            0 => Task::DeAuthenticate,
            1 => Task::VerifyCertificateUnidirectional(CertificateParameters::read(reader)?),
            2 => Task::VerifyCertificateBidirectional(CertificateParameters::read(reader)?),
            3 => Task::ProofOfOwnership {
                proof: Field::read(reader, "proofOfOwnershipClient")?,
                ephemeral_public_key: Field::read(reader, "ephemeralPublicKeyClient")?,
            },
            4 => Task::TransmitCertificate {
                evaluation_id: reader.u16("certificateEvaluationId")?,
                certificate: Field::read(reader, "certificateData")?,
            },
            5 => Task::RequestChallenge {
                communication_configuration: reader.u8("communicationConfiguration")?,
                algorithm: reader.array("algorithmIndicator")?,
            },
            6 => Task::VerifyProofUnidirectional(ProofParameters::read(reader)?),
            7 => Task::VerifyProofBidirectional(ProofParameters::read(reader)?),
            8 => Task::Configuration,
            other => return Err(reader.invalid(ParseErrorKind::SubFunction(other))),
        };
        Ok(Self {
            task,
            suppress: sub_function.suppress,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        use AuthenticationTask as Task;
        writer.u8(SubFunction::new(self.task.value(), self.suppress).byte());
        match &self.task {
            Task::DeAuthenticate | Task::Configuration => {}
            Task::VerifyCertificateUnidirectional(parameters)
            | Task::VerifyCertificateBidirectional(parameters) => parameters.emit(writer),
            Task::ProofOfOwnership {
                proof,
                ephemeral_public_key,
            } => {
                writer.field(*proof);
                writer.field(*ephemeral_public_key);
            }
            Task::TransmitCertificate {
                evaluation_id,
                certificate,
            } => {
                writer.u16(*evaluation_id);
                writer.field(*certificate);
            }
            Task::RequestChallenge {
                communication_configuration,
                algorithm,
            } => {
                writer.u8(*communication_configuration);
                writer.bytes(algorithm);
            }
            Task::VerifyProofUnidirectional(parameters)
            | Task::VerifyProofBidirectional(parameters) => parameters.emit(writer),
        }
    }
}

/// authenticationTask of a response with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationResult<'a> {
    /// 00 deAuthenticate.
    DeAuthenticate,
    /// 01 verifyCertificateUnidirectional.
    VerifyCertificateUnidirectional {
        /// challengeServer.
        challenge: Field<'a>,
        /// ephemeralPublicKeyServer.
        ephemeral_public_key: Field<'a>,
    },
    /// 02 verifyCertificateBidirectional.
    VerifyCertificateBidirectional {
        /// challengeServer.
        challenge: Field<'a>,
        /// certificateServer.
        certificate: Field<'a>,
        /// proofOfOwnershipServer.
        proof: Field<'a>,
        /// ephemeralPublicKeyServer.
        ephemeral_public_key: Field<'a>,
    },
    /// 03 proofOfOwnership.
    ProofOfOwnership {
        /// sessionKeyInfo.
        session_key_info: Field<'a>,
    },
    /// 04 transmitCertificate.
    TransmitCertificate,
    /// 05 requestChallengeForAuthentication.
    RequestChallenge {
        /// The algorithm to use.
        algorithm: AlgorithmIndicator,
        /// challengeServer.
        challenge: Field<'a>,
        /// neededAdditionalParameter.
        needed_additional: Field<'a>,
    },
    /// 06 verifyProofOfOwnershipUnidirectional.
    VerifyProofUnidirectional {
        /// The algorithm used.
        algorithm: AlgorithmIndicator,
        /// sessionKeyInfo.
        session_key_info: Field<'a>,
    },
    /// 07 verifyProofOfOwnershipBidirectional.
    VerifyProofBidirectional {
        /// The algorithm used.
        algorithm: AlgorithmIndicator,
        /// proofOfOwnershipServer.
        proof: Field<'a>,
        /// sessionKeyInfo.
        session_key_info: Field<'a>,
    },
    /// 08 authenticationConfiguration.
    Configuration,
}

impl AuthenticationResult<'_> {
    /// The sub-function's value.
    #[must_use]
    pub const fn value(&self) -> u8 {
        match self {
            Self::DeAuthenticate => 0,
            Self::VerifyCertificateUnidirectional { .. } => 1,
            Self::VerifyCertificateBidirectional { .. } => 2,
            Self::ProofOfOwnership { .. } => 3,
            Self::TransmitCertificate => 4,
            Self::RequestChallenge { .. } => 5,
            Self::VerifyProofUnidirectional { .. } => 6,
            Self::VerifyProofBidirectional { .. } => 7,
            Self::Configuration => 8,
        }
    }
}

/// `69 task authenticationReturnParameter parameters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthenticationResponse<'a> {
    /// authenticationReturnParameter (annex B.5).
    pub return_parameter: u8,
    /// What was asked for, with its result.
    pub result: AuthenticationResult<'a>,
}

impl<'a> Pdu<'a> for AuthenticationResponse<'a> {
    const FIRST: u8 = 0x69;

    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        use AuthenticationResult as Task;
        let task = super::management::echoed(reader)?;
        if task > 8 {
            return Err(reader.invalid(ParseErrorKind::SubFunction(task)));
        }
        let return_parameter = reader.u8("authenticationReturnParameter")?;
        let result = match task {
            0 => Task::DeAuthenticate,
            1 => Task::VerifyCertificateUnidirectional {
                challenge: Field::read(reader, "challengeServer")?,
                ephemeral_public_key: Field::read(reader, "ephemeralPublicKeyServer")?,
            },
            2 => Task::VerifyCertificateBidirectional {
                challenge: Field::read(reader, "challengeServer")?,
                certificate: Field::read(reader, "certificateServer")?,
                proof: Field::read(reader, "proofOfOwnershipServer")?,
                ephemeral_public_key: Field::read(reader, "ephemeralPublicKeyServer")?,
            },
            3 => Task::ProofOfOwnership {
                session_key_info: Field::read(reader, "sessionKeyInfo")?,
            },
            4 => Task::TransmitCertificate,
            5 => Task::RequestChallenge {
                algorithm: reader.array("algorithmIndicator")?,
                challenge: Field::read(reader, "challengeServer")?,
                needed_additional: Field::read(reader, "neededAdditionalParameter")?,
            },
            6 => Task::VerifyProofUnidirectional {
                algorithm: reader.array("algorithmIndicator")?,
                session_key_info: Field::read(reader, "sessionKeyInfo")?,
            },
            7 => Task::VerifyProofBidirectional {
                algorithm: reader.array("algorithmIndicator")?,
                proof: Field::read(reader, "proofOfOwnershipServer")?,
                session_key_info: Field::read(reader, "sessionKeyInfo")?,
            },
            _ => Task::Configuration,
        };
        Ok(Self {
            return_parameter,
            result,
        })
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        use AuthenticationResult as Task;
        writer.u8(self.result.value());
        writer.u8(self.return_parameter);
        let mut fields = |list: &[Field<'_>]| list.iter().for_each(|field| writer.field(*field));
        match &self.result {
            Task::DeAuthenticate | Task::TransmitCertificate | Task::Configuration => {}
            Task::VerifyCertificateUnidirectional {
                challenge,
                ephemeral_public_key,
            } => fields(&[*challenge, *ephemeral_public_key]),
            Task::VerifyCertificateBidirectional {
                challenge,
                certificate,
                proof,
                ephemeral_public_key,
            } => fields(&[*challenge, *certificate, *proof, *ephemeral_public_key]),
            Task::ProofOfOwnership { session_key_info } => fields(&[*session_key_info]),
            Task::RequestChallenge {
                algorithm,
                challenge,
                needed_additional,
            } => {
                writer.bytes(algorithm);
                writer.field(*challenge);
                writer.field(*needed_additional);
            }
            Task::VerifyProofUnidirectional {
                algorithm,
                session_key_info,
            } => {
                writer.bytes(algorithm);
                writer.field(*session_key_info);
            }
            Task::VerifyProofBidirectional {
                algorithm,
                proof,
                session_key_info,
            } => {
                writer.bytes(algorithm);
                writer.field(*proof);
                writer.field(*session_key_info);
            }
        }
    }
}
