//! The worked examples of `docs/blake3-scheme.md`: what the page says, what the crate computes, and what a second
//! implementation, written from the page alone, computes.
#![expect(clippy::indexing_slicing, clippy::expect_used, reason = "helpers of tests")]

#[cfg(test)]
mod naive;

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256, hex, keccak256};
use bristlecone_trie::proof::{MultiProof, ProofScheme, verify, verify_many};
use bristlecone_trie::scheme::{LeafValue, blake3::Blake3};
use bristlecone_trie::{Account, NodeRef, Path, Scheme};
use naive::{Naive, Value};

const PAGE: &str = include_str!("../../docs/blake3-scheme.md");

/// Where the page says `name = hex`, that.
fn quoted(name: &str) -> Option<Vec<u8>> {
    let line = PAGE.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
    Some(hex::decode(line.trim()).expect("hex on the page"))
}

#[track_caller]
fn check(name: &str, computed: impl AsRef<[u8]>) {
    let computed = computed.as_ref();
    let shown = quoted(name).map(hex::encode);
    assert_eq!(shown.as_deref(), Some(hex::encode(computed).as_str()), "{name} on the page");
}

/// The second implementation: nothing but the page and BLAKE3.
mod second {
    pub(crate) fn key(domain: &str) -> [u8; 32] {
        blake3::derive_key(&format!("bristlecone trie blake3 v1 {domain}"), b"")
    }

    pub(crate) fn hash(domain: &str, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&key(domain), bytes).as_bytes()
    }

    fn pack(nibbles: &[u8]) -> Vec<u8> {
        let (odd, pairs) = nibbles.split_at(nibbles.len() % 2);
        odd.iter().copied().chain(pairs.chunks(2).map(|pair| pair[0] * 16 + pair[1])).collect()
    }

    pub(crate) fn leaf(kind: u16, nibbles: &[u8], payload: &[u8]) -> [u8; 32] {
        let head = (kind * 0x4000 + nibbles.len() as u16).to_le_bytes();
        hash("leaf", &[&head[..], &pack(nibbles), payload].concat())
    }

    pub(crate) fn extension(nibbles: &[u8], child: [u8; 32]) -> [u8; 32] {
        hash("extension", &[&(nibbles.len() as u16).to_le_bytes()[..], &pack(nibbles), &child].concat())
    }

    fn tree(children: &[Option<[u8; 32]>]) -> Option<[u8; 32]> {
        if let [child] = children {
            return *child;
        }
        let (low, high) = children.split_at(children.len() / 2);
        match (tree(low), tree(high)) {
            (Some(low), Some(high)) => Some(hash("pair", &[low, high].concat())),
            (low, high) => low.or(high),
        }
    }

    pub(crate) fn branch(children: &[Option<[u8; 32]>; 16], value: Option<&[u8]>) -> [u8; 32] {
        let occupied = (0..16).filter(|n| children[*n].is_some()).fold(0u16, |mask, n| mask | 1 << n);
        let mut bytes = occupied.to_le_bytes().to_vec();
        bytes.extend(tree(children).expect("a child"));
        bytes.extend(value.map(|value| hash("value", value)).into_iter().flatten());
        hash("branch", &bytes)
    }

    /// The root over flat values; keys as nibbles, ascending, with `depth` of them behind us.
    pub(crate) fn root(entries: &[(Vec<u8>, Vec<u8>)], depth: usize) -> [u8; 32] {
        let (first, last) = match entries {
            [] => return key("empty"),
            [(key, value)] => return leaf(0, &key[depth..], value),
            [first, .., last] => (&first.0, &last.0),
        };
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        if shared > depth {
            return extension(&first[depth..shared], root(entries, shared));
        }
        let own = entries.first().filter(|(key, _)| key.len() == depth).map(|(_, value)| &value[..]);
        let children = std::array::from_fn(|nibble| {
            let here: Vec<_> =
                entries.iter().filter(|(key, _)| key.get(depth) == Some(&(nibble as u8))).cloned().collect();
            (!here.is_empty()).then(|| root(&here, depth + 1))
        });
        branch(&children, own)
    }
}

fn hashed(encoding: &[u8]) -> B256 {
    Blake3::reference(encoding, false).as_hash().expect("a hash")
}

#[test]
fn keys_of_the_domains() {
    for domain in ["leaf", "extension", "pair", "branch", "value"] {
        check(&format!("key of {domain}"), second::key(domain));
    }
    check("empty root", second::key("empty"));
    check("empty root", Blake3::empty_root());
}

#[test]
fn leaves() {
    let case = |name: &str, path: Path<'_>, value, kind, payload: &[u8]| {
        let mut out = Vec::new();
        Blake3::encode_leaf(path, value, &mut out);
        check(&format!("{name} encoding"), &out);
        check(&format!("{name} hash"), hashed(&out));
        check(&format!("{name} hash"), second::leaf(kind, &path.nibbles().collect::<Vec<_>>(), payload));
    };
    let key = [0x12, 0x34];
    case("leaf with an even path", Path::whole(&key), LeafValue::Raw(b"bark"), 0, b"bark");
    case("leaf with an odd path", Path::range(&key, 1, 4), LeafValue::Raw(b""), 0, b"");
    case("slot", Path::range(&key, 2, 4), LeafValue::Slot(&[1, 0]), 1, &[1, 0]);
    let account = Account { nonce: 5, balance: U256::from(1_000_000_007u64), code_hash: keccak256(b"code") };
    let mut body = vec![0x81, 4, 5, 0x3b, 0x9a, 0xca, 0x07];
    body.extend(keccak256(b"code"));
    let payload = [Blake3::empty_root().as_slice(), &body].concat();
    case(
        "account with code",
        Path::whole(&key),
        LeafValue::Account(&account, Blake3::empty_root()),
        2,
        &payload,
    );
    let empty = Account::default();
    let payload = [Blake3::empty_root().as_slice(), &[0, 0]].concat();
    case(
        "account with nothing",
        Path::whole(&key),
        LeafValue::Account(&empty, Blake3::empty_root()),
        2,
        &payload,
    );
}

#[test]
fn extensions_and_branches() {
    let child = |byte| [byte; 32];
    let mut out = Vec::new();
    let node = NodeRef::hash(B256::new(child(0xaa)));
    Blake3::encode_extension(Path::range(&[0x12, 0x34], 1, 4), &node, &mut out);
    check("extension encoding", &out);
    check("extension hash", hashed(&out));
    check("extension hash", second::extension(&[2, 3, 4], child(0xaa)));

    // Children at 0, 1, 2, 9 and f.
    let present = [0, 1, 2, 9, 15];
    let plain = std::array::from_fn(|n| present.contains(&n).then(|| child(n as u8)));
    let nodes = plain.map(|child| child.map(|hash| NodeRef::hash(B256::new(hash))));
    for (name, value) in [("branch", None), ("branch with a value", Some(&b"cone"[..]))] {
        let mut out = Vec::new();
        Blake3::encode_branch(&nodes, value, &mut out);
        check(&format!("{name} encoding"), &out);
        check(&format!("{name} hash"), hashed(&out));
        check(&format!("{name} hash"), second::branch(&plain, value));
        for (form, nibble) in [("opened at 2", Some(2)), ("opened at 3", Some(3)), ("closed", None)] {
            let mut out = Vec::new();
            Blake3::prove_branch(&nodes, value, nibble, &mut out);
            check(&format!("{name} {form}"), &out);
            assert_eq!(hashed(&out), B256::new(second::branch(&plain, value)));
        }
    }
    let mut out = Vec::new();
    <Blake3 as ProofScheme>::open_branch(&nodes, None, 1 << 2 | 1 << 9, false, &mut out);
    check("branch opened at 2 and 9", &out);
}

fn example() -> BTreeMap<Vec<u8>, Value> {
    let entries: [(&[u8], &[u8]); 4] =
        [(&[0x12], b"trunk"), (&[0x12, 0x34], b"bark"), (&[0x12, 0x56], b"ring"), (&[0x56, 0x78], b"needle")];
    entries.into_iter().map(|(key, value)| (key.to_vec(), Value::Raw(value.to_vec()))).collect()
}

#[test]
fn a_whole_trie_with_its_proofs() {
    let trie = Naive::new(&example());
    let root = trie.root::<Blake3>();
    check("root of the example", root);
    type Case<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);
    let proofs: [Case<'_>; 6] = [
        ("proof of 1234", &[0x12, 0x34], Some(b"bark")),
        ("proof of 12", &[0x12], Some(b"trunk")),
        ("proof of no 1299", &[0x12, 0x99], None),
        ("proof of no 1335", &[0x13, 0x35], None),
        ("proof of no 5679", &[0x56, 0x79], None),
        ("proof of no 9a", &[0x9a], None),
    ];
    for (name, key, value) in proofs {
        let nodes = trie.prove::<Blake3>(&[key.to_vec()]);
        assert_eq!(verify::<Blake3>(root, key, &nodes), Ok(value.map(Vec::from)));
        for (index, node) in nodes.iter().enumerate() {
            check(&format!("{name} node {index}"), node);
        }
        assert_eq!(quoted(&format!("{name} node {}", nodes.len())), None);
    }
    let keys = [vec![0x12, 0x34], vec![0x56, 0x78], vec![0x12]];
    let proof = MultiProof { nodes: trie.prove::<Blake3>(&keys) };
    let values = [b"bark".to_vec(), b"needle".to_vec(), b"trunk".to_vec()].map(Some).to_vec();
    assert_eq!(verify_many::<Blake3>(root, &keys, &proof), Ok(values));
    for (index, node) in proof.nodes.iter().enumerate() {
        check(&format!("proof of 12, 1234 and 5678 node {index}"), node);
    }
}

#[test]
fn the_second_implementation_agrees_on_random_tries() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let mut rng = StdRng::seed_from_u64(20_260_104);
    for _ in 0..300 {
        let count = rng.random_range(0..60);
        let map: BTreeMap<Vec<u8>, Value> = (0..count)
            .map(|_| {
                let len = rng.random_range(0..5);
                let key = (0..len).map(|_| rng.random::<u8>() & 0x33).collect();
                (key, Value::Raw((0..rng.random_range(0..50)).map(|_| rng.random()).collect()))
            })
            .collect();
        let entries: Vec<_> = map
            .iter()
            .map(|(key, value)| {
                let Value::Raw(value) = value else { panic!("flat values only") };
                (Path::whole(key).nibbles().collect(), value.clone())
            })
            .collect();
        assert_eq!(Naive::new(&map).root::<Blake3>().0, second::root(&entries, 0));
    }
}
