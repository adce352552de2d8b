//! Which rules hold in which block.

use alloy_consensus::Header;
use alloy_eips::eip7840::BlobParams;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

/// Where the forks of a chain begin: by block number until the Merge, by timestamp after it; `None`: not scheduled.
/// The Merge itself shows in a block's difficulty of zero (EIP-3675).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forks {
    /// EIP-606.
    pub homestead: Option<u64>,
    /// EIP-608 (`eip150Block`).
    pub tangerine: Option<u64>,
    /// EIP-607 (`eip158Block`).
    pub spurious: Option<u64>,
    /// EIP-609.
    pub byzantium: Option<u64>,
    /// EIP-1013. Its net gas metering is not known to revm: a block before Petersburg cannot be executed.
    pub constantinople: Option<u64>,
    /// EIP-1716.
    pub petersburg: Option<u64>,
    /// EIP-1679.
    pub istanbul: Option<u64>,
    /// Berlin.
    pub berlin: Option<u64>,
    /// London.
    pub london: Option<u64>,
    /// Shanghai, a timestamp as are all that follow.
    pub shanghai: Option<u64>,
    /// Cancun.
    pub cancun: Option<u64>,
    /// Prague.
    pub prague: Option<u64>,
    /// Osaka.
    pub osaka: Option<u64>,
    /// Not executed: its rules are not final.
    pub amsterdam: Option<u64>,
}

/// The blob parameters from a timestamp on (EIP-7840, EIP-7892).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobSchedule {
    /// The first timestamp.
    pub from: u64,
    /// Blobs a block that the fee aims at.
    pub target: u64,
    /// Most blobs a block.
    pub max: u64,
    /// How fast the fee follows.
    pub update_fraction: u64,
}

fn reached(fork: Option<u64>, at: u64) -> bool {
    fork.is_some_and(|first| at >= first)
}

impl Forks {
    /// Every fork up to Cancun from the genesis on.
    pub fn cancun_from_genesis() -> Self {
        let forks = Self { shanghai: Some(0), cancun: Some(0), ..Self::default() };
        forks.blocks_from_genesis()
    }

    /// The same with all forks by block number from the genesis on.
    pub(crate) fn blocks_from_genesis(self) -> Self {
        let [homestead, tangerine, spurious, byzantium, constantinople] = [Some(0); 5];
        let [petersburg, istanbul, berlin, london] = [Some(0); 4];
        Self {
            homestead,
            tangerine,
            spurious,
            byzantium,
            constantinople,
            petersburg,
            istanbul,
            berlin,
            london,
            ..self
        }
    }

    /// The rules of the block with this header; `Err` names a fork that cannot be executed.
    pub fn spec(&self, header: &Header) -> Result<SpecId, &'static str> {
        let (number, time) = (header.number, header.timestamp);
        if header.difficulty.is_zero() && number > 0 {
            let times = [
                (self.osaka, SpecId::OSAKA),
                (self.prague, SpecId::PRAGUE),
                (self.cancun, SpecId::CANCUN),
                (self.shanghai, SpecId::SHANGHAI),
            ];
            if reached(self.amsterdam, time) {
                return Err("Amsterdam");
            }
            let spec = times.into_iter().find(|(fork, _)| reached(*fork, time));
            return Ok(spec.map_or(SpecId::MERGE, |(_, spec)| spec));
        }
        if reached(self.constantinople, number) && !reached(self.petersburg, number) {
            return Err("Constantinople without Petersburg");
        }
        let blocks = [
            (self.london, SpecId::LONDON),
            (self.berlin, SpecId::BERLIN),
            (self.istanbul, SpecId::ISTANBUL),
            (self.petersburg, SpecId::PETERSBURG),
            (self.byzantium, SpecId::BYZANTIUM),
            (self.spurious, SpecId::SPURIOUS_DRAGON),
            (self.tangerine, SpecId::TANGERINE),
            (self.homestead, SpecId::HOMESTEAD),
        ];
        let spec = blocks.into_iter().find(|(fork, _)| reached(*fork, number));
        Ok(spec.map_or(SpecId::FRONTIER, |(_, spec)| spec))
    }

    /// The blob parameters at `timestamp`: those of `schedule`, and where it says nothing the network's own.
    pub(crate) fn blob_params(&self, schedule: &[BlobSchedule], timestamp: u64) -> BlobParams {
        let osaka = reached(self.osaka, timestamp);
        let known = match (osaka, reached(self.prague, timestamp)) {
            (true, _) => BlobParams::osaka(),
            (false, true) => BlobParams::prague(),
            (false, false) => BlobParams::cancun(),
        };
        let Some(entry) = schedule.iter().rev().find(|entry| timestamp >= entry.from) else { return known };
        BlobParams {
            target_blob_count: entry.target,
            max_blob_count: entry.max,
            update_fraction: u128::from(entry.update_fraction),
            // Osaka bounds a transaction apart from the block (EIP-7594).
            max_blobs_per_tx: if osaka { known.max_blobs_per_tx } else { entry.max },
            ..known
        }
    }
}
