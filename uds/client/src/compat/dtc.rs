//! ReadDTCInformation: one method per report.

use super::{EcuResponseResult, UdsClient, UdsError};
use uds::service::{Dtc, DtcReport, ReadDtcInformation};

macro_rules! reports {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $kind:ty),*) = $report:expr;)*) => {
        /// # Errors
        /// Every method returns [`UdsError`].
        impl UdsClient {
            $(
                $(#[$doc])*
                pub async fn $name(&self, $($argument: $kind),*) -> EcuResponseResult {
                    self.read_dtc_information($report).await
                }
            )*
        }
    };
}

fn dtc(value: u32) -> Result<Dtc, UdsError> {
    Dtc::new(value).ok_or(UdsError::InvalidArgument)
}

impl UdsClient {
    /// 19: any report.
    ///
    /// # Errors
    /// [`UdsError`].
    pub async fn read_dtc_information(&self, report: DtcReport) -> EcuResponseResult {
        let suppress = false;
        self.call(ReadDtcInformation { report, suppress }).await
    }
}

reports! {
    /// 19 01.
    report_number_of_dtc_by_status_mask(dtc_status_mask: u8) =
        DtcReport::NumberByStatusMask(dtc_status_mask);
    /// 19 02.
    report_dtc_by_status_mask(dtc_status_mask: u8) = DtcReport::ByStatusMask(dtc_status_mask);
    /// 19 03.
    report_dtc_snapshot_identification() = DtcReport::SnapshotIdentification;
    /// 19 04; record 0xFF is all.
    report_dtc_snapshot_record_by_dtc_number(dtc_mask_record: u32, dtc_snapshot_record_number: u8) =
        DtcReport::SnapshotByDtc(dtc(dtc_mask_record)?, dtc_snapshot_record_number);
    /// 19 05.
    report_dtc_stored_data_by_record_number(record: u8) = DtcReport::StoredDataByRecord(record);
    /// 19 06; record 0xFF is all.
    report_dtc_ext_data_record_by_dtc_number(dtc_mask_record: u32, dtc_ext_data_record_number: u8) =
        DtcReport::ExtendedDataByDtc(dtc(dtc_mask_record)?, dtc_ext_data_record_number);
    /// 19 07.
    report_number_of_dtc_by_severity_mask_record(severity: u8, status: u8) =
        DtcReport::NumberBySeverityMask(severity, status);
    /// 19 08.
    report_dtc_by_severity_mask_record(severity: u8, status: u8) =
        DtcReport::BySeverityMask(severity, status);
    /// 19 09.
    report_severity_information_of_dtc(dtc_mask_record: u32) =
        DtcReport::SeverityOfDtc(dtc(dtc_mask_record)?);
    /// 19 0A.
    report_supported_dtc() = DtcReport::Supported;
    /// 19 0B.
    report_first_test_failed_dtc() = DtcReport::FirstTestFailed;
    /// 19 0C.
    report_first_confirmed_dtc() = DtcReport::FirstConfirmed;
    /// 19 0D.
    report_most_recent_test_failed_dtc() = DtcReport::MostRecentTestFailed;
    /// 19 0E.
    report_most_recent_confirmed_dtc() = DtcReport::MostRecentConfirmed;
    /// 19 14.
    report_dtc_fault_detection_counter() = DtcReport::FaultDetectionCounter;
    /// 19 15.
    report_dtc_with_permanent_status() = DtcReport::PermanentStatus;
}
