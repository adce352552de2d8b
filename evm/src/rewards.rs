//! Block and uncle rewards of proof of work (yellow paper, section 11.3; EIP-649, EIP-1234, EIP-3675).

use alloy_consensus::Header;
use alloy_primitives::{Address, U256};

use crate::{
    Error,
    chain::{Rules, Sealing},
};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// The deepest that an uncle may lie below the block that names it.
const MAX_UNCLE_DISTANCE: u64 = 6;
const MAX_UNCLES: usize = 2;

/// The block reward at `number` in wei, while there is one.
pub fn block_reward(rules: &Rules, number: u64) -> u128 {
    let active = |fork: Option<u64>| fork.is_some_and(|first| number >= first);
    if active(rules.forks.constantinople) {
        2 * ETHER
    } else if active(rules.forks.byzantium) {
        3 * ETHER
    } else {
        5 * ETHER
    }
}

/// Who is paid what for a block, in the order in which clients pay: its uncles' beneficiaries, then its
/// own. Someone may come twice. Empty for the genesis, after the Merge and under proof of authority.
///
/// Fails on more than two uncles, and on an uncle that is not 1 to 6 blocks older than the block.
pub fn rewards(rules: &Rules, header: &Header, uncles: &[Header]) -> Result<Vec<(Address, U256)>, Error> {
    let number = header.number;
    let invalid = |reason| Err(Error::InvalidBlock { number, reason });
    if uncles.len() > MAX_UNCLES {
        return invalid(format!("{} uncles, at most {MAX_UNCLES} are allowed", uncles.len()));
    }
    // A difficulty of zero is what marks a block of proof of stake (EIP-3675).
    let paid = rules.sealing == Sealing::Work && !header.difficulty.is_zero() && number > 0;
    if !paid {
        if !uncles.is_empty() {
            return invalid("uncles where there is no proof of work".into());
        }
        return Ok(Vec::new());
    }
    let reward = block_reward(rules, number);
    let mut payments = Vec::with_capacity(uncles.len() + 1);
    for uncle in uncles {
        let distance = number.saturating_sub(uncle.number);
        if distance == 0 || distance > MAX_UNCLE_DISTANCE {
            return invalid(format!("an uncle has number {}", uncle.number));
        }
        payments.push((uncle.beneficiary, U256::from(reward * u128::from(8 - distance) / 8)));
    }
    let nephew = reward / 32 * uncles.len() as u128;
    payments.push((header.beneficiary, U256::from(reward + nephew)));
    Ok(payments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::public_network;

    fn mainnet() -> Rules {
        let root =
            alloy_primitives::b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
        public_network(root).unwrap()
    }

    fn header(number: u64, who: u8) -> Header {
        Header {
            number,
            beneficiary: Address::repeat_byte(who),
            difficulty: U256::from(1),
            ..Default::default()
        }
    }

    #[test]
    fn the_block_reward_follows_the_forks() {
        let rules = mainnet();
        for (number, ether) in
            [(1, 5), (4_369_999, 5), (4_370_000, 3), (7_279_999, 3), (7_280_000, 2), (15_000_000, 2)]
        {
            assert_eq!(block_reward(&rules, number), ether * ETHER, "{number}");
        }
    }

    #[test]
    fn uncles_are_paid_by_distance_and_nephews_a_thirty_second_each() {
        let paid = rewards(&mainnet(), &header(10, 1), &[header(9, 2), header(4, 3)]).unwrap();
        let wei = |eighths: u128| U256::from(5 * ETHER * eighths / 8);
        assert_eq!(paid[0], (Address::repeat_byte(2), wei(7)));
        assert_eq!(paid[1], (Address::repeat_byte(3), wei(2)));
        assert_eq!(paid[2], (Address::repeat_byte(1), U256::from(5 * ETHER + 5 * ETHER / 16)));
    }

    #[test]
    fn nobody_is_paid_after_the_merge_or_by_authority_or_for_the_genesis() {
        let mut rules = mainnet();
        let merged = Header { difficulty: U256::ZERO, ..header(20, 1) };
        assert_eq!(rewards(&rules, &merged, &[]).unwrap(), []);
        assert_eq!(rewards(&rules, &header(0, 1), &[]).unwrap(), []);
        rules.sealing = Sealing::Authority;
        assert_eq!(rewards(&rules, &header(20, 1), &[]).unwrap(), []);
    }

    #[test]
    fn uncles_that_break_the_rules_are_refused() {
        let rules = mainnet();
        for uncle in [10, 11, 3, 0] {
            assert!(rewards(&rules, &header(10, 1), &[header(uncle, 2)]).is_err(), "{uncle}");
        }
        let three = [header(9, 1), header(9, 2), header(9, 3)];
        assert!(rewards(&rules, &header(10, 1), &three).is_err());
    }
}
