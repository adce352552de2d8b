//! The seeded chain that `run` makes, and the model that says what every key holds at every version.
//!
//! Nothing of it is stored but the versions at which each key was updated: a key's bytes follow from the seed and
//! its index, a value from those and the version that last wrote it. So readers on any thread know what they must get,
//! without asking anybody.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use bristlecone::{Account, Batch, Snapshot};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

/// Accounts and their storage slots, or flat keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Accounts and storage slots, half of each, keys hashed.
    Accounts,
    /// Raw 32-byte keys with 32-byte values.
    Flat,
}

/// Which keys are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Skew {
    /// All alike.
    Uniform,
    /// Zipf with exponent 0.99.
    Zipf,
}

const ZIPF_EXPONENT: f64 = 0.99;

/// What is made. Keys have indices in the order in which they are inserted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) skew: Skew,
    /// Keys of the load.
    pub(crate) keys: u64,
    /// Keys a version of the load.
    pub(crate) batch: u64,
    /// Versions after the load.
    pub(crate) versions: u64,
    /// Draws of existing keys a version; a key that is drawn twice is updated once.
    pub(crate) updates: u64,
    /// New keys a version.
    pub(crate) inserts: u64,
    pub(crate) seed: u64,
}

/// The most keys, so that an index fits in 32 bits.
pub(crate) const MAX_KEYS: u64 = 1 << 31;

impl Plan {
    /// Versions of the load: 0 to one less than this.
    pub(crate) fn load_versions(&self) -> u64 {
        self.keys.div_ceil(self.batch)
    }

    /// The last version.
    pub(crate) fn last_version(&self) -> u64 {
        (self.load_versions() + self.versions).saturating_sub(1)
    }

    /// How many keys exist at `version`.
    pub(crate) fn population(&self, version: u64) -> u64 {
        let loads = self.load_versions();
        if version < loads {
            ((version + 1) * self.batch).min(self.keys)
        } else {
            self.keys + (version - loads + 1) * self.inserts
        }
    }

    /// The version that inserts the key with `index`.
    pub(crate) fn inserted(&self, index: u64) -> u64 {
        match index.checked_sub(self.keys) {
            None => index / self.batch,
            Some(later) => self.load_versions() + later / self.inserts.max(1),
        }
    }

    /// The keys that `version` updates, by rising index, each once; none in the load.
    pub(crate) fn updated(&self, version: u64) -> Vec<u32> {
        if version < self.load_versions() {
            return Vec::new();
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(version + 1);
        let population = self.population(version - 1);
        let mut updated: Vec<u32> = match self.skew {
            Skew::Uniform => (0..self.updates).map(|_| random.random_range(0..population) as u32).collect(),
            // Ranks are indices: that says nothing of where the keys lie, which is random.
            Skew::Zipf => match Zipf::new(population as f64, ZIPF_EXPONENT) {
                Ok(zipf) => (0..self.updates)
                    .map(|_| (zipf.sample(&mut random) as u64).clamp(1, population) as u32 - 1)
                    .collect(),
                Err(_) => Vec::new(),
            },
        };
        updated.sort_unstable();
        updated.dedup();
        updated
    }

    /// The keys that `version` inserts.
    pub(crate) fn inserts(&self, version: u64) -> std::ops::Range<u64> {
        let before = version.checked_sub(1).map_or(0, |version| self.population(version));
        before..self.population(version)
    }

    /// All changes of `version`, and how many keys they change.
    pub(crate) fn batch(&self, version: u64) -> (Batch, u64) {
        let mut batch = Batch::new();
        let updated = self.updated(version);
        let inserts = self.inserts(version);
        let changed = updated.len() as u64 + inserts.end - inserts.start;
        for index in updated.into_iter().map(u64::from).chain(inserts) {
            match self.entity(index) {
                Entity::Flat(key) => _ = batch.put(&key, &self.value(index, version)),
                Entity::Account(address) => {
                    _ = batch.set_account(address.as_slice(), &self.account(index, version));
                }
                Entity::Slot(owner, slot) => {
                    _ = batch.set_slot(owner.as_slice(), slot, self.slot_value(index, version));
                }
            }
        }
        (batch, changed)
    }

    /// What the key with `index` is.
    pub(crate) fn entity(&self, index: u64) -> Entity {
        let bytes = words(self.seed, index, KEY);
        match self.workload {
            Workload::Flat => Entity::Flat(bytes),
            Workload::Accounts if index.is_multiple_of(2) => Entity::Account(address(bytes)),
            Workload::Accounts => {
                let owner = self.owner(index);
                Entity::Slot(address(words(self.seed, owner, KEY)), B256::new(bytes))
            }
        }
    }

    /// The account that owns the slot with `index`: an earlier one, and some own very many slots.
    fn owner(&self, index: u64) -> u64 {
        let accounts = index.div_ceil(2);
        let draw = mix(self.seed ^ mix(index ^ OWNER)) as f64 / u64::MAX as f64;
        let rank = (accounts as f64 * draw.powi(4)) as u64;
        2 * rank.min(accounts.saturating_sub(1))
    }

    /// The value that `version` gives to a flat key.
    pub(crate) fn value(&self, index: u64, version: u64) -> [u8; 32] {
        words(self.seed ^ mix(version + 1), index, VALUE)
    }

    /// The slot's value; never zero, which would be no slot.
    pub(crate) fn slot_value(&self, index: u64, version: u64) -> U256 {
        U256::from_be_bytes(self.value(index, version)) | U256::ONE
    }

    /// The account's body.
    pub(crate) fn account(&self, index: u64, version: u64) -> Account {
        let bytes = self.value(index, version);
        let balance = bytes.first_chunk::<12>().copied().unwrap_or_default();
        Account { nonce: version, balance: U256::from_be_slice(&balance), code_hash: KECCAK256_EMPTY }
    }
}

/// A key of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity {
    Flat([u8; 32]),
    Account(Address),
    Slot(Address, B256),
}

const KEY: u64 = 0x006b_6579;
const VALUE: u64 = 0x0076_616c_7565;
const OWNER: u64 = 0x006f_776e_6572;

/// SplitMix64's output function: cheap, and every bit depends on every other.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 32 bytes that look random.
fn words(seed: u64, index: u64, what: u64) -> [u8; 32] {
    let mut state = mix(seed ^ mix(index ^ mix(what)));
    let mut bytes = [0; 32];
    for word in bytes.as_chunks_mut::<8>().0 {
        state = mix(state);
        *word = state.to_le_bytes();
    }
    bytes
}

fn address(bytes: [u8; 32]) -> Address {
    Address::from(bytes.first_chunk::<20>().copied().unwrap_or_default())
}

/// What every key holds at every version.
#[derive(Debug)]
pub(crate) struct Model {
    plan: Plan,
    /// The versions that update each key, key after key; where each key's begin.
    versions: Vec<u32>,
    starts: Vec<u32>,
}

impl Model {
    /// Plays all versions once. Memory: four bytes a key and four an update.
    pub(crate) fn new(plan: Plan) -> Self {
        let population = plan.population(plan.last_version()) as usize;
        let each = plan.load_versions()..=plan.last_version();
        let mut starts = vec![0u32; population + 1];
        for version in each.clone() {
            for index in plan.updated(version) {
                if let Some(count) = starts.get_mut(index as usize + 1) {
                    *count += 1;
                }
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut versions = vec![0u32; sum as usize];
        let mut next = starts.clone();
        for version in each {
            for index in plan.updated(version) {
                if let Some(next) = next.get_mut(index as usize) {
                    if let Some(place) = versions.get_mut(*next as usize) {
                        *place = version as u32;
                    }
                    *next += 1;
                }
            }
        }
        Self { plan, versions, starts }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The version, at most `at`, that last wrote the key; `None` if it did not exist yet.
    pub(crate) fn written(&self, index: u64, at: u64) -> Option<u64> {
        let inserted = self.plan.inserted(index);
        if inserted > at {
            return None;
        }
        let of = |index: usize| self.starts.get(index).copied().unwrap_or_default() as usize;
        let updates = self.versions.get(of(index as usize)..of(index as usize + 1)).unwrap_or_default();
        let before = updates.partition_point(|version| u64::from(*version) <= at);
        let last = before.checked_sub(1).and_then(|last| updates.get(last));
        Some(last.map_or(inserted, |version| u64::from(*version)))
    }

    /// Whether `found` is what the key must hold at version `at`.
    pub(crate) fn agrees(&self, index: u64, at: u64, found: &Found) -> bool {
        let written = self.written(index, at);
        match found {
            Found::Flat(value) => {
                value.as_deref() == written.map(|v| self.plan.value(index, v)).as_ref().map(|v| &v[..])
            }
            Found::Account(account) => *account == written.map(|v| self.plan.account(index, v)),
            Found::Slot(value) => *value == written.map_or(U256::ZERO, |v| self.plan.slot_value(index, v)),
        }
    }
}

/// What a snapshot says of a key.
#[derive(Debug)]
pub(crate) enum Found {
    Flat(Option<Vec<u8>>),
    Account(Option<Account>),
    Slot(U256),
}

/// Reads a key.
pub(crate) fn read(snapshot: &Snapshot, entity: &Entity) -> bristlecone::Result<Found> {
    Ok(match entity {
        Entity::Flat(key) => Found::Flat(snapshot.get(key)?),
        Entity::Account(address) => Found::Account(snapshot.account(address.as_slice())?),
        Entity::Slot(owner, slot) => Found::Slot(snapshot.slot(owner.as_slice(), *slot)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            workload: Workload::Accounts,
            skew: Skew::Uniform,
            keys: 1050,
            batch: 100,
            versions: 20,
            updates: 300,
            inserts: 7,
            seed: 5,
        }
    }

    #[test]
    fn keys_appear_in_order_and_the_last_load_may_be_short() {
        let plan = plan();
        assert_eq!((plan.load_versions(), plan.last_version()), (11, 30));
        assert_eq!([0, 9, 10, 11, 30].map(|v| plan.population(v)), [100, 1000, 1050, 1057, 1190]);
        for version in 0..=30 {
            assert!(plan.inserts(version).all(|index| plan.inserted(index) == version), "{version}");
        }
    }

    #[test]
    fn the_model_is_what_playing_the_versions_gives() {
        for skew in [Skew::Uniform, Skew::Zipf] {
            let plan = Plan { skew, ..plan() };
            let model = Model::new(plan);
            let mut written: Vec<Option<u64>> = vec![None; plan.population(plan.last_version()) as usize];
            for version in 0..=plan.last_version() {
                let updated = plan.updated(version);
                assert!(updated.windows(2).all(|two| two[0] < two[1]));
                assert!(
                    updated.iter().all(|index| written[*index as usize].is_some()),
                    "only what exists is updated"
                );
                for index in updated.into_iter().map(u64::from).chain(plan.inserts(version)) {
                    written[index as usize] = Some(version);
                }
                for (index, written) in written.iter().enumerate() {
                    assert_eq!(model.written(index as u64, version), *written, "{index} at {version}");
                }
            }
        }
    }

    #[test]
    fn slots_belong_to_accounts_that_are_there_before_them() {
        let plan = plan();
        for index in (1..1190).step_by(2) {
            let owner = plan.owner(index);
            assert!(owner < index && owner.is_multiple_of(2), "{index} {owner}");
        }
    }
}
