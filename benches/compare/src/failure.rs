//! What goes wrong, as a sentence and an exit code.

/// An error for the person at the screen.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// 1 failed, 2 wrong usage, 130 stopped by a signal.
    pub(crate) code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    pub(crate) fn stopped() -> Self {
        Self { message: "stopped".into(), code: 130 }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::new(message)
    }
}
