//! The bytes of every encoding of the `Ethereum` scheme. (Those of `Blake3` are in `docs/blake3-scheme.md`.)

use alloy_primitives::{B256, U256, hex, keccak256};
use bristlecone_trie::scheme::{LeafValue, ethereum::Ethereum};
use bristlecone_trie::{Account, NodeRef, Path, Scheme};

fn leaf(path: Path<'_>, value: LeafValue<'_>) -> String {
    let mut out = Vec::new();
    Ethereum::encode_leaf(path, value, &mut out);
    hex::encode(out)
}

fn references(encodings: &[(&[u8], bool)]) -> Vec<NodeRef> {
    encodings.iter().map(|(bytes, root)| Ethereum::reference(bytes, *root)).collect()
}

const KEY: [u8; 2] = [0x12, 0x34];

#[test]
fn leaves_with_flat_values_are_golden() {
    let empty = Path::range(&KEY, 4, 4);
    let cases: [(Path<'_>, &[u8], &str); 7] = [
        (Path::whole(&KEY), b"bark", "c9 83201234 846261726b"),
        (Path::range(&KEY, 1, 4), b"bark", "c8 823234 846261726b"),
        (Path::range(&KEY, 3, 4), b"bark", "c6 34 846261726b"),
        (empty, &[5], "c2 20 05"),
        (empty, &[0x80], "c3 20 8180"),
        (empty, &[], "c2 20 80"),
        (Path::range(&KEY, 2, 4), &[0], "c4 822034 00"),
    ];
    for (path, value, golden) in cases {
        assert_eq!(leaf(path, LeafValue::Raw(value)), golden.replace(' ', ""), "{path:?} {value:02x?}");
    }
    let (key, value) = ([0x77; 64], [0x99; 300]);
    let golden = format!("f90172 b84120{} b9012c{}", "77".repeat(64), "99".repeat(300));
    assert_eq!(leaf(Path::whole(&key), LeafValue::Raw(&value)), golden.replace(' ', ""));
    // Around the lengths at which heads grow.
    for (len, head) in [(53, "f7 20 b5"), (54, "f838 20 b6"), (55, "f839 20 b7"), (56, "f83b 20 b838")] {
        let golden = format!("{head}{}", "99".repeat(len)).replace(' ', "");
        assert_eq!(leaf(empty, LeafValue::Raw(&value[..len])), golden);
    }
}

#[test]
fn leaves_with_slots_are_golden() {
    let empty = Path::range(&KEY, 4, 4);
    for (value, golden) in [
        (&[1][..], "c2 20 01"),
        (&[0x7f], "c2 20 7f"),
        (&[0x80], "c4 20 828180"),
        (&[1, 0], "c5 20 83820100"),
    ] {
        assert_eq!(leaf(empty, LeafValue::Slot(value)), golden.replace(' ', ""), "{value:02x?}");
    }
    let golden = format!("e3 20 a1a0{}", "11".repeat(32)).replace(' ', "");
    assert_eq!(leaf(empty, LeafValue::Slot(&[0x11; 32])), golden);
    assert_eq!(leaf(empty, LeafValue::Slot(&[])), "c3208180");
}

#[test]
fn leaves_with_accounts_are_golden() {
    let empty = Path::range(&KEY, 4, 4);
    let none = "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";
    let no_code = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
    let golden = format!("f849 20 b846 f844 80 80 a0{none} a0{no_code}").replace(' ', "");
    let value = LeafValue::Account(&Account::default(), Ethereum::empty_root());
    assert_eq!(leaf(empty, value), golden);
    let account = Account { nonce: 0x1234, balance: U256::MAX, code_hash: keccak256(b"code") };
    let (root, code) = ("ab".repeat(32), hex::encode(keccak256(b"code")));
    let golden = format!("f86e 83201234 b868 f866 821234 a0{} a0{root} a0{code}", "ff".repeat(32));
    let golden = golden.replace(' ', "");
    assert_eq!(leaf(Path::whole(&KEY), LeafValue::Account(&account, B256::repeat_byte(0xab))), golden);
}

#[test]
fn extensions_are_golden() {
    let hash = NodeRef::hash(B256::repeat_byte(0xaa));
    let mut out = Vec::new();
    Ethereum::encode_extension(Path::range(&KEY, 0, 1), &hash, &mut out);
    assert_eq!(hex::encode(&out), format!("e211a0{}", "aa".repeat(32)));
    let branch = hex::decode(format!("d5c22001c22002{}", "80".repeat(15))).unwrap();
    out.clear();
    Ethereum::encode_extension(Path::range(&KEY, 0, 2), &NodeRef::embedded(&branch).unwrap(), &mut out);
    assert_eq!(hex::encode(&out), format!("d9820012{}", hex::encode(branch)));
}

#[test]
fn branches_are_golden() {
    let mut children = [None; 16];
    children[1] = Some(NodeRef::hash(B256::repeat_byte(0xaa)));
    children[15] = NodeRef::embedded(&[0xc2, 0x20, 0x01]);
    for (value, head, tail) in [(None, "f3", "80"), (Some(&b"cone"[..]), "f7", "84636f6e65")] {
        let golden = format!("{head}80a0{}{}c22001{tail}", "aa".repeat(32), "80".repeat(13));
        let mut out = Vec::new();
        Ethereum::encode_branch(&children, value, &mut out);
        assert_eq!(hex::encode(&out), golden);
        out.clear();
        Ethereum::prove_branch(&children, value, Some(1), &mut out);
        assert_eq!(hex::encode(&out), golden);
    }
    let full = [Some(NodeRef::hash(B256::repeat_byte(0xaa))); 16];
    let mut out = Vec::new();
    Ethereum::encode_branch(&full, None, &mut out);
    assert_eq!(hex::encode(&out), format!("f90211{}80", format!("a0{}", "aa".repeat(32)).repeat(16)));
}

#[test]
fn nodes_below_32_bytes_are_embedded_unless_they_are_the_root() {
    let (short, long) = ([0xc0; 31], [0xc0; 32]);
    let all = references(&[(&short, false), (&long, false), (&short, true), (&[0x80], true)]);
    assert_eq!(all[0], NodeRef::embedded(&short).unwrap());
    assert_eq!(all[1], NodeRef::hash(keccak256(long)));
    assert_eq!(all[2], NodeRef::hash(keccak256(short)));
    assert_eq!(all[3], NodeRef::hash(Ethereum::empty_root()));
}
