//! What is measured again and again, and what came of it.

use serde_json::{Value, json};

use crate::{
    engines::{self, Facts},
    figures::Summary,
    spec::{Job, Workload},
};

/// One thing to be measured again and again: an engine, and in `--scaling` also a number of keys and of threads.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) facts: Facts,
    pub(crate) workload: Workload,
    pub(crate) job: Job,
    /// What each run gave.
    pub(crate) runs: Vec<Value>,
}

impl Case {
    pub(crate) fn summary(&self) -> Summary {
        Summary::of(&self.runs)
    }

    /// What stands on each line of JSON beside the figures.
    pub(crate) fn label(&self) -> Value {
        json!({
            "engine": self.facts.name,
            "facts": self.facts,
            "version": engines::crate_version(self.facts.crate_name),
            "workload": self.workload,
            "job": self.job,
        })
    }
}
