//! Which attack a refusal looks like, for reports to the director (Uptane Standard 2.1, clauses 4.3 and
//! 5.4.4.2). A fault of the OEM's own looks the same.

use crate::{
    error::{DocumentFault, GrantFault, Refusal, TargetFault, VerifyError},
    meta::{Malformed, RoleName},
    time::TimeFault,
};
use core::fmt;
use serde::{Deserialize, Serialize};

/// An attack of Uptane's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// A part of what is needed is withheld.
    PartialBundle,
    /// What was believed once is to be replaced by something older.
    Rollback,
    /// What is shown is out of date.
    Freeze,
    /// Parts are shown that were never published together.
    MixAndMatch,
    /// What is asked of the vehicle's ECUs does not belong together.
    MixedBundles,
    /// More is sent than was announced or is allowed.
    EndlessData,
    /// Something is shown that nobody entitled has signed.
    ArbitrarySoftware,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PartialBundle => "partial bundle",
            Self::Rollback => "rollback",
            Self::Freeze => "freeze",
            Self::MixAndMatch => "mix and match",
            Self::MixedBundles => "mixed bundles",
            Self::EndlessData => "endless data",
            Self::ArbitrarySoftware => "arbitrary software",
        })
    }
}

impl VerifyError {
    /// The attack that the refusal looks like.
    #[must_use]
    pub fn attack(&self) -> Attack {
        match self {
            Self::Document { refusal, .. } => of_document(refusal),
            // An old answer keeps old statements alive.
            Self::Time(TimeFault::Nonce | TimeFault::Back { .. }) => Attack::Freeze,
            Self::Time(TimeFault::Malformed(Malformed::TooLong { .. })) => Attack::EndlessData,
            Self::Time(_) => Attack::ArbitrarySoftware,
            Self::Target { fault, .. } => of_target(fault),
        }
    }
}

fn of_document(refusal: &Refusal) -> Attack {
    use DocumentFault as Of;
    match &refusal.fault {
        Of::Missing => Attack::PartialBundle,
        Of::Malformed(Malformed::TooLong { .. }) | Of::ChainTooLong => Attack::EndlessData,
        Of::Malformed(_)
        | Of::Signatures(_)
        | Of::PredecessorSignatures(_)
        | Of::Delegates
        | Of::Custom(_) => Attack::ArbitrarySoftware,
        // A newer one than the snapshot names.
        Of::Version { expected }
            if refusal.role == RoleName::Targets && refusal.version > Some(*expected) =>
        {
            Attack::MixAndMatch
        }
        Of::Version { .. } | Of::NamesOlder { .. } | Of::NoLongerNamed(_) => Attack::Rollback,
        Of::Expired { .. } => Attack::Freeze,
        Of::NotAsNamed | Of::NotNamed => Attack::MixAndMatch,
        Of::OtherVehicle(_) => Attack::MixedBundles,
    }
}

const fn of_target(fault: &TargetFault) -> Attack {
    match fault {
        TargetFault::Disagreement { .. } => Attack::MixAndMatch,
        TargetFault::Grant {
            fault: GrantFault::Sequence,
            ..
        } => Attack::Rollback,
        TargetFault::TooLong { .. } => Attack::EndlessData,
        TargetFault::NoEcu
        | TargetFault::UnknownEcu(_)
        | TargetFault::EcuTwice(_)
        | TargetFault::Hardware(_) => Attack::MixedBundles,
        TargetFault::NotInImageRepository
        | TargetFault::Path
        | TargetFault::NoSha256
        | TargetFault::OtherDigest
        | TargetFault::Custom { .. }
        | TargetFault::Grant { .. } => Attack::ArbitrarySoftware,
    }
}
