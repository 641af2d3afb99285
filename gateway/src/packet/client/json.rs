//! JSON one level at a time.
//!
//! A tree of what a stranger sends takes many times the memory of its text. So objects and lists give their parts as
//! text, borrowed from the frame, and only a part that somebody reads is parsed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// How deep lists and objects may lie in each other: as deep as the library makes trees.
const MAX_DEPTH: usize = 127;
/// Half of a character that takes two UTF-16 units: the first one, and the second one.
const HIGH_SURROGATES: std::ops::RangeInclusive<u16> = 0xd800..=0xdbff;
const LOW_SURROGATES: std::ops::RangeInclusive<u16> = 0xdc00..=0xdfff;

/// Gives every entry of the object that `text` is to `entry`, in the order written.
///
/// # Errors
/// `text` is no JSON object.
pub(crate) fn for_each_entry<'a>(text: &'a str, entry: impl FnMut(&str, &'a RawValue)) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(EachEntry(entry))?;
    deserializer.end()
}

/// The first `most` elements of a list; none if it is no list.
pub(crate) fn elements(value: &RawValue, most: usize) -> Option<Vec<&RawValue>> {
    serde_json::Deserializer::from_str(value.get()).deserialize_seq(FirstElements(most)).ok()
}

/// The value, but with nothing in it if it is a list or an object.
pub(crate) fn shallow(value: &RawValue) -> Value {
    match value.get().as_bytes().first() {
        Some(b'{') => Value::Object(Map::new()),
        Some(b'[') => Value::Array(Vec::new()),
        _ => parse(value.get()).unwrap_or_default(),
    }
}

/// All of an object; none if it is no object, or if its text has more than `most_bytes`.
pub(crate) fn tree(value: &RawValue, most_bytes: usize) -> Option<Map<String, Value>> {
    Some(value.get()).filter(|text| text.len() <= most_bytes).and_then(parse)
}

/// Whether this JSON lies too deep in itself to be read by anybody.
pub(crate) fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            // Whatever is escaped neither ends the string nor escapes the next one.
            b'\\' => drop(bytes.next()),
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_lone_surrogates(text))).ok()
}

/// Valid JSON, with U+FFFD for each escaped half of a character. A JavaScript client that cuts a text inside an emoji
/// sends one, and the library does not take it.
fn without_lone_surrogates(json: &str) -> String {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let (first, second) = (escaped_unit(rest), rest.get(6..).and_then(escaped_unit));
        let is_half = first.is_some_and(|unit| HIGH_SURROGATES.contains(&unit) || LOW_SURROGATES.contains(&unit));
        let is_whole = first.is_some_and(|unit| HIGH_SURROGATES.contains(&unit))
            && second.is_some_and(|unit| LOW_SURROGATES.contains(&unit));
        let (length, replacement) = match (is_whole, is_half) {
            (true, _) => (12, None),
            (false, true) => (6, Some("\\ufffd")),
            (false, false) => (2, None),
        };
        mended.push_str(replacement.unwrap_or(&rest[..length]));
        rest = &rest[length..];
    }
    mended + rest
}

/// The UTF-16 unit if the text begins with one, escaped.
fn escaped_unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// An object's key, copied only if there is an escape in it.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct EachEntry<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for EachEntry<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some((Key(key), value)) = object.next_entry()? {
            (self.0)(&key, value);
        }
        Ok(())
    }
}

struct FirstElements(usize);

impl<'de> Visitor<'de> for FirstElements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.0
            && let Some(element) = list.next_element()?
        {
            elements.push(element);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn entries_come_as_they_were_written() {
        let mut entries = Vec::new();
        for_each_entry(r#" {"a": [1, 2], "\u0062":{}, "a":null} "#, |key, value| {
            entries.push((key.to_owned(), value.get()));
        })
        .unwrap();
        assert_eq!(entries, [("a".to_owned(), "[1, 2]"), ("b".to_owned(), "{}"), ("a".to_owned(), "null")]);
        for other in ["[]", "null", "{", "{} {}", "\"{}\"", ""] {
            assert!(for_each_entry(other, |_, _| ()).is_err(), "{other}");
        }
    }

    #[test]
    fn a_list_is_read_as_far_as_it_may_be() {
        let texts = |most| Some(elements(raw("[1,{},[2]]"), most)?.iter().map(|element| element.get()).collect());
        assert_eq!(texts(9), Some(vec!["1", "{}", "[2]"]));
        assert_eq!(texts(2), Some(vec!["1", "{}"]));
        assert_eq!(texts(0), Some(vec![]));
        assert!(elements(raw("{}"), 9).is_none() && elements(raw("\"[]\""), 9).is_none());
    }

    #[test]
    fn a_large_object_is_not_made_a_tree() {
        assert_eq!(tree(raw(r#"{"a":1}"#), 7).map(Value::from), Some(json!({"a": 1})));
        assert_eq!(tree(raw(r#"{"a":1}"#), 6), None);
        assert_eq!(tree(raw("[1]"), 6), None);
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(&nested(127)) && is_too_deep(&nested(128)));
        assert!(serde_json::from_str::<Value>(&nested(127)).is_ok(), "the library's own limit");
        assert!(serde_json::from_str::<Value>(&nested(128)).is_err(), "the library's own limit");
        assert!(!is_too_deep(&format!(r#"["\"{}"]"#, "[".repeat(200))));
        assert!(!is_too_deep(&format!("[{}[]]", "[],".repeat(200))));
    }

    #[test]
    fn half_a_character_is_replaced_and_a_whole_one_is_not() {
        for (sent, read) in [
            (r#""cut \ud83d""#, "cut \u{fffd}"),
            (r#""\ud83d\ude00\ud83d""#, "\u{1f600}\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\udE00x\\ud83d\n""#, "\u{fffd}x\\ud83d\n"),
            (r#""\ud83d\n\u00e9é""#, "\u{fffd}\néé"),
        ] {
            assert_eq!(shallow(raw(sent)), read, "{sent}");
        }
        let mended = tree(raw(r#"{"a":["\ud83d"]}"#), 100).map(Value::from);
        assert_eq!(mended, Some(json!({"a": ["\u{fffd}"]})));
    }
}
