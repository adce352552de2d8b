//! What a batch does to one namespace: operations on keys, sorted, one a key.

/// The new state of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Sets a flat value, or a slot (big-endian, without leading zeros, not empty).
    Put(&'a [u8]),
    /// Removes a flat value or a slot; nothing happens where there is none.
    Delete,
    /// Changes an account: first the storage is wiped, if asked, then the body changes.
    Account {
        /// What becomes of the body.
        body: Body<'a>,
        /// Whether all slots go first. Implied by [`Body::Delete`].
        wipe: bool,
    },
}

/// What becomes of an account's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It stays as it is.
    Keep,
    /// It is set.
    Put(&'a [u8]),
    /// The account goes, with its storage.
    Delete,
}

/// One operation. In the accounts shape an account's key has 32 bytes and a slot's 64: the account's, then the slot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// The key, whole.
    pub key: &'a [u8],
    /// Its new state.
    pub change: Change<'a>,
}
