//! What blocks of mainnet changed: which keys, how often the same ones, and which came and went.
//!
//! A key of the trace is an account or a slot; what the account or slot was changed to at the end of the block counts. Each time through the blocks the
//! trace's keys stand for other keys of the store, drawn anew, but for those that more than half of the blocks change: these are the same for ever, as
//! the contracts that everybody calls are. Slots and accounts that were empty when the trace first touches them are new keys.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::Hash;

/// The file; JSON, a line for each block, access of an account, and access of a slot.
pub(crate) fn path() -> PathBuf {
    let asked = std::env::var_os("BRISTLECONE_BENCH_TRACE").map(PathBuf::from);
    asked.unwrap_or_else(|| bristlecone_torture::data("access_trace/mainnet-15000001-15000020.jsonl.zst"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Put,
    Delete,
}

/// A key of the trace, by number.
struct Traced {
    /// It was empty when the trace touched it first.
    is_new: bool,
    /// In how many blocks it changes.
    blocks: usize,
}

pub(crate) struct Trace {
    keys: Vec<Traced>,
    blocks: Vec<Vec<(usize, Change)>>,
    next: usize,
    /// What the trace's keys stand for, this time through.
    now: Vec<Hash>,
}

impl Trace {
    /// `None` where there is no file.
    pub(crate) fn read() -> Option<Self> {
        let file = std::fs::File::open(path()).ok()?;
        let bytes = zstd::decode_all(file).expect("a compressed file");
        let text = String::from_utf8(bytes).expect("text");
        let mut this = Self { keys: Vec::new(), blocks: Vec::new(), next: 0, now: Vec::new() };
        let mut numbers = HashMap::new();
        let mut block: HashMap<usize, Change> = HashMap::new();
        for line in text.lines() {
            let access: Value = serde_json::from_str(line).expect("a line of JSON");
            let field = |name: &str| access.get(name).and_then(Value::as_str);
            let Some(address) = field("addr") else {
                this.finish(&mut block);
                continue;
            };
            let is_zero = |text: &str| text.trim_start_matches("0x").bytes().all(|digit| digit == b'0');
            let is_empty = match field("key") {
                Some(_) => field("value").is_some_and(is_zero),
                None => {
                    field("balance").is_some_and(is_zero)
                        && access.get("nonce").and_then(Value::as_u64) == Some(0)
                }
            };
            let key = (address.to_owned(), field("key").map(str::to_owned));
            let number = *numbers.entry(key).or_insert_with(|| {
                this.keys.push(Traced { is_new: is_empty, blocks: 0 });
                this.keys.len() - 1
            });
            let change = match field("newValue") {
                Some(value) if is_zero(value) => Change::Delete,
                None if access.get("newBalance").or(access.get("newNonce")).is_none() => continue,
                _ => Change::Put,
            };
            block.insert(number, change);
        }
        this.finish(&mut block);
        Some(this)
    }

    fn finish(&mut self, block: &mut HashMap<usize, Change>) {
        if block.is_empty() {
            return;
        }
        let mut changes: Vec<_> = block.drain().collect();
        changes.sort_unstable_by_key(|(number, _)| *number);
        changes.iter().for_each(|(number, _)| self.keys[*number].blocks += 1);
        self.blocks.push(changes);
    }

    /// The changes of the next block, each key once. Keys of the store that are made are put among `keys`.
    pub(crate) fn block(&mut self, keys: &mut Vec<Hash>, random: &mut ChaCha8Rng) -> Vec<(Hash, Change)> {
        if self.next.is_multiple_of(self.blocks.len()) {
            self.stand_for(keys, random);
        }
        let block = &self.blocks[self.next % self.blocks.len()];
        self.next += 1;
        let mut different = HashSet::with_capacity(block.len());
        let changes = block.iter().map(|(number, change)| (self.now[*number], *change));
        changes.filter(|(key, _)| different.insert(*key)).collect()
    }

    fn stand_for(&mut self, keys: &mut Vec<Hash>, random: &mut ChaCha8Rng) {
        let is_first = self.now.is_empty();
        self.now.resize(self.keys.len(), Hash::default());
        for (traced, now) in self.keys.iter().zip(&mut self.now) {
            if !is_first && traced.blocks * 2 > self.blocks.len() {
                continue;
            }
            *now = match traced.is_new {
                // Most that the trace only reads, and so are never there.
                true => random.random(),
                false => keys[random.random_range(0..keys.len())],
            };
            if traced.is_new && traced.blocks > 0 {
                keys.push(*now);
            }
        }
    }
}
