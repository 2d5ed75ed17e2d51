//! Canonical JSON: the bytes that metadata signatures are made over.
//!
//! No white space, keys in the order of their code points, integers only. A document that has no such
//! form (a fraction, an exponent) is refused. Of the two forms in use we write [`Form::Olpc`] and
//! believe either. No two values share a text in any of them: what has a raw control character is no
//! JSON, and what is JSON says its value. So believing both lets nobody change what was signed.

use alloc::{format, string::String, vec::Vec};
use core::fmt;
use serde_json::Value;

/// A number that canonical JSON cannot write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCanonical {
    /// The number as JSON text.
    pub number: String,
}

impl fmt::Display for NotCanonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no canonical form: not an integer", self.number)
    }
}

impl core::error::Error for NotCanonical {}

/// How strings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OLPC, as TUF's tools write it: only `"` and `\` escaped, all else as it is in UTF-8.
    Olpc,
    /// A subset of JSON in ASCII, as aktualizr and Python's `json.dumps` write it. For texts of ASCII
    /// it is also that of RFC 8785.
    Subset,
}

/// The canonical form of `value` that we write.
///
/// # Errors
///
/// [`NotCanonical`] for the first number that is not an integer of 64 bits.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    canonical_as(value, Form::Olpc)
}

/// A canonical form of `value`.
///
/// # Errors
///
/// As [`canonical`].
pub fn canonical_as(value: &Value, form: Form) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write_value(value, form, &mut out)?;
    Ok(out)
}

// The depth is bounded: serde_json reads at most 128 levels.
fn write_value(value: &Value, form: Form, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            out.extend_from_slice(format!("{number}").as_bytes());
        }
        Value::Number(number) => {
            let number = format!("{number}");
            return Err(NotCanonical { number });
        }
        Value::String(text) => write_string(text, form, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, form, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // serde_json's map is sorted only while no crate of the build asks for another order.
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, form, out);
                out.push(b':');
                write_value(member, form, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, form: Form, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match (character, form) {
            ('"', _) => out.extend_from_slice(b"\\\""),
            ('\\', _) => out.extend_from_slice(b"\\\\"),
            (' '..='~', _) | (_, Form::Olpc) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            (_, Form::Subset) => write_escape(character, out),
        }
    }
    out.push(b'"');
}

fn write_escape(character: char, out: &mut Vec<u8>) {
    let short: &[u8] = match character {
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\u{8}' => b"\\b",
        '\u{c}' => b"\\f",
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
            return;
        }
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::string::String;

    fn check(value: &Value, expected: &str) {
        let bytes = canonical(value).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn members_are_sorted_and_packed() {
        check(
            &json!({"b": [1, -2, true, null], "a": {}, "A": []}),
            r#"{"A":[],"a":{},"b":[1,-2,true,null]}"#,
        );
    }

    #[test]
    fn only_quote_and_backslash_are_escaped() {
        check(&json!("a\"b\\c\n\u{e9}"), "\"a\\\"b\\\\c\n\u{e9}\"");
    }

    #[test]
    fn the_subset_is_json_in_ascii() {
        let text = |value| String::from_utf8(canonical_as(&value, Form::Subset).unwrap()).unwrap();
        assert_eq!(
            text(json!({"b\n": "\u{1}\t\u{7f}\u{e9}\u{1f600}/", "a": "\"\\"})),
            r#"{"a":"\"\\","b\n":"\u0001\t\u007f\u00e9\ud83d\ude00/"}"#
        );
    }

    #[test]
    fn only_integers_have_a_form() {
        check(
            &json!([u64::MAX, i64::MIN, 0]),
            "[18446744073709551615,-9223372036854775808,0]",
        );
        assert!(canonical(&json!({"a": [1.5]})).is_err());
        assert!(canonical(&serde_json::from_str("1e3").unwrap()).is_err());
    }

    /// Any JSON value with integers, a few levels deep.
    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any_text(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Control characters and characters beyond ASCII are as likely as others.
    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,12}", "[\\x00-\\x1f\"\\\\nu]{0,4}", ".{0,8}"]
    }

    proptest! {
        #[test]
        fn a_canonical_form_is_that_of_one_value_alone(value in any_json()) {
            for form in [Form::Olpc, Form::Subset] {
                let bytes = canonical_as(&value, form).unwrap();
                match serde_json::from_slice::<Value>(&bytes) {
                    Ok(again) => prop_assert_eq!(&again, &value),
                    // Only a raw control character makes it something else than JSON.
                    Err(_) => {
                        prop_assert_eq!(form, Form::Olpc);
                        prop_assert!(bytes.iter().any(|byte| *byte < b' '));
                    }
                }
            }
        }
    }
}
