//! One file a command.

pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod diff;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod pin;
pub(crate) mod prove;
pub(crate) mod prune;
pub(crate) mod replay;
pub(crate) mod rollback;
pub(crate) mod stats;
pub(crate) mod verify;
pub(crate) mod versions;
pub(crate) mod witness;
