//! Forged proofs, one test for each kind of forgery that was accepted somewhere, or could be.
#![expect(clippy::indexing_slicing, clippy::expect_used, reason = "helpers of tests")]

use alloy_primitives::{B256, U256, hex, keccak256};
use bristlecone_trie::path::MAX_KEY_BYTES;
use bristlecone_trie::proof::node::{Place, ProofScheme};
use bristlecone_trie::proof::{
    Flaw, MAX_NODE_BYTES, MultiProof, ProofError, verify, verify_account, verify_many, verify_many_accounts,
    verify_many_slots, verify_slot,
};
use bristlecone_trie::scheme::{LeafValue, blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::{Account, NodeRef, Path, Scheme};

type Answer = Result<Option<Vec<u8>>, ProofError>;

/// Verifies by Ethereum's rules; the root is the hash of the first node, as if the forger had chosen it.
fn own_root(key: &[u8], nodes: &[Vec<u8>]) -> Answer {
    verify::<Ethereum>(keccak256(&nodes[0]), key, nodes)
}

#[track_caller]
fn refused(bytes: &str, flaw: Flaw) {
    let bytes = hex::decode(bytes.replace(' ', "")).expect("hex");
    let answer = own_root(&[0x12, 0x34], &[bytes]);
    assert_eq!(answer, Err(ProofError::Malformed { node: 0, flaw }));
}

fn leaf(path: Path<'_>, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Ethereum::encode_leaf(path, LeafValue::Raw(value), &mut out);
    out
}

fn extension(path: Path<'_>, child: NodeRef) -> Vec<u8> {
    let mut out = Vec::new();
    Ethereum::encode_extension(path, &child, &mut out);
    out
}

fn branch(children: &[(usize, NodeRef)], value: Option<&[u8]>) -> Vec<u8> {
    let mut all = [None; 16];
    children.iter().for_each(|(nibble, child)| all[*nibble] = Some(*child));
    let mut out = Vec::new();
    Ethereum::encode_branch(&all, value, &mut out);
    out
}

fn hashed(bytes: &[u8]) -> NodeRef {
    NodeRef::hash(keccak256(bytes))
}

const LONG: [u8; 40] = [7; 40];
const KEY: [u8; 2] = [0x12, 0x34];

/// A trie of two long values, at 1234 and 5678: root, and the leaf at 1234.
fn two() -> (B256, Vec<Vec<u8>>) {
    let one = leaf(Path::range(&KEY, 1, 4), &LONG);
    let other = leaf(Path::range(&[0x56, 0x78], 1, 4), &LONG);
    let root = branch(&[(1, hashed(&one)), (5, hashed(&other))], None);
    (keccak256(&root), vec![root, one])
}

#[test]
fn the_honest_proofs_of_these_tests_verify() {
    let (root, nodes) = two();
    assert_eq!(verify::<Ethereum>(root, &KEY, &nodes), Ok(Some(LONG.to_vec())));
    assert_eq!(verify::<Ethereum>(root, &[0x12, 0x35], &nodes), Ok(None));
    assert_eq!(verify::<Ethereum>(root, &[0x22], &nodes[..1]), Ok(None));
}

#[test]
fn an_unhashed_child_is_refused() {
    let (root, mut nodes) = two();
    nodes[1] = leaf(Path::range(&KEY, 1, 4), b"another value, of more than thirty-two bytes");
    let computed = keccak256(&nodes[1]);
    let answer = verify::<Ethereum>(root, &KEY, &nodes);
    assert!(
        matches!(answer, Err(ProofError::HashMismatch { node: 1, computed: hash, .. }) if hash == computed)
    );
}

#[test]
fn a_root_that_is_not_hashed_is_refused() {
    let (root, nodes) = two();
    assert!(matches!(
        verify::<Ethereum>(root, &KEY, &nodes[1..]),
        Err(ProofError::HashMismatch { node: 0, .. })
    ));
}

#[test]
fn an_embedded_node_of_32_bytes_is_not_a_hash_nor_embedded() {
    // A leaf of 32 bytes or more inside its parent, where its hash is due.
    let big = leaf(Path::range(&KEY, 1, 4), &[7; 28]);
    assert_eq!(big.len(), 33);
    let mut root = vec![0xc0 + 33 + 3 + 15, 0x80];
    root.extend_from_slice(&big);
    root.extend_from_slice(&[0xc2, 0x20, 0x01]);
    root.extend_from_slice(&[0x80; 14]);
    assert_eq!(own_root(&KEY, &[root]), Err(ProofError::Malformed { node: 0, flaw: Flaw::TooLongToEmbed }));
}

#[test]
fn a_child_beside_the_way_that_is_too_long_to_stand_there_is_refused() {
    // A branch with the hash of the leaf at nibble 1, and another leaf in itself at nibble 5.
    let one = leaf(Path::range(&KEY, 1, 4), &LONG);
    let root = |value: &[u8]| {
        let mut items = vec![0x80, 0xa0];
        items.extend_from_slice(keccak256(&one).as_slice());
        items.extend_from_slice(&[0x80; 3]);
        items.extend_from_slice(&leaf(Path::range(&KEY, 1, 4), value));
        items.extend_from_slice(&[0x80; 11]);
        [&[0xf8, items.len() as u8][..], &items].concat()
    };
    assert_eq!(own_root(&KEY, &[root(&[7; 26]), one.clone()]), Ok(Some(LONG.to_vec())));
    let refused = Err(ProofError::Malformed { node: 0, flaw: Flaw::TooLongToEmbed });
    assert_eq!(own_root(&KEY, &[root(&[7; 27]), one.clone()]), refused);
}

#[test]
fn what_stands_in_a_parent_is_read_up_to_31_bytes_only() {
    let decode = |value: &[u8]| {
        let node = leaf(Path::range(&KEY, 1, 4), value);
        (node.len(), Ethereum::decode(&node, Place::Embedded).map(|_| ()))
    };
    assert_eq!(decode(&[7; 26]), (31, Ok(())));
    assert_eq!(decode(&[7; 27]), (32, Err(Flaw::TooLongToEmbed)));
}

#[test]
fn a_short_node_that_is_hashed_is_refused() {
    let short = leaf(Path::range(&KEY, 1, 4), b"x");
    let root = branch(&[(1, hashed(&short)), (5, hashed(&short))], None);
    assert_eq!(
        own_root(&KEY, &[root, short]),
        Err(ProofError::Malformed { node: 1, flaw: Flaw::NotEmbedded })
    );
}

#[test]
fn a_hash_that_looks_like_a_node_is_not_decoded() {
    // The 32 bytes of a hash stand in a string, so they are a hash, even if they read as a list.
    let mut looks = [0u8; 32];
    looks[..2].copy_from_slice(&[0xdf, 0x20]);
    looks[2] = 0x9d;
    let root = branch(&[(1, NodeRef::hash(B256::new(looks))), (5, hashed(b"y"))], None);
    assert_eq!(own_root(&KEY, &[root]), Err(ProofError::MissingNode { node: 1, expected: B256::new(looks) }));
}

#[test]
fn an_embedded_node_listed_apart_is_refused() {
    let short = leaf(Path::range(&KEY, 1, 4), b"x");
    let root = branch(&[(1, NodeRef::embedded(&short).unwrap()), (5, hashed(b"y"))], None);
    assert_eq!(own_root(&KEY, std::slice::from_ref(&root)), Ok(Some(b"x".to_vec())));
    assert_eq!(own_root(&KEY, &[root, short]), Err(ProofError::UnusedNode { node: 1 }));
}

#[test]
fn a_missing_next_node_is_not_an_exclusion() {
    let (root, nodes) = two();
    let expected = keccak256(&nodes[1]);
    assert_eq!(
        verify::<Ethereum>(root, &KEY, &nodes[..1]),
        Err(ProofError::MissingNode { node: 1, expected })
    );
}

#[test]
fn an_inner_node_is_not_a_leaf() {
    // A branch whose value ends the key is the key's value; one without is an absence; neither is its own bytes.
    let (_, nodes) = two();
    let root = extension(Path::range(&KEY, 0, 4), hashed(&nodes[0]));
    assert_eq!(own_root(&KEY, &[root, nodes[0].clone()]), Ok(None));
    // An extension's target is never a value, though a leaf's could look the same.
    let root = extension(Path::range(&KEY, 0, 4), NodeRef::hash(B256::new([7; 32])));
    let expected = B256::new([7; 32]);
    assert_eq!(own_root(&KEY, &[root]), Err(ProofError::MissingNode { node: 1, expected }));
    refused("c9 83001234 846261726b", Flaw::BadReference);
}

#[test]
fn an_empty_proof_proves_the_empty_trie_only() {
    let none: [Vec<u8>; 0] = [];
    let (root, _) = two();
    assert!(matches!(verify::<Ethereum>(root, &KEY, &none), Err(ProofError::MissingNode { node: 0, .. })));
    assert_eq!(verify::<Ethereum>(Ethereum::empty_root(), &KEY, &none), Ok(None));
    assert_eq!(verify::<Ethereum>(Ethereum::empty_root(), &KEY, &[[0x80]]), Ok(None));
    assert_eq!(
        verify::<Ethereum>(Ethereum::empty_root(), &KEY, &[[0x80], [0x80]]),
        Err(ProofError::UnusedNode { node: 1 })
    );
    assert!(verify::<Ethereum>(root, &KEY, &[[0x80]]).is_err());
    assert!(verify::<Ethereum>(B256::ZERO, &KEY, &none).is_err());
    assert_eq!(verify::<Blake3>(Blake3::empty_root(), &KEY, &none), Ok(None));
    assert!(verify::<Blake3>(Blake3::empty_root(), &KEY, &[[0x80]]).is_err());
    assert!(verify::<Blake3>(Ethereum::empty_root(), &KEY, &none).is_err());
    assert!(verify::<Blake3>(B256::ZERO, &KEY, &none).is_err());
    // Only as the whole proof: nowhere does a node of one byte stand for an empty sub-trie.
    let root = branch(&[(1, NodeRef::hash(Ethereum::empty_root())), (5, hashed(b"y"))], None);
    let answer = own_root(&KEY, &[root, vec![0x80]]);
    assert_eq!(answer, Err(ProofError::Malformed { node: 1, flaw: Flaw::NotEmbedded }));
}

#[test]
fn nodes_after_the_end_are_refused() {
    let (root, nodes) = two();
    let mut more = nodes.clone();
    more.push(nodes[1].clone());
    assert_eq!(verify::<Ethereum>(root, &KEY, &more), Err(ProofError::UnusedNode { node: 2 }));
    assert_eq!(verify::<Ethereum>(root, &[0x22], &nodes), Err(ProofError::UnusedNode { node: 1 }));
    more[2].clear();
    assert_eq!(verify::<Ethereum>(root, &KEY, &more), Err(ProofError::UnusedNode { node: 2 }));
}

#[test]
fn too_many_nodes_and_too_long_keys_are_refused_unread() {
    let (root, nodes) = two();
    let many = vec![nodes[1].clone(); 6];
    assert_eq!(verify::<Ethereum>(root, &KEY, &many), Err(ProofError::TooManyNodes { nodes: 6, limit: 5 }));
    let answer = verify::<Ethereum>(root, &[0; 513], &nodes);
    assert_eq!(answer, Err(ProofError::KeyTooLong { key: 0, bytes: 513 }));
    let large = vec![0; MAX_NODE_BYTES + 1];
    let answer = verify::<Ethereum>(root, &KEY, &[large]);
    assert_eq!(answer, Err(ProofError::NodeTooLarge { node: 0, bytes: MAX_NODE_BYTES + 1 }));
    let none = MultiProof::default();
    assert_eq!(verify_many::<Ethereum>(root, &[[0u8; 0]; 0], &none), Ok(vec![]));
    let answer = verify_many::<Ethereum>(root, &[[0u8; 0]; 0], &MultiProof { nodes });
    assert_eq!(answer, Err(ProofError::TooManyNodes { nodes: 2, limit: 0 }));
}

#[test]
fn a_value_at_the_wrong_depth_is_refused() {
    let (root, nodes) = two();
    // The leaf's key is longer or shorter than the one asked for: an absence, and it is a true one.
    assert_eq!(verify::<Ethereum>(root, &[0x12], &nodes), Ok(None));
    assert_eq!(verify::<Ethereum>(root, &[0x12, 0x34, 0x56], &nodes), Ok(None));
    // A leaf, and a value in a branch, between two bytes.
    let half = leaf(Path::range(&KEY, 1, 3), &LONG);
    let root = branch(&[(1, hashed(&half)), (5, hashed(b"y"))], None);
    assert_eq!(own_root(&KEY, &[root, half]), Err(ProofError::Malformed { node: 1, flaw: Flaw::HalfByte }));
    let odd = branch(&[(2, hashed(b"x")), (5, hashed(b"y"))], Some(b"v"));
    let root = branch(&[(1, hashed(&odd)), (5, hashed(b"y"))], None);
    assert_eq!(own_root(&KEY, &[root, odd]), Err(ProofError::Malformed { node: 1, flaw: Flaw::HalfByte }));
}

#[test]
fn an_extension_over_anything_but_a_branch_is_refused() {
    let below = leaf(Path::range(&KEY, 2, 4), &LONG);
    let root = extension(Path::range(&KEY, 0, 2), hashed(&below));
    let flaw = Flaw::ExtensionChild;
    assert_eq!(own_root(&KEY, &[root, below]), Err(ProofError::Malformed { node: 1, flaw }));
    let (_, nodes) = two();
    let below = extension(Path::range(&KEY, 2, 3), hashed(&nodes[0]));
    let root = extension(Path::range(&KEY, 0, 2), hashed(&below));
    assert_eq!(own_root(&KEY, &[root, below]), Err(ProofError::Malformed { node: 1, flaw }));
    // Embedded; also where the key does not go there.
    for key in ["83001234", "83005678"] {
        refused(&format!("ca {key} c5 20 83616263"), flaw);
    }
}

#[test]
fn rlp_that_is_not_canonical_is_refused() {
    refused("ca 83201234 846261726b 00", Flaw::WrongItemCount);
    refused("c9 83201234 846261726b 00", Flaw::TrailingBytes);
    refused("c9 83201234 8462617b", Flaw::Truncated);
    refused("c8 83201234 8462617b", Flaw::Truncated);
    refused("f809 83201234 846261726b", Flaw::NotMinimal);
    refused("f90009 83201234 846261726b", Flaw::NotMinimal);
    refused("ca b803201234 846261726b", Flaw::NotMinimal);
    refused("c6 83201234 8105", Flaw::NotMinimal);
    refused("ca 83201234 b8046261726b", Flaw::NotMinimal);
    refused("8461626364", Flaw::WrongItem);
    refused("61", Flaw::WrongItem);
    refused("", Flaw::Truncated);
    refused("c0", Flaw::WrongItemCount);
    refused("c4 c22005 05", Flaw::WrongItem);
    refused("c6 c220 05 8105 05", Flaw::NotMinimal);
    refused("c5 c3201234 05", Flaw::WrongItem);
    refused("c6 83201234 c105", Flaw::WrongItem);
    refused("ff ffffffffffffffff 00", Flaw::Truncated);
    refused("bf ffffffffffffffff 00", Flaw::Truncated);
    refused("f8", Flaw::Truncated);
    let sixteen = "80".repeat(16);
    refused(&format!("d0 {sixteen}"), Flaw::WrongItemCount);
    refused(&format!("d2 {sixteen}8080"), Flaw::WrongItemCount);
    refused(&format!("d1 {sixteen}80"), Flaw::LoneBranch);
    refused(&format!("d1 {sixteen}05"), Flaw::LoneBranch);
    refused(&format!("d1 {sixteen}c0"), Flaw::WrongItem);
    refused(&format!("d3 c22005 {}", sixteen), Flaw::LoneBranch);
    // A reference of one byte, of 31 and of 33; an embedded node that is none, beside the way.
    refused(&format!("d1 05 05 {}", "80".repeat(15)), Flaw::BadReference);
    refused(&format!("f0 9f{} {sixteen}", "11".repeat(31)), Flaw::BadReference);
    refused(&format!("f2 a1{} {sixteen}", "11".repeat(33)), Flaw::BadReference);
    refused(&format!("d1 {}c0c0c0c0 80", "80".repeat(12)), Flaw::WrongItemCount);
}

#[test]
fn paths_that_are_not_canonical_are_refused() {
    refused("c9 83211234 846261726b", Flaw::BadPath);
    refused("c9 83401234 846261726b", Flaw::BadPath);
    refused("c9 83f01234 846261726b", Flaw::BadPath);
    refused("c6 80 846261726b", Flaw::BadPath);
    refused(&format!("e2 00 a0{}", "11".repeat(32)), Flaw::EmptyExtension);
    refused(&format!("e2 01 a0{}", "11".repeat(32)), Flaw::BadPath);
    refused("c4 83001234 80".replace("c4", "c5").as_str(), Flaw::BadReference);
}

#[test]
fn an_empty_value_is_not_an_absent_one() {
    let root = leaf(Path::whole(&KEY), b"");
    assert_eq!(own_root(&KEY, std::slice::from_ref(&root)), Ok(Some(vec![])));
    assert!(verify_slot::<Ethereum>(keccak256(&root), &KEY, &[&root]).is_err());
    assert!(verify_account::<Ethereum>(keccak256(&root), &KEY, &[&root]).is_err());

    let mut root = Vec::new();
    Blake3::encode_leaf(Path::whole(&KEY), LeafValue::Raw(b""), &mut root);
    let hash = Blake3::hash(&root).unwrap();
    assert_eq!(verify::<Blake3>(hash, &KEY, &[&root]), Ok(Some(vec![])));
    let some = NodeRef::hash(B256::repeat_byte(1));
    let mut children = [None; 16];
    children[3] = Some(some);
    children[4] = Some(some);
    for value in [None, Some(&b""[..])] {
        let mut root = Vec::new();
        Blake3::prove_branch(&children, value, None, &mut root);
        let hash = Blake3::hash(&root).unwrap();
        assert_eq!(verify::<Blake3>(hash, &[], &[&root]), Ok(value.map(Vec::from)));
        // The other form of the same bytes has another hash.
        root[0] ^= 2 ^ 4;
        assert!(verify::<Blake3>(hash, &[], &[&root]).is_err());
    }
}

/// What a leaf with this value string says as a slot.
fn slot(value: &[u8]) -> Result<Option<U256>, ProofError> {
    let root = leaf(Path::whole(&KEY), value);
    verify_slot::<Ethereum>(keccak256(&root), &KEY, &[&root])
}

/// What a leaf with this value string, in hex, says as an account.
fn account(value: &str) -> Result<Option<(Account, B256)>, ProofError> {
    let root = leaf(Path::whole(&KEY), &hex::decode(value.replace(' ', "")).expect("hex"));
    verify_account::<Ethereum>(keccak256(&root), &KEY, &[&root])
}

#[test]
fn slots_that_are_not_canonical_are_refused() {
    assert_eq!(slot(&[0x05]), Ok(Some(U256::from(5))));
    assert_eq!(slot(&[0x82, 1, 0]), Ok(Some(U256::from(256))));
    let max = [&[0xa0][..], &[0xff; 32]].concat();
    assert_eq!(slot(&max), Ok(Some(U256::MAX)));
    let long = [&[0xa1, 1][..], &[0xff; 32]].concat();
    for (bytes, flaw) in [
        (&[0x80][..], Flaw::BadNumber),
        (&[0x00], Flaw::NotMinimal),
        (&[0x81, 5], Flaw::NotMinimal),
        (&[0x82, 0, 5], Flaw::NotMinimal),
        (&[5, 5], Flaw::TrailingBytes),
        (&[0xc1, 5], Flaw::WrongItem),
        (&long, Flaw::BadNumber),
    ] {
        assert_eq!(slot(bytes), Err(ProofError::BadValue { node: 0, flaw }), "{bytes:02x?}");
    }
}

#[test]
fn accounts_that_are_not_canonical_are_refused() {
    let hashes = format!("a0{}a0{}", "aa".repeat(32), "bb".repeat(32));
    let good = Account { nonce: 1, balance: U256::ZERO, code_hash: B256::repeat_byte(0xbb) };
    assert_eq!(account(&format!("f844 01 80 {hashes}")), Ok(Some((good, B256::repeat_byte(0xaa)))));
    for (text, flaw) in [
        (format!("f844 00 80 {hashes}"), Flaw::NotMinimal),
        (format!("f844 80 00 {hashes}"), Flaw::NotMinimal),
        (format!("f845 8101 80 {hashes}"), Flaw::NotMinimal),
        (format!("f84d 89010000000000000000 80 {hashes}"), Flaw::BadNumber),
        (format!("f845 01 80 {hashes} 80"), Flaw::WrongItemCount),
        (format!("f844 01 80 {hashes} 80"), Flaw::TrailingBytes),
        (format!("f843 01 {hashes}"), Flaw::BadNumber),
        (format!("f844 c0 80 {hashes}"), Flaw::WrongItem),
    ] {
        let answer = account(&text);
        match answer {
            Err(ProofError::BadValue { node: 0, flaw: found }) if found == flaw => {}
            Err(_) if text.starts_with("f843") => {}
            other => panic!("{text}: {other:?}"),
        }
    }
}

fn blake3_branch(opened: u16, whole: bool) -> (B256, Vec<u8>, Vec<u8>) {
    let mut leaf = Vec::new();
    Blake3::encode_leaf(Path::range(&KEY, 1, 4), LeafValue::Raw(b"bark"), &mut leaf);
    let child = NodeRef::hash(Blake3::hash(&leaf).expect("a node"));
    let mut children = [None; 16];
    children[1] = Some(child);
    children[5] = Some(NodeRef::hash(B256::repeat_byte(9)));
    let mut out = Vec::new();
    Blake3::open_branch(&children, Some(b"root"), opened, whole, &mut out);
    (Blake3::hash(&out).expect("a node"), out, leaf)
}

#[test]
fn a_branch_that_opens_too_much_or_too_little_is_refused() {
    let (root, good, leaf) = blake3_branch(1 << 1, false);
    assert_eq!(verify::<Blake3>(root, &KEY, &[&good, &leaf]), Ok(Some(b"bark".to_vec())));
    for (opened, whole, flaw) in [
        (0, false, Flaw::WrongOpening),
        (1 << 5, false, Flaw::WrongOpening),
        (1 << 1 | 1 << 5, false, Flaw::WrongOpening),
        (1 << 1, true, Flaw::WrongValueForm),
    ] {
        let (same, form, _) = blake3_branch(opened, whole);
        assert_eq!(same, root);
        let answer = verify::<Blake3>(root, &KEY, &[&form, &leaf]);
        assert_eq!(answer, Err(ProofError::Malformed { node: 0, flaw }), "{opened:#x} {whole}");
    }
    // Absence at a nibble that has a child is not shown by keeping the child closed.
    let (_, closed, _) = blake3_branch(0, false);
    assert!(verify::<Blake3>(root, &KEY, &[&closed]).is_err());
    assert_eq!(verify::<Blake3>(root, &[0x22], &[&closed]), Ok(None));
    // The key that ends here wants the value, not its digest.
    assert!(verify::<Blake3>(root, &[], &[&closed]).is_err());
    let (_, whole, _) = blake3_branch(0, true);
    assert_eq!(verify::<Blake3>(root, &[], &[&whole]), Ok(Some(b"root".to_vec())));
}

#[test]
fn a_branch_that_claims_other_children_has_another_hash() {
    let (root, good, _) = blake3_branch(0, false);
    for bit in 0..16 {
        let mut forged = good.clone();
        forged[1 + bit / 8] ^= 1 << (bit % 8);
        if bit != 1 && bit != 5 {
            let answer = verify::<Blake3>(root, &[0x22], &[&forged]);
            assert!(matches!(answer, Err(ProofError::HashMismatch { .. })), "{answer:?}");
        }
        assert!(verify::<Blake3>(root, &KEY, &[&forged]).is_err());
    }
}

#[test]
fn kinds_of_values_are_not_confused() {
    let account = Account { nonce: 1, ..Account::default() };
    for value in [LeafValue::Raw(&[5]), LeafValue::Slot(&[5]), LeafValue::Account(&account, B256::ZERO)] {
        let mut leaf = Vec::new();
        Blake3::encode_leaf(Path::whole(&KEY), value, &mut leaf);
        let root = Blake3::hash(&leaf).expect("a node");
        let (raw, slot, whole) = (
            verify::<Blake3>(root, &KEY, &[&leaf]),
            verify_slot::<Blake3>(root, &KEY, &[&leaf]),
            verify_account::<Blake3>(root, &KEY, &[&leaf]),
        );
        let wrong = ProofError::BadValue { node: 0, flaw: Flaw::WrongKind };
        assert_eq!(raw.is_ok(), matches!(value, LeafValue::Raw(_)));
        assert_eq!(slot.is_ok(), matches!(value, LeafValue::Slot(_)));
        assert_eq!(whole.is_ok(), matches!(value, LeafValue::Account(..)));
        assert!(raw.is_ok() || raw == Err(wrong.clone()));
        assert!(slot.is_ok() || slot == Err(wrong.clone()));
        assert!(whole.is_ok() || whole == Err(wrong));
    }
}

#[test]
fn blake3_nodes_that_are_not_canonical_are_refused() {
    let decode = |text: &str| {
        Blake3::decode(&hex::decode(text.replace(' ', "")).expect("hex"), Place::Root).map(|_| ())
    };
    let hash = "aa".repeat(32);
    assert_eq!(decode("00 0300 0234 05"), Ok(()));
    assert_eq!(decode("00 0300 1234 05"), Err(Flaw::BadPath));
    assert_eq!(decode("00 0104 05"), Err(Flaw::BadPath));
    assert_eq!(decode("00 03c0 0234 05"), Err(Flaw::UnknownKind));
    assert_eq!(decode("00 0300 02"), Err(Flaw::Truncated));
    assert_eq!(decode("00 03"), Err(Flaw::Truncated));
    assert_eq!(decode(&format!("01 0000 {hash}")), Err(Flaw::EmptyExtension));
    assert_eq!(decode(&format!("01 0100 02 {hash}")), Ok(()));
    assert_eq!(decode(&format!("01 0140 02 {hash}")), Err(Flaw::BadPath));
    assert_eq!(decode(&format!("01 0100 02 {hash} 00")), Err(Flaw::TrailingBytes));
    assert_eq!(decode(&format!("01 0200 {hash}")), Err(Flaw::Truncated));
    assert_eq!(decode(&format!("02 0300 0000 {hash}")), Ok(()));
    assert_eq!(decode(&format!("02 0300 0000 {hash}00")), Err(Flaw::TrailingBytes));
    assert_eq!(decode(&format!("02 0300 0400 {hash}{hash}")), Err(Flaw::Truncated));
    assert_eq!(decode(&format!("02 0300 0100 {hash}")), Err(Flaw::Truncated));
    assert_eq!(decode(&format!("02 0100 0000 {hash}")), Err(Flaw::LoneBranch));
    assert_eq!(decode(&format!("03 0100 0000 {hash}{hash}")), Ok(()));
    assert_eq!(decode(&format!("03 0100 0000 {hash}")), Err(Flaw::Truncated));
    assert_eq!(decode(&format!("03 0100 0000 {hash}{hash}00")), Err(Flaw::TrailingBytes));
    assert_eq!(decode("04 0000 0000 05"), Err(Flaw::Truncated));
    assert_eq!(decode(&format!("05 0300 0000 {hash}")), Err(Flaw::UnknownKind));
    assert_eq!(decode(""), Err(Flaw::Truncated));
}

#[test]
fn blake3_slots_that_are_not_canonical_are_refused() {
    let slot = |value: &[u8]| {
        let mut node = Vec::new();
        Blake3::encode_leaf(Path::whole(&KEY), LeafValue::Slot(value), &mut node);
        verify_slot::<Blake3>(Blake3::hash(&node).expect("a node"), &KEY, &[&node])
    };
    assert_eq!((slot(&[5]), slot(&[0xff; 32])), (Ok(Some(U256::from(5))), Ok(Some(U256::MAX))));
    for value in [&[][..], &[0], &[0, 5], &[1; 33]] {
        assert_eq!(slot(value), Err(ProofError::BadValue { node: 0, flaw: Flaw::BadNumber }), "{value:02x?}");
    }
}

#[test]
fn the_longest_key_is_proven_and_no_longer_path_is_read() {
    let key = [0x5a; MAX_KEY_BYTES];
    let mut node = Vec::new();
    Blake3::encode_leaf(Path::whole(&key), LeafValue::Raw(b"far down"), &mut node);
    let answer = verify::<Blake3>(Blake3::hash(&node).expect("a node"), &key, &[&node]);
    assert_eq!(answer, Ok(Some(b"far down".to_vec())));
    let decode = |bytes: &[u8]| Blake3::decode(bytes, Place::Root).map(|_| ());
    assert_eq!(decode(&node), Ok(()));
    // A leaf that says of its path that it is a nibble longer, and has the bytes for it.
    let nibbles = (MAX_KEY_BYTES as u16 * 2 + 1).to_le_bytes();
    let longer = [&[0, nibbles[0], nibbles[1], 0x0a][..], &key, b"far down"].concat();
    assert_eq!(decode(&longer), Err(Flaw::BadPath));
}

#[test]
#[cfg_attr(miri, ignore = "hashes 64 MiB")]
fn a_node_has_room_for_the_longest_key_and_value_and_not_for_more() {
    let mut node = Vec::new();
    let value = vec![7; 64 << 20];
    Blake3::encode_leaf(Path::whole(&[0x5a; MAX_KEY_BYTES]), LeafValue::Raw(&value), &mut node);
    assert!(node.len() <= MAX_NODE_BYTES, "{} bytes", node.len());
    node.resize(MAX_NODE_BYTES, 7);
    let root = Blake3::hash(&node).expect("a node");
    let answer = verify::<Blake3>(root, &[0x5a; MAX_KEY_BYTES], &[&node]).expect("the longest node");
    assert!(answer.is_some_and(|found| found.starts_with(&value)));
    node.push(7);
    let answer = verify::<Blake3>(root, &[0x5a; MAX_KEY_BYTES], &[&node]);
    assert_eq!(answer, Err(ProofError::NodeTooLarge { node: 0, bytes: MAX_NODE_BYTES + 1 }));
}

#[test]
fn a_proof_for_many_keys_has_one_form() {
    let (root, nodes) = two();
    let keys: [&[u8]; 3] = [&[0x22], &KEY, &KEY];
    let proof = MultiProof { nodes: nodes.clone() };
    let values = vec![None, Some(LONG.to_vec()), Some(LONG.to_vec())];
    assert_eq!(verify_many::<Ethereum>(root, &keys, &proof), Ok(values));
    let keys: [&[u8]; 2] = [&[0x56, 0x78], &KEY];
    let other = leaf(Path::range(&[0x56, 0x78], 1, 4), &LONG);
    let good = MultiProof { nodes: vec![nodes[0].clone(), nodes[1].clone(), other.clone()] };
    assert!(verify_many::<Ethereum>(root, &keys, &good).is_ok());
    for nodes in [
        vec![nodes[0].clone(), other.clone(), nodes[1].clone()],
        vec![nodes[1].clone(), nodes[0].clone(), other.clone()],
        vec![nodes[0].clone(), nodes[0].clone(), nodes[1].clone(), other.clone()],
        vec![nodes[0].clone(), nodes[1].clone()],
    ] {
        assert!(verify_many::<Ethereum>(root, &keys, &MultiProof { nodes }).is_err());
    }
}

#[test]
fn many_accounts_and_many_slots_are_read_as_such() {
    let hashes = format!("a0{}a0{}", "aa".repeat(32), "bb".repeat(32));
    let body = hex::decode(format!("f844 01 80 {hashes}").replace(' ', "")).expect("hex");
    let node = leaf(Path::whole(&KEY), &body);
    let (root, proof) = (keccak256(&node), MultiProof { nodes: vec![node] });
    let account = Account { nonce: 1, balance: U256::ZERO, code_hash: B256::repeat_byte(0xbb) };
    let absent = [0x77; KEY.len()];
    let keys = [&KEY[..], &absent, &KEY];
    let there = Some((account, B256::repeat_byte(0xaa)));
    assert_eq!(verify_many_accounts::<Ethereum>(root, &keys, &proof), Ok(vec![there, None, there]));
    assert!(matches!(
        verify_many_slots::<Ethereum>(root, &keys, &proof),
        Err(ProofError::BadValue { node: 0, .. })
    ));
    let node = leaf(Path::whole(&KEY), &[0x05]);
    let (root, proof) = (keccak256(&node), MultiProof { nodes: vec![node] });
    let five = Some(U256::from(5));
    assert_eq!(verify_many_slots::<Ethereum>(root, &keys, &proof), Ok(vec![five, None, five]));
    assert!(verify_many_accounts::<Ethereum>(root, &keys, &proof).is_err());
}
