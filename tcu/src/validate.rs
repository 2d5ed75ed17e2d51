//! Everything is validated before the first ECU is touched: metadata, images, and what each ECU
//! says about itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use campaign::time::{Nonce, TimeSource};
use campaign::vehicle::Vehicle;
use campaign::{EcuTarget, Trust, UnixTime, Verification, VerifiedCampaign};
use ecu_image::provision::{ImageKey, KeySetBytes};
use ecu_image::verify::{METADATA_MAX_LEN, PageVerifier, Policy, VerifyError, verify_metadata};
use ecu_image::{GRANT_LEN, Grant, HEADER_LEN, Header, ImageDigest, KeyId, Signature};
use rand::RngExt;

use crate::engine::{Engine, Phase, PlannedEcu, Record, Restore, Running};
use crate::error::{Error, ImageFault};
use crate::fetch::Source;
use crate::flash::{Outcome, Packed, Target};
use crate::profile::SlotState;
use crate::signature::is_signed;

/// Fetches the documents of both repositories and verifies them. Returns the campaign, and the
/// trust to store once its images are verified too. `learned` stores at once the time that the director
/// attested and the roots that are believed, whatever comes of the campaign.
///
/// # Errors
///
/// [`Error::Fetch`], [`Error::Metadata`], those of `learned`.
pub async fn metadata(
    source: &Source,
    trust: &Trust,
    vehicle: &Vehicle,
    learned: impl Fn(&Trust) -> Result<(), Error>,
) -> Result<(VerifiedCampaign, Trust), Error> {
    let nonce = Nonce(crate::random().random());
    let verification = Verification::new(trust, vehicle, now())?;
    if verification.judged().source == TimeSource::Known {
        let known = verification.judged().now;
        tracing::warn!("the clock is behind {known}, which has been already; that time counts");
    }
    let mut verification = verification.asking_for_time(nonce);
    while let Some(wanted) = verification.wanted() {
        let document = source.document(&wanted.path, wanted.limit).await?;
        let result = verification.on_document(document.as_deref());
        if let Some(trust) = verification.take_learned() {
            learned(trust)?;
        }
        result?;
    }
    Ok(verification.finish()?)
}

fn now() -> UnixTime {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime::from_secs(elapsed.map_or(0, |elapsed| elapsed.as_secs()))
}

/// Verifies a packed image against the metadata, and its signature against the campaign's keys.
///
/// # Errors
///
/// [`Error::Image`], or the file cannot be read.
pub fn image(
    path: &Path,
    target: &EcuTarget,
    keys: &[ImageKey],
    policy: &Policy,
) -> Result<(), Error> {
    let refuse = |what| Error::Image {
        ecu: target.ecu.to_string(),
        what,
    };
    let check = |id: KeyId, signed: &[u8], signature: &Signature| {
        let signer = keys.iter().find(|key| key.id() == id);
        signer.is_some_and(|key| is_signed(key.as_ref(), signed, signature.as_bytes()))
    };
    let verified = stream(path, policy, check).map_err(Error::file(path))?;
    let (header, digest) = verified.map_err(|error| refuse(ImageFault::Envelope(error)))?;
    let disagreement = if digest != target.image_digest {
        Some("image digest")
    } else if header.hardware_id != target.hardware_id {
        Some("hardware id")
    } else if header.version != target.version {
        Some("version")
    } else if header.security_counter != target.security_counter {
        Some("security counter")
    } else {
        None
    };
    match disagreement {
        Some(field) => Err(refuse(ImageFault::Disagreement(field))),
        None => Ok(()),
    }
}

/// Verifies an image file with no more than its table and one page in memory.
fn stream(
    path: &Path,
    policy: &Policy,
    check: impl FnOnce(KeyId, &[u8], &Signature) -> bool,
) -> io::Result<Result<(Header, ImageDigest), VerifyError>> {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut start = vec![0; len.min(METADATA_MAX_LEN)];
    file.read_exact(&mut start)?;
    let verified = match verify_metadata(&start, len, policy, check) {
        Ok(verified) => verified,
        Err(error) => return Ok(Err(error)),
    };
    let (header, digest) = (verified.header.clone(), verified.digest);
    let table_len = u64::from(header.layout().table_len());
    file.seek(SeekFrom::Start(HEADER_LEN as u64 + table_len))?;
    let mut page = vec![0; header.layout().page_size().bytes()];
    let mut pages = PageVerifier::new(verified);
    for _ in 0..header.layout().page_count() {
        file.read_exact(&mut page)?;
        if let Err(error) = pages.update(&page) {
            return Ok(Err(error));
        }
    }
    Ok(pages.finish().map(|()| (header, digest)))
}

/// The target of an ECU whose image was verified when it came into the cache: its header is read
/// again, its identity compared, and the pages come from the file as they are sent. A file that cannot
/// be used matters to staging alone.
#[must_use]
pub fn target(path: &Path, planned: &PlannedEcu) -> Target {
    let grant = hex::decode(&planned.grant);
    let packed = packed(path, planned).map_err(|error| error.to_string());
    Target {
        image: planned.image,
        packed: packed.and_then(|packed| match &grant {
            Ok(_) => Ok(packed),
            Err(error) => Err(format!("the grant: {error}")),
        }),
        grant: grant.unwrap_or_default(),
        key_set: planned.key_set.clone(),
    }
}

fn packed(path: &Path, planned: &PlannedEcu) -> Result<Packed, Error> {
    use std::os::unix::fs::FileExt;

    let refuse = |what| Error::Image {
        ecu: planned.name.clone(),
        what,
    };
    let file = File::open(path).map_err(Error::file(path))?;
    let mut bytes = [0; HEADER_LEN];
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::file(path))?;
    let header = Header::parse(&bytes)
        .map_err(|error| refuse(ImageFault::Envelope(VerifyError::Header(error))))?;
    if Header::digest_of(&bytes) != planned.image {
        return Err(refuse(ImageFault::Disagreement("image digest")));
    }
    let metadata_len = HEADER_LEN as u64 + u64::from(header.layout().table_len());
    Ok(Packed {
        metadata_len: u32::try_from(metadata_len).unwrap_or(u32::MAX),
        page_size: header.layout().page_size().get(),
        page_count: header.layout().page_count(),
        source: Arc::new(file),
    })
}

/// Compares what an ECU says about itself with what the campaign means, and plans it.
///
/// # Errors
///
/// [`Error::Mismatch`].
pub fn plan_ecu(
    target: &EcuTarget,
    key_set: Option<&KeySetBytes>,
    bus: &str,
    found: &Outcome,
) -> Result<PlannedEcu, Error> {
    let refuse = |what: String| Error::Mismatch {
        ecu: target.ecu.to_string(),
        what,
    };
    let differ = |what: &str, expected: &str, found: &Option<String>| {
        let found = found.as_deref().unwrap_or("nothing");
        match found == expected {
            true => Ok(()),
            false => Err(refuse(format!("{what} {found}, {expected} expected"))),
        }
    };
    differ("serial", &target.serial.to_string(), &found.serial)?;
    differ("hardware", &target.hardware_id.to_string(), &found.hardware)?;
    let slot = found.status.find(&target.image_digest);
    let version = found.version.clone().unwrap_or_else(|| "none".into());
    let unchanged = matches!(slot, Some((SlotState::Sealed, true)));
    let planned = PlannedEcu {
        name: target.ecu.to_string(),
        bus: bus.to_owned(),
        image: target.image_digest,
        artifact: target.sha256,
        length: target.length,
        grant: hex::encode(&target.grant),
        key_set: key_set.filter(|set| is_for(set, target)).cloned(),
        from: Running {
            version,
            image: match slot {
                // The journal does not know what ran before; the ECU does.
                Some((_, true)) => ImageDigest::ZERO,
                _ => found.status.running.0,
            },
        },
        to_version: target.version.to_string(),
        unchanged,
        last: !unchanged && found.status.update_slots == 1,
        restore: None,
        after: Vec::new(),
    };
    if !planned.unchanged {
        check_grant(target, found).map_err(refuse)?;
    }
    Ok(planned)
}

/// Fresh grants for the ECUs that need them, as records: of the same images, or while reverting of
/// the images before.
#[must_use]
pub fn fresh_grants(engine: &Engine, targets: &[EcuTarget]) -> Vec<Record> {
    let reverting = engine.phase() == Phase::Reverting;
    let grant = |ecu: usize| {
        let planned = engine.plan().ecus.get(ecu)?;
        let wanted = if reverting {
            planned.from.image
        } else {
            planned.image
        };
        let target = targets
            .iter()
            .find(|target| target.ecu.as_str() == planned.name && target.image_digest == wanted)?;
        let (grant, artifact) = (hex::encode(&target.grant), target.sha256);
        let length = target.length;
        let known = match &planned.restore {
            Some(restore) => &restore.grant,
            None => &planned.grant,
        };
        if grant == *known {
            return None;
        }
        Some(if reverting {
            let image = Restore {
                artifact,
                length,
                grant,
            };
            Record::Restore { ecu, image }
        } else {
            Record::Regrant { ecu, grant }
        })
    };
    engine.needing_grants().filter_map(grant).collect()
}

/// Whether a key set is for the ECU's hardware.
fn is_for(set: &KeySetBytes, target: &EcuTarget) -> bool {
    set.parsed().is_ok_and(|set| {
        let named = set.hardware_id;
        named.is_none_or(|hardware| hardware == target.hardware_id)
    })
}

/// An ECU refuses a grant of an old sequence, and an image below its floor.
fn check_grant(target: &EcuTarget, found: &Outcome) -> Result<(), String> {
    let bytes: &[u8; GRANT_LEN] = match target.grant.as_slice().try_into() {
        Ok(bytes) => bytes,
        Err(_) => return Err("the grant has the wrong length".into()),
    };
    let grant = Grant::parse(bytes).map_err(|error| format!("the grant: {error}"))?;
    // The last one may come again, after a drop too; an image that was tried needs a new one.
    let slot = found.status.find(&target.image_digest);
    let was_tried = matches!(slot, Some((SlotState::Rejected, _)));
    let (sequence, last) = (grant.sequence.get(), found.status.grant_sequence);
    if sequence < last || (sequence == last && was_tried) {
        return Err(format!(
            "grant {sequence} is spent, the ECU has seen {last}; release the campaign again"
        ));
    }
    let (counter, floor) = (target.security_counter.get(), found.status.floor);
    if counter < floor && !grant.flags.downgrade {
        return Err(format!(
            "security counter {counter} is below the floor {floor}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
    use ecu_image::pack::GrantRequest;
    use ecu_image::{GrantFlags, Salt, SecurityCounter, SequenceNumber};

    use super::*;
    use crate::profile::{BootPhase, BootReason, BootStatus};

    const IMAGE: ImageDigest = ImageDigest([2; 32]);

    /// A target with grant 5 and counter 3.
    fn target(downgrade: bool) -> EcuTarget {
        let grant = Grant::issue(
            &GrantRequest {
                ecu_serial: "SN-1".parse().unwrap(),
                image_digest: IMAGE,
                sequence: SequenceNumber(5),
                flags: GrantFlags { downgrade },
                content_key: &ContentKey::Aes128([1; 16]),
                salt: Salt([1; 16]),
            },
            &WrapKey::new([1; 16]),
            &MacKey::new([2; 16]),
        );
        EcuTarget {
            ecu: "door".parse().unwrap(),
            serial: "SN-1".parse().unwrap(),
            hardware_id: "hw-a".parse().unwrap(),
            path: "door".parse().unwrap(),
            length: 1,
            sha256: ecu_image::Digest([0; 32]),
            image_digest: IMAGE,
            version: "1.0.0".parse().unwrap(),
            security_counter: SecurityCounter(3),
            grant: grant.encode().to_vec(),
            grant_sequence: SequenceNumber(5),
        }
    }

    /// An ECU that has seen grant `last`, with this in its other slot.
    fn found(last: u64, floor: u32, other: (ImageDigest, SlotState)) -> Outcome {
        Outcome {
            status: BootStatus {
                phase: BootPhase::Application,
                reason: BootReason::Normal,
                running: (ImageDigest([1; 32]), SlotState::Sealed),
                other,
                update_slots: 2,
                floor,
                grant_sequence: last,
            },
            version: None,
            serial: None,
            hardware: None,
            report: None,
        }
    }

    const NOTHING: (ImageDigest, SlotState) = (ImageDigest::ZERO, SlotState::Empty);

    #[test]
    fn a_grant_may_come_again_while_its_image_was_not_tried() {
        let check = |last, other| check_grant(&target(false), &found(last, 0, other));
        assert_eq!(check(4, NOTHING), Ok(()));
        assert_eq!(check(5, NOTHING), Ok(()), "equal, the digest is in no slot");
        assert_eq!(check(5, (IMAGE, SlotState::Staged)), Ok(()));
        let other = (ImageDigest([9; 32]), SlotState::Rejected);
        assert_eq!(check(5, other), Ok(()), "another image was rejected");
        for (last, other) in [(6, NOTHING), (5, (IMAGE, SlotState::Rejected))] {
            let spent = check(last, other).unwrap_err();
            assert!(spent.contains("grant 5 is spent"), "{spent}");
        }
    }

    #[test]
    fn below_the_floor_only_with_an_exception() {
        let check = |downgrade, floor| check_grant(&target(downgrade), &found(4, floor, NOTHING));
        assert_eq!(check(false, 3), Ok(()));
        assert!(check(false, 4).unwrap_err().contains("below the floor 4"));
        assert_eq!(check(true, 4), Ok(()));
    }
}
