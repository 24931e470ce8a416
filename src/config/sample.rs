//! The annotated sample configuration, taken apart for the documents that are made from it.

use std::mem;

/// The annotated sample: every key at its default, with a comment above it.
pub const SAMPLE: &str = include_str!("../../config/pushrider.toml");

/// A section of the sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// What stands between the brackets.
    pub name: String,
    /// The comment above it, on one line; empty where there is none.
    pub text: String,
    /// The keys, in order.
    pub keys: Vec<Key>,
}

/// A key of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name within the section.
    pub name: String,
    /// Its default, or an example, as TOML.
    pub value: String,
    /// Whether the value is an example, because the key has no default.
    pub is_example: bool,
    /// The comment above it, on one line, which successive keys may share; empty where there is none.
    pub text: String,
}

/// Returns the paragraphs of the comment that a sample begins with, each on one line.
#[must_use]
pub fn introduction(sample: &str) -> Vec<String> {
    let head = sample.split("\n\n").next().unwrap_or_default();
    head.split("\n#\n")
        .map(|paragraph| {
            let lines = paragraph.lines().map(|line| line.trim_start_matches("# "));
            lines.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// Returns the sections of a sample, in order.
#[must_use]
pub fn sections(sample: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut comment = String::new();
    let mut is_described = false;
    for line in sample.lines() {
        let is_example = line.ends_with("# (example)");
        let code = line.strip_prefix('#').unwrap_or(line);
        let code = code.strip_suffix("# (example)").unwrap_or(code).trim_end();
        if let Some(name) = code.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            sections.push(Section {
                name: name.to_owned(),
                text: mem::take(&mut comment),
                keys: Vec::new(),
            });
        } else if let Some((name, value)) = code.split_once(" = ")
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && let Some(section) = sections.last_mut()
        {
            section.keys.push(Key {
                name: name.to_owned(),
                value: value.to_owned(),
                is_example,
                text: comment.clone(),
            });
            is_described = true;
        } else if let Some(text) = line.strip_prefix("# ") {
            if mem::take(&mut is_described) {
                comment.clear();
            }
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(text);
        } else {
            comment.clear();
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "\
# The first,
# and more.
#
# The second.

# What it is for.
[push]
# How long.
#timeout = \"20s\"

# How many,
# and which.
#low = 1
#high = 2                        # (example)
";

    #[test]
    fn keys_have_the_comment_above_them_and_share_it() {
        let sections = sections(SHORT);
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].name, "push");
        assert_eq!(sections[0].text, "What it is for.");
        let keys: Vec<_> = sections[0]
            .keys
            .iter()
            .map(|key| (&*key.name, &*key.value, key.is_example, &*key.text))
            .collect();
        let expected = [
            ("timeout", "\"20s\"", false, "How long."),
            ("low", "1", false, "How many, and which."),
            ("high", "2", true, "How many, and which."),
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_introduction_has_its_paragraphs() {
        assert_eq!(introduction(SHORT), ["The first, and more.", "The second."]);
    }
}
