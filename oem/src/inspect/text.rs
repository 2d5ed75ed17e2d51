//! A description as lines for people: a name and its value, what belongs to something indented below it.
//!
//! The file may be from anybody, and who reads the lines decides by them whether to sign: what would move
//! the terminal's cursor, begin another line or turn the direction of writing is shown as an escape.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Columns of a name.
const NAME: usize = 18;
/// Longer values, keys and signatures, are cut: nobody reads them. A digest is shown whole.
const LONGEST: usize = 96;
const SHOWN: usize = 48;

/// The description as lines of text.
#[must_use]
pub fn to_text(description: &Value) -> String {
    let mut out = String::new();
    match description {
        Value::Object(members) => object(&mut out, 0, members),
        other => line(&mut out, 0, "", &scalar(other)),
    }
    out
}

fn object(out: &mut String, depth: usize, members: &Map<String, Value>) {
    for (name, value) in members {
        match value {
            Value::Null => {}
            Value::Object(members) if !members.is_empty() => {
                line(out, depth, name, "");
                object(out, depth + 1, members);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for item in items {
                    let item = Map::from_iter([(name.clone(), item.clone())]);
                    object(out, depth, &item);
                }
            }
            other => line(out, depth, name, &scalar(other)),
        }
    }
}

fn line(out: &mut String, depth: usize, name: &str, value: &str) {
    let indent = depth * 2;
    let width = NAME.saturating_sub(indent);
    let name = printable(name);
    let text = format!("{:indent$}{name:width$} {value}", "");
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => shortened(text),
        Value::Object(_) => "none".into(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(scalar).collect();
            items.join(",")
        }
        other => other.to_string(),
    }
}

fn shortened(text: &str) -> String {
    let len = text.chars().count();
    if len <= LONGEST {
        return printable(text);
    }
    let start: String = text.chars().take(SHOWN).collect();
    let start = printable(&start);
    format!("{start}... ({len} characters, whole with --json)")
}

fn printable(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\'' => out.push(character),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_cut_and_digests_are_not() {
        let text = to_text(&json!({"digest": "d".repeat(64), "key": "k".repeat(800)}));
        assert!(text.contains(&"d".repeat(64)));
        let cut = format!("key                {}... (800 characters", "k".repeat(48));
        assert!(text.contains(&cut), "{text}");
    }

    #[test]
    fn a_file_cannot_forge_lines_or_move_the_cursor() {
        let hostile = "x\nsignatures\u{1b}[2A\r\u{202e}\u{9b}";
        let text =
            to_text(&json!({hostile: hostile, "list": [hostile], "long": hostile.repeat(20)}));
        assert_eq!(text.lines().count(), 3, "{text}");
        let fine = |character: char| character == '\n' || (' '..='~').contains(&character);
        assert!(text.chars().all(fine), "{text:?}");
        assert!(
            text.contains(r"x\nsignatures\u{1b}[2A\r\u{202e}\u{9b}"),
            "{text}"
        );
    }

    #[test]
    fn what_belongs_to_something_stands_below_it() {
        let text = to_text(&json!({
            "kind": "draft",
            "root": null,
            "keys": [],
            "signatures": [{"valid": 1, "what": "targets"}, {"valid": 0, "what": "root"}],
            "targets": {"brake.img": {"hashes": {"sha256": "00ff"}, "length": 7}},
            "vins": ["A", "B"],
        }));
        let expected = "\
keys               none
kind               draft
signatures
  valid            1
  what             targets
signatures
  valid            0
  what             root
targets
  brake.img
    hashes
      sha256       00ff
    length         7
vins               A,B
";
        assert_eq!(text, expected);
    }
}
