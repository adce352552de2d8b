//! What can go wrong, told so that one can act on it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::proof::ProofError;
use bristlecone_trie::update::UpdateError;
use bristlecone_trie::{B256, Op, PartialError};

/// An answer of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store has no version yet.
    #[error("the store is empty: commit a genesis first")]
    NoVersion,
    /// A version that is not kept, or was never committed.
    #[error("version {version} is not kept; the store has versions {first} to {last}")]
    VersionNotKept {
        /// What was asked for.
        version: u64,
        /// The first version there is.
        first: u64,
        /// The last version there is.
        last: u64,
    },
    /// The version was given up: the store was rolled back. Its number may stand for another commit by now.
    #[error(
        "version {version} was given up when the store was rolled back to version {to}: ask for a snapshot of a version that is kept"
    )]
    RolledBack {
        /// The version that was given up.
        version: u64,
        /// The version that the store was rolled back to.
        to: u64,
    },
    /// The proposal was accepted already, or another version took its place, or that of one that it was built on.
    #[error(
        "the proposal for version {version} is over: another version took its place, or it was accepted; rebase it to try again"
    )]
    ProposalEnded {
        /// The number that it would have had.
        version: u64,
    },
    /// The proposal stands on another one, which is not a version yet.
    #[error("the proposal for version {version} stands on another proposal: accept that one first")]
    ParentNotAccepted {
        /// The number that it would have.
        version: u64,
    },
    /// A proposal is made on the latest version or on an open proposal of the same store.
    #[error(
        "version {version} is neither the latest nor an open proposal of this store: propose on one that is"
    )]
    StaleParent {
        /// The version that was to be the parent.
        version: u64,
    },
    /// A version before the oldest one, which a pin alone keeps: a rollback cannot go there.
    #[error(
        "version {version} is kept by a pin alone: a rollback goes back to version {oldest} at most, for what died since cannot live again"
    )]
    RollbackToPin {
        /// What was asked for.
        version: u64,
        /// The oldest version that is kept without pins.
        oldest: u64,
    },
    /// No version is pinned by this name.
    #[error("no version is pinned as `{name}`")]
    NoPin {
        /// The name.
        name: String,
    },
    /// The namespaces asked for are not those that the directory was made with.
    #[error("{dir} was made with namespaces [{found}], not [{asked}]: open it without naming any")]
    ConfigMismatch {
        /// The directory.
        dir: PathBuf,
        /// What the directory has.
        found: String,
        /// What the options ask for.
        asked: String,
    },
    /// There is no such namespace.
    #[error("there is no namespace `{name}`; there are: {known}")]
    NoNamespace {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// An option that makes no sense.
    #[error("option {option}: {reason}")]
    BadOption {
        /// Which one.
        option: &'static str,
        /// Why not.
        reason: String,
    },
    /// The batch, or a question, does not fit the namespace: flat keys for accounts or the other way round.
    #[error("namespace `{namespace}` holds {shape}: {what}")]
    WrongShape {
        /// The namespace.
        namespace: String,
        /// Its shape.
        shape: &'static str,
        /// What was tried.
        what: &'static str,
    },
    /// A key or value past its bound.
    #[error("{what} of {len} bytes; at most {limit} are taken")]
    TooLong {
        /// Key, value or code.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        limit: usize,
    },
    /// An empty value in a flat namespace of the `Ethereum` scheme, whose branches cannot tell it from no value.
    #[error(
        "namespace `{namespace}` takes no empty values, its scheme cannot tell them from absence: delete the key"
    )]
    EmptyValue {
        /// The namespace.
        namespace: String,
    },
    /// A key of a namespace with raw keys has the wrong length.
    #[error("a raw account or slot key has {0} bytes; it must have 32")]
    RawKey(usize),
    /// A slot is set of an account that does not exist after the batch. Nothing was committed.
    #[error("the batch sets a slot of account {account} (hashed key), which does not exist after it")]
    SlotWithoutAccount {
        /// The account's key in the trie, in hex.
        account: String,
    },
    /// Two commits race for the next version, or the store is being closed.
    #[error("the store is closed")]
    Closed,
    /// More commits wait to be sealed than the options allow, and they ask for a refusal. Nothing was committed.
    #[error("{unsealed} changed keys wait to be sealed, {limit} are allowed: wait for a seal and try again")]
    Busy {
        /// Keys waiting.
        unsealed: u64,
        /// The bound.
        limit: u64,
    },
    /// Unsealed versions, with the pages that they made, take more memory than a store with this `cache_bytes` allows, and the options ask for a refusal. Nothing was
    /// committed.
    #[error(
        "{bytes} bytes of batches and pages wait to be sealed, {limit} are allowed: wait for a seal and try again"
    )]
    UnsealedPages {
        /// Bytes waiting.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// More versions wait for their scheduled roots than the options allow, and they ask for a refusal. Nothing was committed.
    #[error("{waiting} versions wait for their roots, {limit} are allowed: wait for a root and try again")]
    Unrooted {
        /// Versions waiting.
        waiting: u64,
        /// The bound.
        limit: u64,
    },
    /// An earlier write or sync failed. Nothing more is written; what is visible stays readable. Reopen the store.
    #[error("the store takes no more writes since an earlier failure: {0}; reopen it to go on")]
    Poisoned(Arc<Error>),
    /// The log or the segments could not be read or written: [`StorageError`](crate::StorageError) says what is damaged, of another
    /// format, in use, or refused by the system.
    #[error(transparent)]
    Storage(Arc<bristlecone_delta::Error>),
    /// A file operation outside the log failed.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A page does not have the hash that its parent holds, or a record is not what it must be.
    #[error("{what} does not have the expected hash: the store is damaged; run `check`")]
    Damaged {
        /// What.
        what: String,
    },
    /// A proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A witness is not what it must be, or does not show what is needed.
    #[error(transparent)]
    Witness(#[from] PartialError),
    /// The store contradicts itself: a defect of this crate.
    #[error("internal: {0}; this is a defect, please report it")]
    Internal(&'static str),
}

impl Error {
    /// Whether it says that bytes of the store are not those that were written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Storage(error) => matches!(
                **error,
                bristlecone_delta::Error::Corrupt { .. } | bristlecone_delta::Error::NoRecord { .. }
            ),
            Self::Poisoned(first) => first.is_damage(),
            _ => false,
        }
    }

    /// What to say of prepared operations that a trie refused.
    pub(crate) fn refused(ops: &[Op<'_>], error: UpdateError) -> Self {
        let UpdateError::SlotWithoutAccount(at) = error else { return error.into() };
        let key = ops.get(at).and_then(|op| op.key.get(..ACCOUNT_BYTES)).unwrap_or_default();
        Self::SlotWithoutAccount { account: B256::try_from(key).unwrap_or_default().to_string() }
    }
}

impl From<bristlecone_delta::Error> for Error {
    fn from(error: bristlecone_delta::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<bristlecone_snapshot::Error> for Error {
    fn from(_: bristlecone_snapshot::Error) -> Self {
        Self::Internal("the table of slots or of versions refused an entry")
    }
}

impl From<UpdateError> for Error {
    fn from(_: UpdateError) -> Self {
        Self::Internal("the trie refused a prepared batch")
    }
}
