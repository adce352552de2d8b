//! The rules of public networks, known by their genesis.

use alloy_primitives::{B256, address, b256};

use super::{BlobSchedule, Forks, Rules, Sealing};

pub(super) const MAINNET: B256 = b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
pub(super) const SEPOLIA: B256 = b256!("5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494");
const GOERLI: B256 = b256!("5d6cded585e73c4e322c30c2f782a336316f17dd85a4863b9d838d2d4b8b3008");

/// The rules of a public network, known by its genesis state root: their genesis files often come
/// without `config`.
pub fn public_network(genesis_root: B256) -> Option<Rules> {
    match genesis_root {
        MAINNET => Some(Rules::mainnet()),
        SEPOLIA => Some(sepolia()),
        GOERLI => Some(goerli()),
        _ => None,
    }
}

/// The two changes of blob parameters after Osaka, which are the same on all networks.
fn blobs(cancun: u64, prague: u64, bpo1: u64, bpo2: u64) -> Vec<BlobSchedule> {
    let entry = |from, target, max, update_fraction| BlobSchedule { from, target, max, update_fraction };
    vec![
        entry(cancun, 3, 6, 3_338_477),
        entry(prague, 6, 9, 5_007_716),
        entry(bpo1, 10, 15, 8_346_193),
        entry(bpo2, 14, 21, 11_684_671),
    ]
}

impl Rules {
    /// Those of mainnet.
    pub fn mainnet() -> Self {
        let forks = Forks {
            homestead: Some(1_150_000),
            tangerine: Some(2_463_000),
            spurious: Some(2_675_000),
            byzantium: Some(4_370_000),
            constantinople: Some(7_280_000),
            petersburg: Some(7_280_000),
            istanbul: Some(9_069_000),
            berlin: Some(12_244_000),
            london: Some(12_965_000),
            shanghai: Some(1_681_338_455),
            cancun: Some(1_710_338_135),
            prague: Some(1_746_612_311),
            osaka: Some(1_764_798_551),
            amsterdam: None,
        };
        Self {
            chain_id: Some(1),
            sealing: Sealing::Work,
            forks,
            dao_fork: Some(1_920_000),
            deposit_contract: Some(address!("0x00000000219ab540356cBB839Cbe05303d7705Fa")),
            blobs: blobs(1_710_338_135, 1_746_612_311, 1_765_290_071, 1_767_747_671),
        }
    }
}

fn sepolia() -> Rules {
    let forks = Forks {
        shanghai: Some(1_677_557_088),
        cancun: Some(1_706_655_072),
        prague: Some(1_741_159_776),
        osaka: Some(1_760_427_360),
        ..Forks::default()
    };
    Rules {
        chain_id: Some(11_155_111),
        sealing: Sealing::Work,
        forks: forks.blocks_from_genesis(),
        dao_fork: None,
        deposit_contract: Some(address!("0x7f02C3E3c98b133055B8B348B2Ac625669295295")),
        blobs: blobs(1_706_655_072, 1_741_159_776, 1_761_017_184, 1_761_607_008),
    }
}

fn goerli() -> Rules {
    let forks = Forks { shanghai: Some(1_678_832_736), cancun: Some(1_705_473_120), ..Forks::default() };
    let forks = Forks {
        istanbul: Some(1_561_651),
        berlin: Some(4_460_644),
        london: Some(5_062_605),
        ..forks.blocks_from_genesis()
    };
    Rules {
        chain_id: Some(5),
        sealing: Sealing::Authority,
        forks,
        dao_fork: None,
        deposit_contract: None,
        blobs: Vec::new(),
    }
}
