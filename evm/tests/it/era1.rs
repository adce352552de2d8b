//! era1 files: real ones are read, and whatever is done to one is noticed.

use std::{io::Cursor, ops::ControlFlow};

use crate::{data::data, made, made::Made};
use alloy_consensus::{SignableTransaction, TxEip2930, TxLegacy};
use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Signature, U256, b256};
use bristlecone_evm::{
    Era1Fault, Error,
    block::Transaction,
    era1::{Block, Era1},
};

fn verify(bytes: &[u8]) -> Result<Era1<Cursor<&[u8]>>, Error> {
    Era1::verify(Cursor::new(bytes), |_, _| ControlFlow::Continue(()))
}

fn blocks(bytes: &[u8]) -> Result<Vec<Block>, Error> {
    let mut era = verify(bytes)?;
    let (first, last) = (era.first(), era.last());
    (first..=last).map(|number| era.block(number).map(Option::unwrap)).collect()
}

fn fault(bytes: &[u8]) -> (u64, String, Era1Fault) {
    match verify(bytes).map(|era| era.last()) {
        Err(Error::Era1 { offset, entry, fault }) => (offset, entry, *fault),
        other => panic!("{other:?}"),
    }
}

/// Ten blocks, the fifth with an uncle, the eighth with two transactions.
fn sample() -> Vec<u8> {
    let mut made: Vec<Made> =
        (0..10).map(|number| Made::new(number, B256::repeat_byte(number as u8))).collect();
    made[5].uncles.push(Made::new(4, B256::ZERO).header);
    // One as a list, one in an envelope (EIP-2718).
    let legacy = Transaction::from(TxLegacy::default().into_signed(Signature::test_signature()));
    let typed = Transaction::from(TxEip2930::default().into_signed(Signature::test_signature()));
    made[8].header.transactions_root =
        alloy_trie::root::ordered_trie_root_encoded(&[legacy.encoded_2718(), typed.encoded_2718()]);
    made[8].transactions.clear();
    alloy_rlp::encode_list(&[legacy, typed], &mut made[8].transactions);
    made::era1(made)
}

#[test]
fn a_made_file_is_read_whole() {
    let blocks = blocks(&sample()).unwrap();
    assert_eq!(blocks.len(), 10);
    assert_eq!(blocks[5].block.body.ommers.len(), 1);
    assert_eq!(blocks[8].block.body.transactions.len(), 2);
    assert_eq!(blocks[9].total_difficulty, U256::from(10 * 1000 + 45));
    let sample = sample();
    let mut era = verify(&sample).unwrap();
    assert_eq!((era.first(), era.last()), (0, 9));
    assert!(era.block(10).unwrap().is_none());
}

#[test]
fn a_file_may_begin_anywhere() {
    let made = (8192..8195).map(|number| Made::new(number, B256::ZERO)).collect();
    let file = made::era1(made);
    let mut era = verify(&file).unwrap();
    assert_eq!((era.first(), era.last()), (8192, 8194));
    assert!(era.block(8191).unwrap().is_none());
    assert_eq!(era.block(8194).unwrap().unwrap().block.header.number, 8194);
}

#[test]
fn every_truncation_is_an_error() {
    let sample = sample();
    for len in 0..sample.len() {
        let (offset, ..) = fault(&sample[..len]);
        assert!(offset <= len as u64, "{len}");
    }
    let mut longer = sample.clone();
    longer.push(0);
    assert!(matches!(fault(&longer).2, Era1Fault::TrailingBytes(1)));
}

#[test]
fn every_flipped_bit_is_an_error_or_changes_no_content() {
    let sample = sample();
    let expected = blocks(&sample).unwrap();
    let mut harmless = 0;
    for at in 0..sample.len() {
        for bit in 0..8 {
            let mut bytes = sample.clone();
            bytes[at] ^= 1 << bit;
            let Ok(got) = blocks(&bytes) else { continue };
            harmless += 1;
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(
                    (got.hash, &got.block.body),
                    (expected.hash, &expected.block.body),
                    "byte {at} bit {bit}"
                );
            }
        }
    }
    // Other snappy instructions for the same bytes, mostly among the zeros of a bloom filter.
    eprintln!("{harmless} of {} flips decompress to the same content", sample.len() * 8);
    assert!(harmless < sample.len() / 4);
}

#[test]
fn each_rule_is_checked_where_hashes_do_not_see_it() {
    let wrong = |change: fn(&mut Vec<Made>)| {
        let mut made: Vec<Made> = (0..4).map(|number| Made::new(number, B256::ZERO)).collect();
        change(&mut made);
        fault(&made::era1(made)).2
    };
    assert!(matches!(wrong(|made| made[2].header.number = 3), Era1Fault::Number { expected: 2, got: 3 }));
    assert!(matches!(wrong(|made| made[2].transactions = vec![0xc1, 0x01]), Era1Fault::Hash { .. }));
    assert!(matches!(wrong(|made| made[2].header.receipts_root = B256::ZERO), Era1Fault::Hash { .. }));
    assert!(matches!(wrong(|made| made[2].transactions = vec![0x01]), Era1Fault::Rlp(_)));

    let good = made::era1((0..4).map(|number| Made::new(number, B256::ZERO)).collect());
    let end = good.len();
    // The index's entry: 8 bytes, the first number, four offsets, the count.
    let index = end - 6 * 8;
    for at in [index, index + 8, index + 32, end - 8] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(matches!(fault(&bytes).2, Era1Fault::Index { .. }), "{at}");
    }
    // The accumulator's data ends where the index's entry begins.
    let mut bytes = good.clone();
    bytes[index - 9] ^= 1;
    let (offset, entry, fault_) = fault(&bytes);
    assert!(matches!(fault_, Era1Fault::Hash { what: "the accumulator", .. }));
    assert_eq!((offset, entry.as_str()), (index as u64 - 8 - 40, "accumulator"));
}

#[test]
fn hostile_lengths_and_bombs_are_refused_before_memory_is_taken() {
    // An entry that says 4 GiB.
    let mut bytes = sample()[..8].to_vec();
    bytes.extend([3, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    assert!(matches!(fault(&bytes).2, Era1Fault::Truncated { needed: 0xffff_ffff, available: 0 }));
    // Five megabytes of frames that decompress to 100 MiB.
    let bomb = made::frames(&vec![0; 100 << 20]);
    let mut bytes = sample()[..8].to_vec();
    bytes.extend([3, 0]);
    bytes.extend((bomb.len() as u32).to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(&bomb);
    assert!(matches!(fault(&bytes).2, Era1Fault::TooLarge { .. }));
    // Lists within lists within lists.
    let nested = vec![0xf8; 1 << 20];
    let mut bytes = sample()[..8].to_vec();
    bytes.extend([3, 0]);
    let frames = made::frames(&nested);
    bytes.extend((frames.len() as u32).to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(&frames);
    assert!(matches!(fault(&bytes).2, Era1Fault::Rlp(_)));
}

#[test]
fn other_files_are_told_apart_at_once() {
    for bytes in [&b""[..], b"{\"alloc\": {}}", b"\x7fELF", &[0; 64]] {
        assert_eq!(fault(bytes).0, 0);
    }
}

#[test]
fn verification_can_be_stopped() {
    let sample = sample();
    let stopped = Era1::verify(Cursor::new(&sample), |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped)));
}

#[test]
fn real_files_verify_and_their_accumulators_are_those_in_their_names() {
    let files = [
        (
            "era1/mainnet-00000-5ec1ffb8.era1",
            b256!("5ec1ffb8c3b146f42606c74ced973dc16ec5a107c0345858c343fc94780b4218"),
            b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"),
        ),
        (
            "era1/sepolia-00000-643a00f7.era1",
            B256::ZERO,
            b256!("25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9"),
        ),
    ];
    for (name, accumulator, genesis_hash) in files {
        let Some(path) = data(name) else { continue };
        let bytes = std::fs::read(&path).unwrap();
        let mut era = verify(&bytes).unwrap();
        assert_eq!((era.first(), era.last()), (0, 8191), "{name}");
        let short = format!("{:x}", era.accumulator());
        assert!(name.contains(&short[..8]), "{name}: {short}");
        if !accumulator.is_zero() {
            assert_eq!(era.accumulator(), accumulator);
        }
        assert_eq!(era.block(0).unwrap().unwrap().hash, genesis_hash, "{name}");
        let uncles: usize =
            (0..8192).map(|number| era.block(number).unwrap().unwrap().block.body.ommers.len()).sum();
        eprintln!("{name}: {uncles} uncles");
        // Damage spread over the file: an error each time, or the same content.
        for at in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            if let Ok(mut damaged) = verify(&damaged) {
                assert_eq!(
                    damaged.block(8191).unwrap().unwrap().hash,
                    era.block(8191).unwrap().unwrap().hash
                );
            }
            assert!(verify(&bytes[..at]).is_err());
        }
    }
}
