//! Rust text without what is no code: comments, and the insides of strings.

use crate::tree::File;

/// A file's code. Comments and the insides of literals are spaces, so that every line and column stays where it was.
pub(crate) struct Code {
    /// The text as it was written.
    pub(crate) text: String,
    bare: String,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl Code {
    pub(crate) fn of(file: &File) -> Self {
        Self::new(&file.text)
    }

    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), bare: bare(text) }
    }

    /// The bare text.
    pub(crate) fn bare(&self) -> &str {
        &self.bare
    }

    /// The same without what is compiled for tests only.
    pub(crate) fn product(mut self) -> Self {
        let mark = "#[cfg(test)]";
        while let Some(start) = self.bare.find(mark) {
            let end = item_end(&self.bare, start + mark.len());
            let blank = blanked(&self.bare[start..end]);
            self.bare.replace_range(start..end, &blank);
        }
        self
    }

    /// The numbers of the lines that contain `needle`.
    pub(crate) fn lines_with(&self, needle: &str) -> Vec<usize> {
        numbered(&self.bare).filter(|(_, line)| line.contains(needle)).map(|(number, _)| number).collect()
    }

    /// The numbers of the lines with `word`, as a word of its own, once for each time.
    pub(crate) fn lines_with_word(&self, word: &str) -> Vec<usize> {
        let times = |line: &str| line.split(|letter| !is_word(letter)).filter(|part| *part == word).count();
        numbered(&self.bare).flat_map(|(number, line)| std::iter::repeat_n(number, times(line))).collect()
    }

    /// How many lines are not blank, comments not counted.
    pub(crate) fn lines_in_use(&self) -> usize {
        self.bare.lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// The functions with their lengths, from `fn` to the closing brace.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (start, _) in self.bare.match_indices("fn ") {
            if self.bare[..start].ends_with(is_word) {
                continue;
            }
            let name: String = self.bare[start + 3..].chars().take_while(|letter| is_word(*letter)).collect();
            let end = item_end(&self.bare, start);
            if name.is_empty() || !self.bare[..end].ends_with('}') {
                continue;
            }
            let line = 1 + self.bare[..start].matches('\n').count();
            found.push(Function { name, line, lines: 1 + self.bare[start..end].matches('\n').count() });
        }
        found
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn blanked(text: &str) -> String {
    text.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect()
}

/// Where the item that begins at or after `start` ends: behind its `;`, or behind the brace that closes its body.
fn item_end(bare: &str, start: usize) -> usize {
    // Brackets hide the `;` of `[u8; 4]`, and attributes; `::{` of an import is closed before its `;`.
    let (mut brackets, mut braces) = (0usize, 0usize);
    for (offset, letter) in bare[start..].char_indices() {
        match letter {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets = brackets.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && brackets == 0 {
                    return start + offset + 1;
                }
            }
            ';' if braces == 0 && brackets == 0 => return start + offset + 1,
            _ => {}
        }
    }
    bare.len()
}

/// Spaces for comments and for what is inside of literals. Bytes that are not ASCII become one space for each letter.
fn bare(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while index < letters.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => line_end(&letters, index),
            ('/', '*') => comment_end(&letters, index),
            ('"', _) => string_end(&letters, index),
            ('r', '"' | '#') if index == 0 || !is_word(at(index - 1)) || at(index - 1) == 'b' => {
                raw_end(&letters, index)
            }
            // A character, unless it is a lifetime: 'a' and '\n', but not 'a.
            ('\'', '\\') => {
                (index + 3..letters.len()).find(|end| at(*end) == '\'').map_or(index + 1, |end| end + 1)
            }
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end == index {
            out.push(if at(index).is_ascii() { at(index) } else { ' ' });
            index += 1;
            continue;
        }
        for letter in &letters[index..end.min(letters.len())] {
            out.push(if *letter == '\n' { '\n' } else { ' ' });
        }
        index = end;
    }
    out
}

fn line_end(letters: &[char], start: usize) -> usize {
    (start..letters.len()).find(|index| letters[*index] == '\n').unwrap_or(letters.len())
}

fn comment_end(letters: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index + 1 < letters.len() {
        match (letters[index], letters[index + 1]) {
            ('/', '*') => (depth, index) = (depth + 1, index + 2),
            ('*', '/') => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    letters.len()
}

fn string_end(letters: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < letters.len() {
        match letters[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    letters.len()
}

/// `start` itself where no raw string begins there (`r#type`).
fn raw_end(letters: &[char], start: usize) -> usize {
    let hashes = letters[start + 1..].iter().take_while(|letter| **letter == '#').count();
    let open = start + 1 + hashes;
    if letters.get(open) != Some(&'"') {
        return start;
    }
    let closes = |index: usize| {
        letters[index] == '"'
            && letters[index + 1..].iter().take(hashes).filter(|letter| **letter == '#').count() == hashes
    };
    (open + 1..letters.len()).find(|index| closes(*index)).map_or(letters.len(), |index| index + 1 + hashes)
}

#[test]
fn comments_strings_and_characters_are_no_code() {
    let code = Code::new(
        "let a = \"unsafe \\\" {\"; // unsafe\nlet b = 'u'; /* unsafe /* } */ */ let c: &'a str = r#\"unsafe\"\"#;\nunsafe { '\\'' }",
    );
    assert_eq!(code.lines_with_word("unsafe"), [3]);
    assert!(code.bare().contains("&'a str"));
    assert_eq!(Code::new("unsafe_code r#unsafe").lines_with_word("unsafe").len(), 1);
}

#[test]
fn what_is_for_tests_is_no_product() {
    let text = "fn a() -> [u8; 2] {\n}\n#[cfg(test)]\n#[path = \"x\"]\nmod t {\n    fn b() { {} }\n}\n#[cfg(test)]\nuse x::{y, z};\nfn c() {}";
    let code = Code::new(text).product();
    assert_eq!(
        code.functions()
            .iter()
            .map(|function| (&*function.name, function.line, function.lines))
            .collect::<Vec<_>>(),
        [("a", 1, 2), ("c", 10, 1)]
    );
    assert!(!code.bare().contains("use"));
}
