//! The request of each step.

use ecu_image::crypto::MacKey;
use uds::service::{
    BlockSequenceCounter, DataFormat, DiagnosticSessionControl, Did, DidList, EcuReset, MemoryArea,
    Pdu, ReadDataByIdentifier, RequestDownload, RequestTransferExit, ResetType, RoutineControl,
    RoutineControlType, RoutineId, SecurityAccess, SecurityLevel, SecurityStep, Session,
    TransferData, WriteDataByIdentifier,
};

use super::{Flash, ImageSource as _, Step, What};
use crate::profile::{
    DID_BOOT_STATUS, DID_KEY_SET, DID_LAST_FAILURE, DID_PROGRESS, KEY_SET_ADDRESS,
    METADATA_ADDRESS, ROUTINE_ACTIVATE, ROUTINE_CHECK, ROUTINE_PRECONDITIONS, ROUTINE_REPORT,
    ROUTINE_REVERT, ROUTINE_SEAL,
};

/// Plain and unencrypted, as the metadata is.
const PLAIN: DataFormat = DataFormat(0x00);
/// Encrypted pages.
const ENCRYPTED: DataFormat = DataFormat(0x01);
/// Longer than any request but TransferData.
const SHORT_REQUEST: usize = 64;

impl Flash {
    /// Writes the request of `step` into the buffer.
    pub(super) fn build(&mut self, step: Step) -> Result<(), What> {
        match step {
            Step::BootStatus | Step::AwaitBoot | Step::AwaitHealthy => self.read(DID_BOOT_STATUS),
            Step::Serial => self.read(Did::ECU_SERIAL_NUMBER),
            Step::Hardware => self.read(Did::ECU_HARDWARE_NUMBER),
            Step::Version => self.read(Did::ECU_SOFTWARE_VERSION),
            Step::KeySet => self.read(DID_KEY_SET),
            Step::Progress => self.read(DID_PROGRESS),
            Step::LastFailure => self.read(DID_LAST_FAILURE),
            Step::ExtendedSession => self.session(Session::EXTENDED),
            Step::ProgrammingSession => self.session(Session::PROGRAMMING),
            Step::Reset => self.put(&EcuReset {
                reset: ResetType::HARD,
                suppress: false,
            }),
            Step::RequestSeed => self.access(SecurityStep::RequestSeed, &[]),
            Step::SendKey => {
                let key = key_for(&self.access_key, &self.seed);
                self.access(SecurityStep::SendKey, &key)
            }
            Step::Fingerprint => {
                let fingerprint = self.policy.fingerprint;
                self.put(&WriteDataByIdentifier {
                    did: Did::FINGERPRINT,
                    data: &fingerprint,
                })
            }
            Step::Preconditions => self.start(ROUTINE_PRECONDITIONS),
            Step::Erase => self.start(RoutineId::ERASE_MEMORY),
            Step::Check => self.start(ROUTINE_CHECK),
            Step::Dependencies => self.start(RoutineId::CHECK_PROGRAMMING_DEPENDENCIES),
            Step::Activate => self.start(ROUTINE_ACTIVATE),
            Step::Seal => self.start(ROUTINE_SEAL),
            Step::Revert => self.start(ROUTINE_REVERT),
            Step::Report => {
                let nonce = self.policy.nonce;
                self.start_with(ROUTINE_REPORT, &nonce)
            }
            Step::MetadataDownload => {
                let len = self.metadata_stream_len()?;
                self.download(PLAIN, MemoryArea::new(METADATA_ADDRESS, len))
            }
            Step::PayloadDownload => {
                let (offset, len) = (self.durable, self.packed()?.payload_len());
                let area = MemoryArea::new(offset, len.saturating_sub(offset));
                self.download(ENCRYPTED, area)
            }
            Step::KeySetDownload => {
                let len = self.key_set_len()?;
                self.download(PLAIN, MemoryArea::new(KEY_SET_ADDRESS, len))
            }
            Step::KeySetBlock | Step::MetadataBlock | Step::PayloadBlock => self.block(step),
            Step::KeySetExit | Step::MetadataExit | Step::PayloadExit => {
                self.put(&RequestTransferExit { record: &[] })
            }
        }
    }

    /// Writes a request that is not a block.
    fn put<'a>(&mut self, request: &impl Pdu<'a>) -> Result<(), What> {
        self.pdu.resize(SHORT_REQUEST, 0);
        let len = request
            .write(&mut self.pdu)
            .map_err(|error| What::Source(error.to_string()))?;
        self.pdu.truncate(len);
        Ok(())
    }

    fn read(&mut self, did: Did) -> Result<(), What> {
        let dids = DidList::new(std::slice::from_ref(&did))
            .ok_or_else(|| What::Source("no identifier to read".into()))?;
        self.put(&ReadDataByIdentifier { dids })
    }

    fn session(&mut self, session: Session) -> Result<(), What> {
        self.put(&DiagnosticSessionControl {
            session,
            suppress: false,
        })
    }

    fn access(&mut self, step: SecurityStep, data: &[u8]) -> Result<(), What> {
        self.put(&SecurityAccess {
            level: SecurityLevel::ONE,
            step,
            suppress: false,
            data,
        })
    }

    fn start(&mut self, routine: RoutineId) -> Result<(), What> {
        self.start_with(routine, &[])
    }

    fn start_with(&mut self, routine: RoutineId, option: &[u8]) -> Result<(), What> {
        self.put(&RoutineControl {
            control: RoutineControlType::Start,
            suppress: false,
            routine,
            option,
        })
    }

    fn download(&mut self, format: DataFormat, area: MemoryArea) -> Result<(), What> {
        self.put(&RequestDownload { format, area })
    }

    /// `36 counter data`, the data read straight into the request.
    fn block(&mut self, step: Step) -> Result<(), What> {
        let (counter, offset, len) = self
            .transfer
            .and_then(|transfer| transfer.block())
            .ok_or_else(|| What::WrongContent("no block left".into()))?;
        let counter = BlockSequenceCounter(counter);
        self.put(&TransferData { counter, data: &[] })?;
        self.pdu.resize(2 + len as usize, 0);
        let target = self.target.as_ref().ok_or(What::NotRunning)?;
        let data = self.pdu.get_mut(2..).unwrap_or_default();
        let read = match step {
            Step::PayloadBlock => {
                let packed = packed_of(target)?;
                let start = u64::from(packed.metadata_len) + u64::from(offset);
                packed.source.read(start, data)
            }
            Step::KeySetBlock => key_set_of(target).read(offset.into(), data),
            _ => {
                let source = packed_of(target)?.source.as_ref();
                read_metadata(&target.grant, source, offset as usize, data)
            }
        };
        read.map_err(|error| What::Source(error.to_string()))
    }

    /// Length of `grant ‖ header ‖ table pages`.
    pub(super) fn metadata_stream_len(&self) -> Result<u32, What> {
        let (target, packed) = (self.target()?, self.packed()?);
        u32::try_from(target.grant.len())
            .ok()
            .and_then(|len| len.checked_add(packed.metadata_len))
            .ok_or_else(|| What::Source("the metadata is too long".into()))
    }

    /// Length of the key set.
    pub(super) fn key_set_len(&self) -> Result<u32, What> {
        u32::try_from(key_set_of(self.target()?).len())
            .map_err(|_| What::Source("the key set is too long".into()))
    }

    pub(super) fn target(&self) -> Result<&super::Target, What> {
        self.target
            .as_ref()
            .ok_or_else(|| What::Source("the job has no image".into()))
    }

    pub(super) fn packed(&self) -> Result<&super::Packed, What> {
        packed_of(self.target()?)
    }
}

/// The key of `27 02`: AES-CMAC under the ECU's access key over `seed ‖ 01`.
fn key_for(access_key: &MacKey, seed: &[u8]) -> [u8; 16] {
    let mut message = seed.to_vec();
    message.push(0x01);
    access_key.mac(&message)
}

fn packed_of(target: &super::Target) -> Result<&super::Packed, What> {
    let packed = target.packed.as_ref();
    packed.map_err(|why| What::Source(why.clone()))
}

fn key_set_of(target: &super::Target) -> &[u8] {
    target.key_set.as_ref().map_or(&[], |set| set.as_bytes())
}

/// Bytes of `grant ‖ header ‖ table pages` from `offset` on.
fn read_metadata(
    grant: &[u8],
    source: &dyn super::ImageSource,
    offset: usize,
    data: &mut [u8],
) -> std::io::Result<()> {
    let length = grant.len();
    let grant = grant.get(offset..).unwrap_or_default();
    let (from_grant, rest) = data.split_at_mut(grant.len().min(data.len()));
    from_grant.copy_from_slice(&grant[..from_grant.len()]);
    if rest.is_empty() {
        return Ok(());
    }
    let start = (offset + from_grant.len()).saturating_sub(length);
    source.read(start as u64, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_covers_the_seed_and_the_level() {
        // Computed with `openssl mac -cipher AES-128-CBC -macopt hexkey:.. CMAC` over seed ‖ 01.
        let key = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(
            hex::encode(key_for(&MacKey::new(key), &[0x5A; 16])),
            "f2e6c8203946b6e1c87550cbfe1e9ff4"
        );
    }
}
