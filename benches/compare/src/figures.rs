//! Figures of several runs put together: the median, the least and the most of each.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// One figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// All figures, by where they stand in a run's JSON: `commit.visible_ms.p50`, `sizes.2.batch`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary(BTreeMap<String, Spread>);

impl Summary {
    pub(crate) fn of(runs: &[Value]) -> Self {
        let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for run in runs {
            collect(run, String::new(), &mut all);
        }
        Self(all.into_iter().filter_map(|(path, values)| Some((path, spread(values)?))).collect())
    }

    pub(crate) fn get(&self, path: &str) -> Option<Spread> {
        self.0.get(path).copied()
    }

    pub(crate) fn median(&self, path: &str) -> Option<f64> {
        self.get(path).map(|spread| spread.median)
    }
}

fn collect(value: &Value, path: String, all: &mut BTreeMap<String, Vec<f64>>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Number(number) => all.entry(path).or_default().extend(number.as_f64()),
        Value::Object(fields) => {
            for (name, field) in fields {
                collect(field, below(name), all);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                collect(item, below(&place.to_string()), all);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    let median = if values.len().is_multiple_of(2) { (values.get(half - 1)? + upper) / 2.0 } else { upper };
    Some(Spread { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_put_together_place_by_place() {
        let runs = [
            json!({"a": {"b": 3}, "c": [1, 2], "name": "x"}),
            json!({"a": {"b": 1}, "c": [5, 2]}),
            json!({"a": {"b": 9}}),
        ];
        let summary = Summary::of(&runs);
        assert_eq!(summary.get("a.b"), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(summary.get("c.0"), Some(Spread { median: 3.0, min: 1.0, max: 5.0 }));
        assert_eq!(summary.get("name"), None);
    }
}
