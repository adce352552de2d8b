//! era1 files made to order.

use std::io::Write;

use alloy_consensus::Header;
use alloy_primitives::{B256, U256, keccak256};
use sha2::{Digest, Sha256};

/// A block for [`era1`]: its parent hash and the hash of its uncles are filled in.
pub(crate) struct Made {
    pub(crate) header: Header,
    pub(crate) uncles: Vec<Header>,
    /// RLP of the list of transactions.
    pub(crate) transactions: Vec<u8>,
}

impl Made {
    pub(crate) fn new(number: u64, state_root: B256) -> Self {
        let header = Header {
            number,
            state_root,
            difficulty: U256::from(1000 + number),
            gas_limit: 5000,
            timestamp: number,
            ..Default::default()
        };
        Self { header, uncles: Vec::new(), transactions: vec![0xc0] }
    }
}

fn entry(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out.extend([0, 0]);
    out.extend(data);
}

pub(crate) fn frames(data: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.into_inner().unwrap()
}

fn pair(a: B256, b: B256) -> B256 {
    B256::from_slice(&Sha256::digest([a.0, b.0].concat()))
}

/// The bytes of an era1 file of `blocks`, which follow one another; correct in everything that hashes can tell,
/// whatever the blocks say.
pub(crate) fn era1(mut blocks: Vec<Made>) -> Vec<u8> {
    let mut out = Vec::new();
    entry(&mut out, 0x3265, &[]);
    let (mut parent, mut total) = (B256::ZERO, U256::ZERO);
    let (mut offsets, mut leaves) = (Vec::new(), Vec::new());
    for block in &mut blocks {
        block.header.parent_hash = parent;
        let mut uncles = Vec::new();
        alloy_rlp::encode_list(&block.uncles, &mut uncles);
        block.header.ommers_hash = keccak256(&uncles);
        let header = alloy_rlp::encode(&block.header);
        parent = keccak256(&header);
        total += block.header.difficulty;
        offsets.push(out.len() as i64);
        entry(&mut out, 3, &frames(&header));
        let mut body = Vec::new();
        let payload_length = block.transactions.len() + uncles.len();
        alloy_rlp::Header { list: true, payload_length }.encode(&mut body);
        body.extend(&block.transactions);
        body.extend(&uncles);
        entry(&mut out, 4, &frames(&body));
        entry(&mut out, 5, &frames(&[0xc0]));
        entry(&mut out, 6, &total.to_le_bytes::<32>());
        leaves.push(pair(parent, B256::new(total.to_le_bytes::<32>())));
    }
    let count = leaves.len() as u64;
    leaves.resize(8192, B256::ZERO);
    while leaves.len() > 1 {
        leaves = leaves.chunks(2).map(|two| pair(two[0], two[1])).collect();
    }
    let root = pair(leaves[0], B256::new(U256::from(count).to_le_bytes::<32>()));
    entry(&mut out, 7, root.as_slice());
    let base = out.len() as i64;
    let mut index = blocks[0].header.number.to_le_bytes().to_vec();
    index.extend(offsets.iter().flat_map(|offset| (offset - base).to_le_bytes()));
    index.extend(count.to_le_bytes());
    entry(&mut out, 0x3266, &index);
    out
}
