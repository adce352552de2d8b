//! Every `eth_getProof` answer at hand verifies; with one byte changed it does not, and nothing panics.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, KECCAK256_EMPTY, U256, hex, keccak256};
use bristlecone_trie::proof::{ProofError, verify, verify_account, verify_slot};
use bristlecone_trie::scheme::ethereum::Ethereum;
use bristlecone_trie::{Account, Scheme};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// The folder of real data, or a word about skipping.
fn data(folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(folder);
    if !path.is_dir() {
        println!("SKIPPED: no real proofs at {}", path.display());
        return None;
    }
    Some(path)
}

/// What a proof is said to prove.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Account(Option<(Account, B256)>),
    Slot(Option<U256>),
    /// The nodes stop above what is at the key.
    Cut,
}

/// One proof and its statement.
struct Case {
    origin: String,
    root: B256,
    key: B256,
    nodes: Vec<Vec<u8>>,
    said: Said,
}

impl Case {
    fn check(&self, root: B256, key: &[u8], nodes: &[Vec<u8>]) -> Result<Said, ProofError> {
        match self.said {
            Said::Account(_) => verify_account::<Ethereum>(root, key, nodes).map(Said::Account),
            Said::Slot(_) => verify_slot::<Ethereum>(root, key, nodes).map(Said::Slot),
            Said::Cut => match verify::<Ethereum>(root, key, nodes) {
                Err(ProofError::MissingNode { node, .. }) if node == nodes.len() => Ok(Said::Cut),
                Err(error) => Err(error),
                Ok(value) => {
                    Ok(Said::Slot(value.map(|bytes| U256::try_from_be_slice(&bytes).unwrap_or_default())))
                }
            },
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hex")
}

fn nodes(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().expect("a list").iter().map(bytes).collect()
}

/// A quantity or a hash of up to 32 bytes, with or without 0x and leading zeros.
fn word(value: &Value) -> B256 {
    let text = value.as_str().expect("a string").trim_start_matches("0x");
    B256::new(U256::from_str_radix(if text.is_empty() { "0" } else { text }, 16).expect("hex").to_be_bytes())
}

fn number(value: &Value) -> U256 {
    U256::from_be_bytes(word(value).0)
}

/// The statements of one answer. Without a `root` (no header at hand) the first node says it.
fn answer(origin: &str, value: &Value, address: Option<&Value>, root: Option<B256>, cases: &mut Vec<Case>) {
    // One of the sources nests the account, and leaves the address out.
    let account = value.get("account").unwrap_or(value);
    let storage = word(account.get("storageHash").or(account.get("storageRoot")).expect("storage root"));
    let body = Account {
        nonce: number(&account["nonce"]).to(),
        balance: number(&account["balance"]),
        code_hash: word(&account["codeHash"]),
    };
    let account_nodes = nodes(&value["accountProof"]);
    let account_nodes_empty = account_nodes.is_empty();
    if let Some(first) = account_nodes.first() {
        let address = address.or(value.get("address")).expect("an address");
        let root = root.unwrap_or_else(|| keccak256(first));
        let key = keccak256(bytes(address));
        // Servers answer for an absent account with empty fields, some with zeros for its hashes.
        let none = body.nonce == 0
            && body.balance.is_zero()
            && (body.code_hash.is_zero() || body.code_hash == KECCAK256_EMPTY);
        let absent = none && verify_account::<Ethereum>(root, key.as_slice(), &account_nodes) == Ok(None);
        let said = Said::Account((!absent).then_some((body, storage)));
        cases.push(Case {
            origin: format!("{origin} account {address}"),
            root,
            key,
            nodes: account_nodes,
            said,
        });
    }
    // The storage of an absent account may be said to have the root zero, with proofs by no nodes.
    let root = if storage.is_zero() { Ethereum::empty_root() } else { storage };
    for slot in value["storageProof"].as_array().expect("a list") {
        let value = number(&slot["value"]);
        let slot_nodes = nodes(&slot["proof"]);
        cases.push(Case {
            origin: format!("{origin} slot {}", slot["key"]),
            // One file without an account was put together by hand, around another storage root.
            root: if account_nodes_empty { keccak256(&slot_nodes[0]) } else { root },
            key: keccak256(word(&slot["key"])),
            nodes: slot_nodes,
            said: Said::Slot((!value.is_zero()).then_some(value)),
        });
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// A list of byte lists in SSZ.
fn ssz_list(bytes: &[u8]) -> Vec<Vec<u8>> {
    let count = u32_at(bytes, 0) / 4;
    let end = |index| if index == count { bytes.len() } else { u32_at(bytes, index * 4) };
    (0..count).map(|index| bytes[end(index)..end(index + 1)].to_vec()).collect()
}

/// The Portal network's offers: a header, and the nodes down to some node of the trie, which may be no leaf.
fn portal(origin: &str, text: &str, cases: &mut Vec<Case>) {
    let field = |block: &str, name: &str| {
        let line = block.lines().find(|line| line.contains(name)).expect("the field");
        let from = line.find("0x").expect("hex");
        let hex: String = line[from + 2..].chars().take_while(char::is_ascii_hexdigit).collect();
        hex::decode(hex).expect("hex")
    };
    for block in text.split("\n\n").filter(|block| block.contains("content_key")) {
        let address = keccak256(field(block, "# Address"));
        let leaf = block.contains("# Leaf node");
        let header = field(block, "block_header");
        let state_root = B256::from_slice(&header[91..123]);
        let offer = field(block, "content_value_offer");
        let storage = origin.contains("storage");
        let account = if storage { &offer[u32_at(&offer, 4)..] } else { &offer[u32_at(&offer, 0)..] };
        let account = ssz_list(account);
        let decoded = verify_account::<Ethereum>(state_root, address.as_slice(), &account);
        let case =
            |root, key, nodes: Vec<Vec<u8>>, said| Case { origin: origin.into(), root, key, nodes, said };
        if storage {
            let (_, storage_root) = decoded.expect("an account").expect("is there");
            let slots = ssz_list(&offer[u32_at(&offer, 0)..u32_at(&offer, 4)]);
            let said = if leaf { Said::Slot(Some(U256::from(18))) } else { Said::Cut };
            cases.push(case(storage_root, keccak256(B256::with_last_byte(2)), slots, said));
        } else if leaf {
            cases.push(case(state_root, address, account, Said::Account(decoded.expect("an account"))));
        } else {
            cases.push(case(state_root, address, account, Said::Cut));
        }
    }
}

fn answers() -> Option<Vec<Case>> {
    let folder = data("eip1186")?;
    let mut cases = Vec::new();
    let parse =
        |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON") };
    let block = parse(&folder.join("helios_block.json"));
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for path in files {
        let origin = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let before = cases.len();
        match path.extension().and_then(|ext| ext.to_str()) {
            Some("yaml") => portal(&origin, &fs::read_to_string(&path).expect("text"), &mut cases),
            Some("io") => {
                let text = fs::read_to_string(&path).expect("text");
                let line = text.lines().find_map(|line| line.strip_prefix("<< ")).expect("an answer");
                let value: Value = serde_json::from_str(line).expect("JSON");
                answer(&origin, &value["result"], None, None, &mut cases);
            }
            Some("json") if origin == "helios_block.json" => continue,
            Some("json") => {
                let value = parse(&path);
                let root = origin.starts_with("helios").then(|| word(&block["stateRoot"]));
                let address = match origin.as_str() {
                    "helios_account.json" => Some(Value::from("0x00000000219ab540356cbb839cbe05303d7705fa")),
                    "helios_block_miner_account.json" => Some(block["miner"].clone()),
                    _ => None,
                };
                answer(&origin, value.get("result").unwrap_or(&value), address.as_ref(), root, &mut cases);
            }
            _ => panic!("what is {origin}?"),
        }
        assert!(cases.len() > before, "{origin} holds no proof");
    }
    Some(cases)
}

fn caches() -> Option<Vec<Case>> {
    let folder = data("eip1186_caches")?;
    let mut cases = Vec::new();
    let mut headerless = 0;
    for entry in fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(&path).expect("a file"))
            .read_to_end(&mut text)
            .expect("gzip");
        let cache: Value = serde_json::from_slice(&text).expect("JSON");
        let mut roots = HashMap::new();
        for list in ["full_blocks", "partial_blocks"].iter().filter_map(|name| cache[name].as_array()) {
            roots.extend(
                list.iter().map(|pair| (pair[0]["block_no"].to_string(), word(&pair[1]["stateRoot"]))),
            );
        }
        let origin = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        for pair in cache["proofs"].as_array().expect("a list") {
            let root = roots.get(&pair[0]["block_no"].to_string()).copied();
            headerless += usize::from(root.is_none());
            answer(&origin, &pair[1], Some(&pair[0]["address"]), root, &mut cases);
        }
    }
    println!("{headerless} answers are for blocks whose header is not in their file");
    Some(cases)
}

fn all_verify(cases: &[Case]) {
    let mut counts = [0; 5];
    for case in cases {
        let said = case.check(case.root, case.key.as_slice(), &case.nodes);
        assert_eq!(said.as_ref(), Ok(&case.said), "{}", case.origin);
        counts[match case.said {
            Said::Account(Some(_)) => 0,
            Said::Account(None) => 1,
            Said::Slot(Some(_)) => 2,
            Said::Slot(None) => 3,
            Said::Cut => 4,
        }] += 1;
    }
    let [accounts, no_accounts, slots, no_slots, cut] = counts;
    println!("accounts {accounts}, absent {no_accounts}; slots {slots}, absent {no_slots}; cut off {cut}");
    assert!(accounts > 0 && slots > 0 && no_slots > 0);
}

fn no_changed_byte_is_accepted(cases: &[Case]) {
    let long = std::env::var("BRISTLECONE_LONG").is_ok_and(|value| value == "1");
    let seed = std::env::var("BRISTLECONE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_102);
    println!("BRISTLECONE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for case in cases {
        let total: usize = case.nodes.iter().map(Vec::len).sum();
        let mut places: Vec<usize> = (0..total).collect();
        if !long && total > 0 {
            places = (0..3).map(|_| rng.random_range(0..total)).collect();
        }
        let mut nodes = case.nodes.clone();
        for mut place in places {
            let mut node = 0;
            while place >= nodes[node].len() {
                place -= nodes[node].len();
                node += 1;
            }
            let flip = rng.random_range(1..=255);
            nodes[node][place] ^= flip;
            let answer = case.check(case.root, case.key.as_slice(), &nodes);
            assert!(answer.is_err(), "{}: byte {place} of node {node}: {answer:?}", case.origin);
            nodes[node][place] ^= flip;
        }
        for place in
            if long { 0..32 } else { (0..32).nth(rng.random_range(0..32)).map_or(0..0, |at| at..at + 1) }
        {
            let mut root = case.root;
            root.0[place] ^= rng.random_range(1..=255);
            assert!(case.check(root, case.key.as_slice(), &nodes).is_err(), "{}: another root", case.origin);
            let mut key = case.key;
            key.0[place] ^= rng.random_range(1..=255);
            // Under another key the nodes may prove, and truly, an absence; but never the value of this one.
            let other = case.check(case.root, key.as_slice(), &nodes);
            let harmless = matches!(other, Err(_) | Ok(Said::Account(None) | Said::Slot(None) | Said::Cut));
            assert!(harmless, "{}: {other:?} for another key", case.origin);
        }
    }
}

#[test]
fn every_answer_verifies() {
    if let Some(cases) = answers() {
        all_verify(&cases);
    }
}

#[test]
fn no_answer_with_a_changed_byte_verifies() {
    if let Some(cases) = answers() {
        no_changed_byte_is_accepted(&cases);
    }
}

#[test]
fn every_cached_answer_verifies_to_its_header() {
    if let Some(cases) = caches() {
        all_verify(&cases);
    }
}

#[test]
fn no_cached_answer_with_a_changed_byte_verifies() {
    if let Some(cases) = caches() {
        no_changed_byte_is_accepted(&cases);
    }
}
