//! Real execution witnesses of every shape load and hang under the root before their block; the changes of real blocks, applied to
//! nothing but them, end at the root that the header states.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use bristlecone::{
    Account, Batch, Error as StoreError, Namespace, PartialError, SchemeKind, Stateless, Store,
};
use bristlecone_evm::Error;
use bristlecone_evm::witness::{ExecutionWitness, Input, Source, decode_compact};
use serde_json::{Value, json};

use crate::data::data;

fn files(folder: &str) -> Vec<PathBuf> {
    let Some(dir) = data(folder) else { return Vec::new() };
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let bytes = if path.extension().is_some_and(|end| end == "zst") {
        zstd::decode_all(&bytes[..]).unwrap()
    } else {
        bytes
    };
    String::from_utf8(bytes).unwrap()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Every file of witnesses, read.
fn inputs() -> Vec<(String, Input)> {
    let files = files("witness").into_iter().filter(|path| !name(path).contains("_header"));
    let read = |path: PathBuf| {
        let input = Input::parse(&text(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (name(&path), input)
    };
    files.map(read).collect()
}

#[test]
fn every_real_witness_of_every_shape_hangs_under_its_root() {
    let inputs = inputs();
    let mut nodes = 0;
    for (name, input) in &inputs {
        let mut state = input.state().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(state.root().unwrap(), input.pre_root, "{name}");
        let bytes: usize = input.nodes.iter().map(|node| node.len()).sum();
        nodes += input.nodes.len();
        eprintln!(
            "{name}: {:?}, block {:?}, {} nodes, {bytes} bytes, {} codes, {} headers",
            input.source,
            input.number,
            input.nodes.len(),
            input.codes.len(),
            input.ancestors.len(),
        );
        for left_out in (0..input.nodes.len()).step_by(97) {
            let mut fewer = input.clone();
            fewer.nodes.remove(left_out);
            // A node above others leaves those unlinked; a lowest one is then known by its hash alone.
            match fewer.state() {
                Ok(mut state) => assert_eq!(state.root().unwrap(), input.pre_root, "{name}"),
                Err(Error::Store(StoreError::Witness(
                    PartialError::Unlinked { .. } | PartialError::NoRoot(_),
                ))) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        // Nor can one be there that does not belong.
        let mut more = input.clone();
        more.nodes.push(Bytes::from_static(&[0xc2, 0x20, 0x05]));
        assert!(matches!(
            more.state().unwrap_err(),
            Error::Store(StoreError::Witness(PartialError::Unlinked { .. }))
        ));
    }
    if !inputs.is_empty() {
        assert_eq!(inputs.len(), 10);
        for source in [Source::Ethrex, Source::EthrexOld, Source::Sbv, Source::Zkpi, Source::ZkEvm] {
            assert!(inputs.iter().any(|(_, input)| input.source == source), "{source:?}");
        }
    }
    eprintln!("{} witnesses, {nodes} nodes", inputs.len());
}

#[test]
fn a_witness_stands_alone_as_the_answer_of_debug_execution_witness() {
    for (name, input) in inputs().iter().filter(|(_, input)| input.source == Source::Ethrex) {
        let headers = input.ancestors.iter().map(|header| alloy_rlp::encode(header).into()).collect();
        let codes = input.codes.values().cloned().collect();
        let witness = ExecutionWitness { state: input.nodes.clone(), codes, keys: Vec::new(), headers };
        let bare = serde_json::to_string(&witness).unwrap();
        let wrapped = json!({"jsonrpc": "2.0", "id": 1, "result": witness}).to_string();
        for text in [bare, wrapped] {
            let read = Input::parse(&text).unwrap();
            assert_eq!((read.source, read.pre_root), (Source::Debug, input.pre_root), "{name}");
            assert_eq!((read.nodes, read.number), (input.nodes.clone(), input.number));
            assert_eq!((read.codes, read.ancestors), (input.codes.clone(), input.ancestors.clone()));
        }
    }
}

fn quantity(value: &Value) -> U256 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        other => U256::from(other.as_u64().unwrap()),
    }
}

fn account(value: &Value) -> Account {
    Account {
        nonce: quantity(&value["nonce"]).to(),
        balance: quantity(&value["balance"]),
        code_hash: value["codeHash"].as_str().unwrap().parse().unwrap(),
    }
}

/// What zkpi says that a block changes: state diffs by account.
fn zkpi_changes(file: &Value) -> Batch {
    let mut batch = Batch::new();
    for diff in file["extra"]["stateDiffs"].as_array().unwrap() {
        let address: Address = diff["address"].as_str().unwrap().parse().unwrap();
        let (pre, post) = (&diff["preAccount"], &diff["postAccount"]);
        if post.is_null() {
            batch.delete_account(address.as_slice());
            continue;
        }
        if pre != post {
            batch.set_account(address.as_slice(), &account(post));
        }
        for slot in diff["storage"].as_array().into_iter().flatten() {
            let key = slot["storageKey"].as_str().unwrap().parse().unwrap();
            batch.set_slot(address.as_slice(), key, quantity(&slot["postValue"]));
        }
    }
    batch
}

#[test]
fn state_diffs_lead_from_a_witness_to_the_root_of_the_header() {
    let mut blocks = 0;
    for path in files("witness").iter().filter(|path| name(path).contains("zkpi")) {
        let text = text(path);
        let input = Input::parse(&text).unwrap();
        let mut state = input.state().unwrap();
        state.apply(&zkpi_changes(&serde_json::from_str(&text).unwrap())).unwrap();
        assert_eq!(Some(state.root().unwrap()), input.post_root, "{}", name(path));
        blocks += 1;
    }
    eprintln!("{blocks} blocks from their state diffs");
}

/// An account, what it was before, and slots with their values before.
type Read = (Address, Option<Account>, Vec<(B256, U256)>);

/// A transition: the root before, the nodes, what changes, the root after.
struct Transition {
    pre: B256,
    nodes: Vec<Bytes>,
    siblings: Vec<Bytes>,
    reads: Vec<Read>,
    changes: Batch,
    post: B256,
}

impl Transition {
    fn read(path: &Path) -> Self {
        let file: Value = serde_json::from_str(&text(path)).unwrap();
        let hash = |name: &str| file[name].as_str().unwrap().parse().unwrap();
        let nodes = |name: &str| {
            let nodes = file[name].as_array().into_iter().flatten();
            nodes.map(|node| node.as_str().unwrap().parse().unwrap()).collect()
        };
        let (mut reads, mut changes) = (Vec::new(), Batch::new());
        for change in file["accounts"].as_array().unwrap() {
            let address: Address = change["address"].as_str().unwrap().parse().unwrap();
            let (pre, post) = (&change["pre"], &change["post"]);
            let mut slots = Vec::new();
            for slot in change["storage"].as_array().into_iter().flatten() {
                let key = B256::from(quantity(&slot["slot"]));
                let (before, after) = (quantity(&slot["pre"]), quantity(&slot["post"]));
                slots.push((key, before));
                if before != after && !post.is_null() {
                    changes.set_slot(address.as_slice(), key, after);
                }
            }
            reads.push((address, (!pre.is_null()).then(|| account(pre)), slots));
            match (pre.is_null(), post.is_null()) {
                (_, false) => drop(changes.set_account(address.as_slice(), &account(post))),
                (false, true) => drop(changes.delete_account(address.as_slice())),
                (true, true) => {}
            }
        }
        let (nodes, siblings) = (nodes("nodes"), nodes("siblingNodes"));
        Self { pre: hash("preRoot"), nodes, siblings, reads, changes, post: hash("postRoot") }
    }

    fn open(&self, nodes: &[Bytes]) -> Result<Stateless, StoreError> {
        Stateless::new(Namespace::accounts(SchemeKind::Ethereum), self.pre, nodes)
    }

    fn all_nodes(&self) -> Vec<Bytes> {
        [&self.nodes[..], &self.siblings].concat()
    }
}

#[test]
fn all_transitions_end_at_their_published_roots() {
    let files = files("transitions");
    let (mut accounts, mut slots, mut with_siblings) = (0, 0, 0);
    for path in &files {
        let block = Transition::read(path);
        let name = name(path);
        let mut state = block.open(&block.all_nodes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(state.root().unwrap(), block.pre, "{name} before");
        for (address, account, storage) in &block.reads {
            assert_eq!(state.account(address.as_slice()).unwrap(), *account, "{name} {address}");
            for (slot, value) in storage {
                assert_eq!(state.slot(address.as_slice(), *slot).unwrap(), *value, "{name} {address} {slot}");
            }
            slots += storage.len();
        }
        accounts += block.reads.len();
        state.apply(&block.changes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(state.root().unwrap(), block.post, "{name} after");
        if block.siblings.is_empty() {
            continue;
        }
        // Without the siblings of what it removes the same block cannot be done, and says which node it wants.
        with_siblings += 1;
        let mut state = block.open(&block.nodes).unwrap();
        let error = state.apply(&block.changes).unwrap_err();
        let StoreError::Witness(PartialError::Sibling(missing)) = &error else { panic!("{name}: {error}") };
        assert!(block.siblings.iter().any(|node| keccak256(node) == missing.hash), "{name}: {error}");
        assert_eq!(state.root().unwrap(), block.pre, "{name}: nothing happened");
    }
    assert!(files.is_empty() || files.len() == 25);
    eprintln!(
        "{} transitions, {accounts} accounts, {slots} slots; {with_siblings} want siblings",
        files.len()
    );
}

#[test]
fn a_real_witness_with_a_node_missing_says_so_and_never_that_nothing_is_there() {
    let mut refused = 0;
    for path in files("transitions").iter().filter(|path| name(path).contains("mainnet-0115")) {
        let block = Transition::read(path);
        let nodes = block.all_nodes();
        for left_out in 0..nodes.len() {
            let mut fewer = nodes.clone();
            fewer.remove(left_out);
            let Ok(mut state) = block.open(&fewer) else {
                refused += 1;
                continue;
            };
            for (address, account, storage) in &block.reads {
                match state.account(address.as_slice()) {
                    Ok(found) => assert_eq!(found, *account),
                    Err(StoreError::Witness(PartialError::Blinded(missing))) => {
                        assert_eq!(missing.hash, keccak256(&nodes[left_out]));
                    }
                    Err(error) => panic!("{error}"),
                }
                for (slot, value) in storage {
                    assert!(
                        state.slot(address.as_slice(), *slot).is_ok_and(|found| found == *value)
                            || state.slot(address.as_slice(), *slot).is_err()
                    );
                }
            }
            // The whole block is refused, unless the node was only read, or was a sibling that is not needed.
            match state.apply(&block.changes) {
                Ok(()) => assert_eq!(state.root().unwrap(), block.post),
                Err(StoreError::Witness(_)) => assert_eq!(state.root().unwrap(), block.pre),
                Err(error) => panic!("{error}"),
            }
        }
    }
    eprintln!("{refused} nodes whose absence leaves others unlinked");
}

#[test]
fn a_witness_made_from_a_store_goes_through_json_and_brings_codes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let code = Bytes::from_static(&[0x60, 0x00]);
    let (plain, contract) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let mut genesis = Batch::new();
    genesis.set_account(plain.as_slice(), &Account { balance: U256::from(9), ..Account::default() });
    let with_code = Account { code_hash: keccak256(&code), ..Account::default() };
    genesis.set_account(contract.as_slice(), &with_code).set_code(keccak256(&code), code.clone().into());
    genesis.set_slot(contract.as_slice(), B256::ZERO, U256::from(5));
    genesis.set_slot(contract.as_slice(), B256::repeat_byte(1), U256::from(6));
    let root = store.commit(genesis).unwrap().root().wait().unwrap();
    let mut block = Batch::new();
    block.set_slot(contract.as_slice(), B256::ZERO, U256::ZERO);
    let keys = [(contract, vec![B256::ZERO])];
    let witness = ExecutionWitness::of(&store.latest().unwrap(), &keys, &block).unwrap();
    let text = serde_json::to_string(&witness).unwrap();
    let read: ExecutionWitness = serde_json::from_str(&text).unwrap();
    assert_eq!(read, witness);
    assert_eq!(read.codes, [code]);
    assert_eq!(read.keys, [Bytes::from(contract.to_vec()), Bytes::from(B256::ZERO.to_vec())]);
    let mut state = read.open(root).unwrap();
    assert_eq!(state.slot(contract.as_slice(), B256::ZERO).unwrap(), U256::from(5));
    assert!(state.account(plain.as_slice()).is_err());
    state.apply(&block).unwrap();
    assert_eq!(state.root().unwrap(), store.commit(block).unwrap().root().wait().unwrap());
    // Without a header nothing says which state it is.
    assert!(matches!(Input::parse(&text), Err(Error::WitnessFormat { .. })));
    store.close().unwrap();
}

#[test]
fn what_is_no_witness_is_refused() {
    let hash = B256::repeat_byte(7);
    for text in [
        String::new(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        "3".into(),
        r#"{"witness": {}}"#.into(),
        r#"{"state": ["0x0"], "codes": []}"#.into(),
        r#"{"state": [], "codes": [], "headers": ["0xc0"]}"#.into(),
        r#"{"jsonrpc": "2.0", "error": {"code": -32000, "message": "no"}}"#.into(),
        r#"{"jsonrpc": "2.0"}"#.into(),
        r#"{"blocks": [], "witness": {"state": [], "codes": [], "headers": []}}"#.into(),
        format!(r#"{{"states": [], "codes": [], "header": {{"state_root": "{hash}", "number": -1}}, "prev_state_root": "{hash}"}}"#),
        format!(r#"{{"states": [], "codes": [], "header": {{"state_root": "{hash}", "number": "x"}}, "prev_state_root": "{hash}"}}"#),
        r#"[{"block_trace": {"trie_pre_images": {"combined": {"compact": "0x"}}}, "other_data": {"b_data": {"b_meta": {"block_number": "0x1"}}}}]"#.into(),
    ] {
        let result = Input::parse(&text);
        assert!(matches!(result, Err(Error::WitnessFormat { .. })), "{text}: {result:?}");
    }
}

#[test]
fn headers_of_another_chain_are_refused() {
    for path in
        files("witness").iter().filter(|path| name(path).contains("hoodi") || name(path).contains("zkpi"))
    {
        let file: Value = serde_json::from_str(&text(path)).unwrap();
        let mut forged = file.clone();
        forged["blocks"][0]["header"]["parentHash"] = json!(B256::repeat_byte(1));
        assert!(Input::parse(&forged.to_string()).unwrap_err().to_string().contains("is not the parent"));
    }
}

#[test]
fn compact_witnesses_that_are_none_are_refused_wherever_they_end() {
    for path in files("witness").iter().filter(|path| name(path).contains("main.json")) {
        let file: Value = serde_json::from_str(&text(path)).unwrap();
        let compact = file[0]["block_trace"]["trie_pre_images"]["combined"]["compact"].as_str().unwrap();
        let compact: Bytes = compact.parse().unwrap();
        let whole = decode_compact(&compact).unwrap();
        let checkpoint: B256 =
            file[0]["other_data"]["checkpoint_state_trie_root"].as_str().unwrap().parse().unwrap();
        assert_eq!(whole.root, checkpoint);
        for end in (0..compact.len()).step_by(2003) {
            assert!(decode_compact(&compact[..end]).is_err(), "{end}");
        }
    }
    let cases: [&[u8]; 12] = [
        &[],
        &[1],
        &[2],
        &[1, 9],
        &[1, 6, 6],
        &[1, 2, 3],
        &[1, 6, 6, 2, 3],
        &[1, 3, 0],
        &[1, 4, 0x40],
        &[1, 0, 0x40, 0x41, 1],
        &[1, 0, 0x41, 1, 0x40],
        &[1, 4, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
    ];
    for bytes in cases {
        assert!(decode_compact(bytes).is_err(), "{bytes:02x?}");
    }
    assert_eq!(decode_compact(&[1, 6]).unwrap().root, alloy_trie::EMPTY_ROOT_HASH);
}

/// Numbers that look random and are the same each time.
fn numbers() -> impl FnMut(usize) -> usize {
    let mut state = 1_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn no_byte_of_a_real_witness_can_be_changed() {
    let mut number = numbers();
    for (name, input) in inputs() {
        for _ in 0..20 {
            let mut forged = input.clone();
            let at = number(forged.nodes.len());
            let mut node = forged.nodes[at].to_vec();
            let byte = number(node.len());
            node[byte] ^= 1 << number(8);
            forged.nodes[at] = node.into();
            let error = forged.state().unwrap_err();
            assert!(matches!(error, Error::Store(StoreError::Witness(_))), "{name}: {error}");
        }
    }
}

#[test]
fn damaged_files_are_refused_or_read_as_something_else_and_never_panic() {
    let mut number = numbers();
    for path in files("witness").iter().filter(|path| {
        let name = name(path);
        name.contains("2971844") || name.contains("main.json") || name.contains("hoodi-974567")
    }) {
        let text = text(path).into_bytes();
        let whole = Input::parse(std::str::from_utf8(&text).unwrap()).unwrap();
        for _ in 0..40 {
            let mut damaged = text.clone();
            let at = number(damaged.len());
            damaged[at] = b"0123456789abcdef{}[]\",:x"[number(24)];
            if let Ok(input) = Input::parse(std::str::from_utf8(&damaged).unwrap())
                && let Ok(mut state) = input.state()
            {
                assert_eq!(state.root().unwrap(), input.pre_root);
            }
        }
        let mut cut = text.clone();
        cut.truncate(number(text.len()));
        assert!(Input::parse(std::str::from_utf8(&cut).unwrap()).is_err());
        assert!(!whole.nodes.is_empty());
    }
}
