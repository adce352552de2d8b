//! The shapes of files with witnesses. What is not needed of them is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, keccak256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ExecutionWitness, Input, Source, by_hash, decode_compact};
use crate::{Error, quantity};

fn bad(reason: impl Into<String>) -> Error {
    Error::WitnessFormat { reason: reason.into() }
}

/// `value` as a `T`; `what` names it in the error.
fn read<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| bad(format!("{what}: {error}")))
}

/// Reads a file of any known shape.
pub(super) fn parse(text: &str) -> Result<Input, Error> {
    let mut file: Value = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    if let Some(error) = file.get("error").filter(|error| !error.is_null()) {
        return Err(bad(format!("the provider answered with an error: {error}")));
    }
    if file.get("jsonrpc").is_some() {
        file = file.get("result").cloned().unwrap_or_default();
    }
    let witness = file.get("witness");
    let has = |value: Option<&Value>, field: &str| value.is_some_and(|value| value.get(field).is_some());
    if file.is_array() {
        zk_evm(&file)
    } else if has(Some(&file), "states") {
        sbv(&file)
    } else if has(witness, "ancestors") {
        zkpi(&file)
    } else if has(witness, "stateTrieNodes") {
        ethrex_old(&file)
    } else if has(witness, "state") {
        let witness: ExecutionWitness = read(file.get("witness").unwrap_or(&Value::Null), "witness")?;
        debug(Source::Ethrex, witness, &blocks(&file)?)
    } else if has(Some(&file), "state") {
        debug(Source::Debug, read(&file, "witness")?, &[])
    } else {
        Err(bad("it has the shape of no known file: no `state`, `states`, or `witness` with nodes in it"))
    }
}

#[derive(Deserialize)]
struct Block {
    header: Header,
}

/// The headers of the blocks that the witness is for.
fn blocks(file: &Value) -> Result<Vec<Header>, Error> {
    let blocks: Vec<Block> = read(file.get("blocks").unwrap_or(&Value::Null), "blocks")?;
    if blocks.is_empty() {
        return Err(bad("`blocks` is empty"));
    }
    let headers: Vec<Header> = blocks.into_iter().map(|block| block.header).collect();
    chained(&headers)?;
    Ok(headers)
}

/// Whether each header is the parent of the next.
fn chained(headers: &[Header]) -> Result<(), Error> {
    for pair in headers.windows(2) {
        if let [parent, child] = pair
            && child.parent_hash != parent.hash_slow()
        {
            let (parent, child) = (parent.number, child.number);
            return Err(bad(format!("the header of block {parent} is not the parent of that of {child}")));
        }
    }
    Ok(())
}

/// What `nodes` and `codes` are for `blocks`, after `ancestors`, of which the last one is the parent.
fn input(
    source: Source,
    nodes: Vec<Bytes>,
    codes: impl IntoIterator<Item = Bytes>,
    ancestors: Vec<Header>,
    blocks: &[Header],
) -> Result<Input, Error> {
    chained(&ancestors)?;
    let parent = ancestors.last().ok_or_else(|| bad("it has no header of the block before"))?;
    if let Some(block) = blocks.first() {
        chained(&[parent.clone(), block.clone()])?;
    }
    Ok(Input {
        source,
        number: blocks.first().map(|header| header.number).or(parent.number.checked_add(1)),
        pre_root: parent.state_root,
        post_root: blocks.last().map(|header| header.state_root),
        nodes,
        codes: by_hash(codes),
        ancestors,
    })
}

fn debug(source: Source, witness: ExecutionWitness, blocks: &[Header]) -> Result<Input, Error> {
    let ancestors = witness.ancestors()?;
    input(source, witness.state, witness.codes, ancestors, blocks)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldEthrex {
    state_trie_nodes: Vec<Bytes>,
    storage_trie_nodes: Vec<BTreeMap<String, Vec<Bytes>>>,
    codes: Vec<BTreeMap<B256, Bytes>>,
    block_headers: BTreeMap<u64, Header>,
    parent_block_header: Header,
}

/// Storage nodes stand by account there, so that some are there more than once.
fn ethrex_old(file: &Value) -> Result<Input, Error> {
    let witness: OldEthrex = read(file.get("witness").unwrap_or(&Value::Null), "witness")?;
    let storage = witness.storage_trie_nodes.into_iter().flat_map(BTreeMap::into_values).flatten();
    let mut seen = BTreeSet::new();
    let nodes = witness.state_trie_nodes.into_iter().chain(storage);
    let nodes = nodes.filter(|node| seen.insert(keccak256(node))).collect();
    let mut codes = Vec::new();
    for (hash, code) in witness.codes.into_iter().flatten() {
        if keccak256(&code) != hash {
            return Err(bad(format!("the code given for {hash} has another hash")));
        }
        codes.push(code);
    }
    let mut headers = witness.block_headers;
    headers.insert(witness.parent_block_header.number, witness.parent_block_header);
    input(Source::EthrexOld, nodes, codes, headers.into_values().collect(), &blocks(file)?)
}

#[derive(Deserialize)]
struct Sbv {
    header: SbvHeader,
    #[serde(alias = "pre_state_root")]
    prev_state_root: B256,
    states: Vec<Bytes>,
    codes: Vec<Bytes>,
}

#[derive(Deserialize)]
struct SbvHeader {
    state_root: B256,
    number: Value,
}

fn sbv(file: &Value) -> Result<Input, Error> {
    let sbv: Sbv = read(file, "sbv")?;
    let number = match &sbv.header.number {
        Value::String(text) => quantity::number(text).ok().and_then(|number| number.try_into().ok()),
        number => number.as_u64(),
    };
    Ok(Input {
        source: Source::Sbv,
        number: Some(number.ok_or_else(|| bad("`header.number` is no block number"))?),
        pre_root: sbv.prev_state_root,
        post_root: Some(sbv.header.state_root),
        nodes: sbv.states,
        codes: by_hash(sbv.codes),
        ancestors: Vec::new(),
    })
}

#[derive(Deserialize)]
struct Zkpi {
    state: Vec<Bytes>,
    codes: Vec<Bytes>,
    /// The parent first.
    ancestors: Vec<Header>,
}

fn zkpi(file: &Value) -> Result<Input, Error> {
    let mut witness: Zkpi = read(file.get("witness").unwrap_or(&Value::Null), "witness")?;
    witness.ancestors.reverse();
    input(Source::Zkpi, witness.state, witness.codes, witness.ancestors, &blocks(file)?)
}

#[derive(Deserialize)]
struct ZkEvm {
    block_trace: Trace,
    other_data: Other,
}

#[derive(Deserialize)]
struct Trace {
    trie_pre_images: PreImages,
}

#[derive(Deserialize)]
struct PreImages {
    combined: Combined,
}

#[derive(Deserialize)]
struct Combined {
    compact: Bytes,
}

#[derive(Deserialize)]
struct Other {
    b_data: BlockData,
}

#[derive(Deserialize)]
struct BlockData {
    b_meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    block_number: String,
}

/// The first block of the list: the others have no witness of their own.
fn zk_evm(file: &Value) -> Result<Input, Error> {
    let first: ZkEvm = read(file.get(0).unwrap_or(&Value::Null), "the first block")?;
    let compact = decode_compact(&first.block_trace.trie_pre_images.combined.compact)
        .map_err(|error| bad(error.to_string()))?;
    let number = quantity::number(&first.other_data.b_data.b_meta.block_number).map_err(bad)?;
    Ok(Input {
        source: Source::ZkEvm,
        number: Some(number.try_into().map_err(|_| bad("`block_number` is no block number"))?),
        pre_root: compact.root,
        post_root: None,
        nodes: compact.nodes.into_iter().map(Bytes::from).collect(),
        codes: by_hash(compact.codes.into_iter().map(Bytes::from)),
        ancestors: Vec::new(),
    })
}
