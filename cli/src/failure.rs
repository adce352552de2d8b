//! How a command ends when it does not end well.

/// Exit code of anything that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of wrong usage, as of the parser of arguments.
pub(crate) const USAGE: u8 = 2;
/// Exit code after Ctrl-C, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// What a person is told at the end of a command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong; empty where everything was said already.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED }
    }

    /// Exit code 1 without a word: the command's own output says it all.
    pub(crate) fn silent() -> Self {
        Self::new("")
    }

    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { code: INTERRUPTED, ..Self::new(message) }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<bristlecone::Error> for Failure {
    fn from(error: bristlecone::Error) -> Self {
        let hint = match &error {
            bristlecone::Error::VersionNotKept { first, last, .. } => {
                Some(format!("choose a version from {first} to {last}, or one that `pin DIR` lists"))
            }
            bristlecone::Error::NoVersion => {
                Some("`bristlecone init DIR --genesis FILE` makes the first version".to_owned())
            }
            _ => None,
        };
        Self { hint, ..Self::new(chain(&error)) }
    }
}

impl From<bristlecone_evm::Error> for Failure {
    fn from(error: bristlecone_evm::Error) -> Self {
        match error {
            bristlecone_evm::Error::Store(error) => error.into(),
            error => Self::new(chain(&error)),
        }
    }
}

/// The error with its causes, leaving out causes that its text already holds.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
