//! From a PDU to a response.

use super::error::of_response;
use super::response::*;
use super::{EcuResponseResult, UdsError};
use uds::service::{
    self, AuthenticationResult, DtcRecords, DtcReportBody, Field, Response as Message,
};

/// The response that `pdu` is, to a request of `sid`.
pub(super) fn response(sid: u8, pdu: &[u8]) -> EcuResponseResult {
    let message = Message::parse(pdu).map_err(|error| of_response(sid, error, pdu))?;
    Ok(match message {
        Message::DiagnosticSessionControl(m) => {
            let timing = m.timing.map_or((0, 0), |t| (t.p2_1ms, t.p2_star_10ms));
            UdsResponse::DiagnosticSessionControl(DataFormat::Parsed(
                DiagnosticSessionControlResponse {
                    session: m.session.value(),
                    p2: timing.0,
                    p2_star: timing.1,
                },
            ))
        }
        Message::EcuReset(m) => UdsResponse::EcuReset(DataFormat::Parsed(EcuResetResponse {
            reset_type: reset_type(m.reset).ok_or_else(|| incorrect(pdu))?,
            power_down_time: m.power_down_time,
        })),
        Message::ClearDiagnosticInformation(_) => UdsResponse::ClearDiagnosticInformation,
        Message::ReadDtcInformation(m) => UdsResponse::ReadDTCInformation(dtcs(&m, pdu)),
        Message::ReadDataByIdentifier(m) => {
            let record = DataRecord {
                data_identifier: m.did.0,
                data: m.data.to_vec(),
            };
            UdsResponse::ReadDataByIdentifier(DataFormat::Parsed(ReadDataByIdentifierResponse {
                data_records: vec![record],
            }))
        }
        Message::ReadMemoryByAddress(m) => {
            UdsResponse::ReadMemoryByAddress(DataFormat::Parsed(ReadMemoryByAddressResponse {
                data_record: m.data.to_vec(),
            }))
        }
        Message::SecurityAccess(m) => UdsResponse::SecurityAccess(SecurityAccessResponse {
            sub_function: pdu.get(1).copied().unwrap_or(0),
            seed: m.seed.to_vec(),
        }),
        Message::CommunicationControl(m) => {
            let control_type = m.value();
            UdsResponse::CommunicationControl(CommunicationControlResponse { control_type })
        }
        Message::Authentication(m) => UdsResponse::Authentication(authentication(&m)),
        Message::WriteDataByIdentifier(m) => {
            UdsResponse::WriteDataByIdentifier(DataFormat::Parsed(WriteDataByIdentifierResponse {
                data_identifier: m.did.0,
            }))
        }
        Message::InputOutputControlByIdentifier(m) => {
            UdsResponse::InputOutputControlByIdentifier(InputOutputControlByIdentifierResponse {
                did: m.did,
                parameter: m.parameter.0,
                state: m.state.to_vec(),
            })
        }
        Message::RoutineControl(m) => UdsResponse::RoutineControl(RoutineControlResponse {
            control_type: m.control.value(),
            routine: m.routine,
            status: m.status.to_vec(),
        }),
        Message::RequestDownload(m) => UdsResponse::RequestDownload(RequestTransferResponse {
            max_block_length: m.max_block_length.value(),
        }),
        Message::RequestUpload(m) => UdsResponse::RequestUpload(RequestTransferResponse {
            max_block_length: m.max_block_length.value(),
        }),
        Message::TransferData(m) => UdsResponse::TransferData(TransferDataResponse {
            counter: m.counter,
            record: m.data.to_vec(),
        }),
        Message::RequestTransferExit(m) => UdsResponse::RequestTransferExit(m.record.to_vec()),
        Message::TesterPresent(_) => UdsResponse::TesterPresent,
        Message::ControlDtcSetting(m) => {
            let setting_type = m.value();
            UdsResponse::ControlDTCSetting(ControlDTCSettingResponse { setting_type })
        }
        Message::Negative(_) => return Err(incorrect(pdu)),
    })
}

fn incorrect(pdu: &[u8]) -> UdsError {
    UdsError::ResponseIncorrect {
        raw_message: pdu.to_vec(),
    }
}

fn reset_type(reset: service::ResetType) -> Option<ResetType> {
    Some(match reset.value() {
        1 => ResetType::HardReset,
        2 => ResetType::KeyOffOnReset,
        3 => ResetType::SoftReset,
        4 => ResetType::EnableRapidPowerShutDown,
        5 => ResetType::DisableRapidPowerShutDown,
        _ => return None,
    })
}

fn pairs(records: DtcRecords<'_, 4>) -> Vec<DTCAndStatusRecord> {
    let record = |(dtc, status_of_dtc): (service::Dtc, u8)| DTCAndStatusRecord {
        dtc: dtc.value(),
        status_of_dtc,
    };
    records.dtcs().map(record).collect()
}

fn severities(records: DtcRecords<'_, 6>) -> Vec<DTCAndSeverityRecord> {
    let record =
        |[severity, functional_unit, a, b, c, status_of_dtc]: [u8; 6]| DTCAndSeverityRecord {
            severity,
            functional_unit,
            dtc: u32::from_be_bytes([0, a, b, c]),
            status_of_dtc,
        };
    records.iter().map(record).collect()
}

fn format(byte: u8) -> DTCFormat {
    match byte {
        0 => DTCFormat::SAE_J2012_DA_0,
        1 => DTCFormat::ISO_14229_1,
        2 => DTCFormat::SAE_J1939_73,
        3 => DTCFormat::ISO_11992_4,
        4 => DTCFormat::SAE_J2012_DA_4,
        other => DTCFormat::Reserved(other),
    }
}

fn dtcs(
    message: &service::ReadDtcInformationResponse<'_>,
    pdu: &[u8],
) -> DataFormat<ReadDTCInformationResponse> {
    use ReadDTCInformationResponse as Report;
    let raw = || DataFormat::Raw(pdu.get(1..).unwrap_or(&[]).to_vec());
    let report = match (message.report(), message.body()) {
        (
            report,
            DtcReportBody::Number {
                availability,
                format: id,
                count,
            },
        ) => {
            let number = ReportNumberOfDTCByMaskResponse {
                dtc_status_availability_mask: availability,
                dtc_format_identifier: format(id),
                dtc_count: count,
            };
            match report {
                0x01 => Report::ReportNumberOfDTCbyStatusMask(number),
                _ => Report::ReportNumberOfDTCBySeverityMaskRecord(number),
            }
        }
        (
            report,
            DtcReportBody::Status {
                availability,
                records,
            },
        ) => {
            let list = ReportDTCsResponse {
                dtc_status_availability_mask: availability,
                dtc_and_status_records: pairs(records),
            };
            match report {
                0x02 => Report::ReportDTCByStatusMask(list),
                0x0A => Report::ReportSupportedDTC(list),
                0x0B => Report::ReportFirstTestFailedDTC(list),
                0x0C => Report::ReportFirstConfirmedDTC(list),
                0x0D => Report::ReportMostRecentTestFailedDTC(list),
                0x0E => Report::ReportMostRecentConfirmedDTC(list),
                _ => Report::ReportDTCWithPermanentStatus(list),
            }
        }
        (0x03, DtcReportBody::Pairs(records)) => {
            Report::ReportDTCSnapshotIdentification(pairs(records))
        }
        (_, DtcReportBody::Pairs(records)) => {
            Report::ReportDTCFaultDetectionCounter(pairs(records))
        }
        (
            report,
            DtcReportBody::Severity {
                availability,
                records,
            },
        ) => {
            let list = ReportDTCsBySeverityResponse {
                dtc_status_availability_mask: availability,
                dtc_and_severity_records: severities(records),
            };
            match report {
                0x08 => Report::ReportDTCBySeverityMaskRecord(list),
                _ => Report::ReportSeverityInformationOfDTC(list),
            }
        }
        (0x04, DtcReportBody::Other(bytes)) => match *bytes {
            [a, b, c, status_of_dtc, ref snapshots @ ..] => {
                let dtc = u32::from_be_bytes([0, a, b, c]);
                Report::ReportDTCSnapshotRecordByDTCNumber(ReportDTCSnapshotRecordByDTCNumber {
                    dtc_and_status_record: DTCAndStatusRecord { dtc, status_of_dtc },
                    snapshot_records: snapshots.to_vec(),
                })
            }
            _ => return raw(),
        },
        (_, DtcReportBody::Other(_)) => return raw(),
    };
    DataFormat::Parsed(report)
}

fn authentication(message: &service::AuthenticationResponse<'_>) -> AuthenticationResponse {
    use AuthenticationResult as Task;
    let bytes = |field: Field<'_>| field.bytes().to_vec();
    let common = AuthenticationResponse {
        task: message.result.value(),
        return_parameter: message.return_parameter,
        ..AuthenticationResponse::default()
    };
    match message.result {
        Task::DeAuthenticate | Task::TransmitCertificate | Task::Configuration => common,
        Task::VerifyCertificateUnidirectional {
            challenge,
            ephemeral_public_key,
        } => AuthenticationResponse {
            challenge: bytes(challenge),
            ephemeral_public_key: bytes(ephemeral_public_key),
            ..common
        },
        Task::VerifyCertificateBidirectional {
            challenge,
            certificate,
            proof,
            ephemeral_public_key,
        } => AuthenticationResponse {
            challenge: bytes(challenge),
            certificate: bytes(certificate),
            proof: bytes(proof),
            ephemeral_public_key: bytes(ephemeral_public_key),
            ..common
        },
        Task::ProofOfOwnership { session_key_info } => AuthenticationResponse {
            session_key_info: bytes(session_key_info),
            ..common
        },
        Task::RequestChallenge {
            algorithm,
            challenge,
            needed_additional,
        } => AuthenticationResponse {
            algorithm: Some(algorithm),
            challenge: bytes(challenge),
            needed_additional: bytes(needed_additional),
            ..common
        },
        Task::VerifyProofUnidirectional {
            algorithm,
            session_key_info,
        } => AuthenticationResponse {
            algorithm: Some(algorithm),
            session_key_info: bytes(session_key_info),
            ..common
        },
        Task::VerifyProofBidirectional {
            algorithm,
            proof,
            session_key_info,
        } => AuthenticationResponse {
            algorithm: Some(algorithm),
            proof: bytes(proof),
            session_key_info: bytes(session_key_info),
            ..common
        },
    }
}
