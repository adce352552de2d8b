//! Erigon's compact witness: the nodes in post-order, without what hashing can tell.
//!
//! A byte of version (1), then instructions for a stack; numbers and byte strings are CBOR's.
//!
//! | byte | what follows | takes from the stack | puts there |
//! |-|-|-|-|
//! | 0 leaf | key, value | – | a slot |
//! | 1 extension | key | the node below | the extension |
//! | 2 branch | mask of children | the children, the highest last | the branch |
//! | 3 hash | 32 bytes | – | a node, or a code, by its hash |
//! | 4 code | bytes | – | the code |
//! | 5 account | key, flags (1 code, 2 storage, 4 nonce, 8 balance), nonce, balance, size of the code | storage, then code | the account |
//! | 6 empty | – | – | an empty trie |
//!
//! A key of one byte is one nibble. A longer one begins with a byte of flags (1: the last half-byte does not count; 2: the
//! key ends here) and holds nibbles, the high half first.

use std::collections::BTreeSet;

use alloy_primitives::{B256, U256, keccak256};
use bristlecone_trie::scheme::{LeafValue, ethereum::Ethereum};
use bristlecone_trie::{Account, NodeRef, Path, Scheme};

/// Why bytes are no compact witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compact witness, byte {offset}: {reason}")]
pub struct CompactError {
    /// Where.
    pub offset: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// What a compact witness comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compact {
    /// The hash of its topmost node.
    pub root: B256,
    /// The RLP of its nodes, each once.
    pub nodes: Vec<Vec<u8>>,
    /// The codes in it.
    pub codes: Vec<Vec<u8>>,
}

/// Something on the stack.
enum Item {
    Empty,
    Hash(B256),
    Node(Vec<u8>),
    Code(B256),
}

const VERSION: u8 = 1;
const HAS_CODE: u8 = 1;
const HAS_STORAGE: u8 = 2;
const HAS_NONCE: u8 = 4;
const HAS_BALANCE: u8 = 8;

/// Decodes a compact witness into the RLP of its nodes.
///
/// Cost: an encoding and a hash a node.
///
/// # Errors
///
/// It is cut off, or its instructions do not come to exactly one node.
pub fn decode_compact(bytes: &[u8]) -> Result<Compact, CompactError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.byte()? != VERSION {
        return Err(CompactError { offset: 0, reason: "a version other than 1" });
    }
    let mut machine =
        Machine { stack: Vec::new(), seen: BTreeSet::new(), nodes: Vec::new(), codes: Vec::new() };
    while reader.at < bytes.len() {
        let offset = reader.at;
        machine.step(&mut reader).map_err(|reason| CompactError { offset, reason })?;
    }
    let end = |reason| CompactError { offset: bytes.len(), reason };
    let top = machine.stack.pop().ok_or(end("no node at all"))?;
    let root = machine.root(top).map_err(end)?;
    if !machine.stack.is_empty() {
        return Err(end("nodes are left over"));
    }
    Ok(Compact { root, nodes: machine.nodes, codes: machine.codes })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

const TRUNCATED: &str = "cut off";

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(len).ok_or(TRUNCATED)?;
        let taken = self.bytes.get(self.at..end).ok_or(TRUNCATED)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, CompactError> {
        self.octet().map_err(|reason| CompactError { offset: self.at, reason })
    }

    fn octet(&mut self) -> Result<u8, &'static str> {
        self.take(1).map(|taken| taken.first().copied().unwrap_or_default())
    }

    /// A CBOR head of `major` type: its number.
    fn head(&mut self, major: u8) -> Result<u64, &'static str> {
        let first = self.octet()?;
        if first >> 5 != major {
            return Err("another kind of CBOR item is due");
        }
        let len = match first & 0x1f {
            small @ 0..24 => return Ok(small.into()),
            long @ 24..28 => 1 << (long - 24),
            _ => return Err("a CBOR item of no definite length"),
        };
        Ok(self.take(len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        self.head(0)
    }

    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let len = self.head(2)?;
        self.take(usize::try_from(len).map_err(|_| TRUNCATED)?)
    }

    /// The nibbles of a key.
    fn key(&mut self) -> Result<Key<'a>, &'static str> {
        match self.string()? {
            [] => Err("an empty key"),
            nibble @ [_] => Ok(Key { bytes: nibble, start: 1, end: 2 }),
            [flags, nibbles @ ..] => {
                Ok(Key { bytes: nibbles, start: 0, end: nibbles.len() * 2 - usize::from(flags & 1) })
            }
        }
    }
}

struct Key<'a> {
    bytes: &'a [u8],
    start: usize,
    end: usize,
}

impl Key<'_> {
    fn path(&self) -> Path<'_> {
        Path::range(self.bytes, self.start, self.end)
    }
}

struct Machine {
    stack: Vec<Item>,
    seen: BTreeSet<B256>,
    nodes: Vec<Vec<u8>>,
    codes: Vec<Vec<u8>>,
}

impl Machine {
    fn step(&mut self, reader: &mut Reader<'_>) -> Result<(), &'static str> {
        let item = match reader.octet()? {
            0 => {
                let key = reader.key()?;
                let value = reader.string()?;
                if value.is_empty() || value.len() > 32 || value.first() == Some(&0) {
                    return Err("a slot that is zero, has leading zeros or more than 32 bytes");
                }
                let mut node = Vec::new();
                Ethereum::encode_leaf(key.path(), LeafValue::Slot(value), &mut node);
                Item::Node(node)
            }
            1 => {
                let key = reader.key()?;
                let below = self.pop()?;
                let below = self.below(below)?;
                let mut node = Vec::new();
                Ethereum::encode_extension(key.path(), &below, &mut node);
                Item::Node(node)
            }
            2 => self.branch(reader.number()?)?,
            3 => Item::Hash(B256::from_slice(reader.take(32)?)),
            4 => {
                let code = reader.string()?;
                self.codes.push(code.to_vec());
                Item::Code(keccak256(code))
            }
            5 => self.account(reader)?,
            6 => Item::Empty,
            _ => return Err("an unknown instruction"),
        };
        self.stack.push(item);
        Ok(())
    }

    fn pop(&mut self) -> Result<Item, &'static str> {
        self.stack.pop().ok_or("the stack is empty")
    }

    fn branch(&mut self, mask: u64) -> Result<Item, &'static str> {
        if mask > u64::from(u16::MAX) || mask.count_ones() < 2 {
            return Err("a branch of fewer than two children, or more than sixteen");
        }
        let mut children = [None; 16];
        for (nibble, child) in children.iter_mut().enumerate().rev() {
            if mask >> nibble & 1 == 1 {
                let below = self.pop()?;
                *child = Some(self.below(below)?);
            }
        }
        let mut node = Vec::new();
        Ethereum::encode_branch(&children, None, &mut node);
        Ok(Item::Node(node))
    }

    fn account(&mut self, reader: &mut Reader<'_>) -> Result<Item, &'static str> {
        let key = reader.key()?;
        let flags = reader.octet()?;
        let mut account = Account::default();
        if flags & HAS_NONCE != 0 {
            account.nonce = reader.number()?;
        }
        if flags & HAS_BALANCE != 0 {
            account.balance =
                U256::try_from_be_slice(reader.string()?).ok_or("a balance of more than 32 bytes")?;
        }
        let mut storage_root = Ethereum::empty_root();
        if flags & HAS_STORAGE != 0 {
            let storage = self.pop()?;
            storage_root = self.root(storage)?;
        }
        if flags & HAS_CODE != 0 {
            // The size of the code: nothing that is hashed.
            reader.number()?;
            account.code_hash = match self.pop()? {
                Item::Hash(hash) | Item::Code(hash) => hash,
                Item::Empty | Item::Node(_) => return Err("an account whose code is no code"),
            };
        }
        let mut node = Vec::new();
        Ethereum::encode_leaf(key.path(), LeafValue::Account(&account, storage_root), &mut node);
        Ok(Item::Node(node))
    }

    /// What the node above holds of `item`.
    fn below(&mut self, item: Item) -> Result<NodeRef, &'static str> {
        match item {
            Item::Hash(hash) => Ok(NodeRef::hash(hash)),
            Item::Node(node) => Ok(match Ethereum::embed(&node) {
                Some(embedded) => embedded,
                None => NodeRef::hash(self.keep(node)),
            }),
            Item::Empty | Item::Code(_) => Err("a child that is no node"),
        }
    }

    /// The root of a trie whose topmost node `item` is.
    fn root(&mut self, item: Item) -> Result<B256, &'static str> {
        match item {
            Item::Empty => Ok(Ethereum::empty_root()),
            Item::Hash(hash) => Ok(hash),
            Item::Node(node) => Ok(self.keep(node)),
            Item::Code(_) => Err("a trie that is a code"),
        }
    }

    fn keep(&mut self, node: Vec<u8>) -> B256 {
        let hash = keccak256(&node);
        if self.seen.insert(hash) {
            self.nodes.push(node);
        }
        hash
    }
}
