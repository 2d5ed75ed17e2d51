//! Canonical JSON (OLPC form): the bytes that metadata signatures are made over.
//!
//! No white space, keys in the order of their code points, strings with only `"` and `\` escaped,
//! integers only. A document that has no such form (a fraction, an exponent) is refused.

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

/// The canonical form of `value`.
///
/// # Errors
///
/// [`NotCanonical`] for the first number that is not an integer of 64 bits.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write_value(value, &mut out)?;
    Ok(out)
}

// The depth is bounded: serde_json reads at most 128 levels.
fn write_value(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
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
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out)?;
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
                write_string(key, out);
                out.push(b':');
                write_value(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
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
            // Control characters are written raw, which other JSON readers refuse.
            "[^\\x00-\\x1f]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[^\\x00-\\x1f]{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same_and_is_stable(value in any_json()) {
            let bytes = canonical(&value).unwrap();
            let again: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert_eq!(canonical(&again).unwrap(), bytes);
        }
    }
}
