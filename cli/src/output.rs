//! The only place that writes to standard output and standard error.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// Where results go, as text or as JSON.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A result: `object` on one line of JSON, or what `text` makes of it.
    pub(crate) fn result<T: Serialize>(
        &mut self,
        object: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(object).map_err(|error| Failure::new(error.to_string()))?
        } else {
            text()
        };
        self.line(&line)
    }

    /// A line of text, where no JSON was asked for.
    pub(crate) fn text(&mut self, line: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            // Whoever read us has seen enough, as in `bristlecone versions DIR | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::new(format!("cannot write to standard output: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Something that the person should know and that is no result.
    pub(crate) fn note(&self, line: &str) {
        say(line);
    }

    /// How the command ended.
    pub(crate) fn failure(&self, failure: &Failure) {
        if !failure.message.is_empty() {
            let word = if failure.code == crate::failure::INTERRUPTED { "stopped" } else { "error" };
            say(&format!("{word}: {}", failure.message));
        }
        if let Some(hint) = &failure.hint {
            say(&format!("hint: {hint}"));
        }
    }
}

/// A line to standard error. That it cannot be written is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An empty table in the style of all reports, with `header`.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.iter().copied());
    table
}

/// Name and value, one pair a line.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes with a unit.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = UNITS.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    for next in unit {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        name = next;
    }
    if name == "B" { format!("{number} B") } else { format!("{value:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_bytes_have_units() {
        assert_eq!([0, 12, 123, 1234, 1_000_000].map(thousands), ["0", "12", "123", "1,234", "1,000,000"]);
        assert_eq!([1023, 1024, 1536, 5 << 30].map(bytes), ["1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
    }
}
