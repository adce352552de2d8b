//! One file a command.

pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod prove;
pub(crate) mod replay;
pub(crate) mod rollback;
pub(crate) mod stats;
pub(crate) mod verify;
pub(crate) mod versions;
pub(crate) mod witness;
