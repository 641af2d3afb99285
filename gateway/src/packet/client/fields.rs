//! Reading a payload's fields: JSON types, and the forms in which the protocol takes ids, numbers and dates.
//!
//! Shared by packets and HTTP bodies. `null` is absent everywhere.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use proto::reason::{Failure, Reason};
use proto::v1;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{elements, for_each_entry, shallow};

/// Numbers below it are seconds, others milliseconds (both since the epoch).
const FIRST_MILLIS: f64 = 1e11;

/// How much of a list of ids is read. Far more than any list may hold: it still shows that it is too long.
const MAX_IDS: usize = 10_000;

/// The fields of one object that somebody asks for; the others are not kept.
pub struct Fields<'a> {
    names: &'static [&'static str],
    found: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// The fields of these names; none if the JSON is no object. Of two of one name the last one counts.
    pub(crate) fn of(json: &'a str, names: &'static [&'static str]) -> Option<Self> {
        let mut found: Vec<(&str, &RawValue)> = Vec::new();
        let read = for_each_entry(json, |key, value| {
            let Some(name) = names.iter().find(|name| **name == key) else { return };
            found.retain(|(known, _)| known != name);
            found.push((name, value));
        });
        read.ok().map(|()| Self { names, found })
    }

    /// The field as it was sent, unless it is absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        debug_assert!(self.names.contains(&name), "{name} is not among the names asked for");
        let (_, value) = self.found.iter().find(|(known, _)| *known == name)?;
        Some(*value).filter(|value| value.get() != "null")
    }

    /// The field's value unless it is absent; a list or an object without what is in it.
    pub(crate) fn value(&self, name: &str) -> Option<Value> {
        self.raw(name).map(shallow)
    }

    /// A string, or the general failure.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.text_or(name, Reason::ValidationFailed)
    }

    /// A string, or the failure the field's row names.
    pub(crate) fn text_or(&self, name: &str, otherwise: Reason) -> Result<Option<String>, Failure> {
        self.read(name, otherwise, text)
    }

    /// A string that must be there. The core checks this too; here it keeps its place before the fields after it.
    pub(crate) fn required_text(&self, name: &str, missing: Reason) -> Result<String, Failure> {
        self.text(name)?.ok_or_else(|| Failure::of_field(missing, name))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.read(name, Reason::ValidationFailed, |value| value.as_bool())
    }

    /// A whole number, also as a decimal string; beyond 64 bits it counts as the nearest that fits.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.read(name, Reason::ValidationFailed, |value| integer(&value))
    }

    /// A list of ids. What is no string in it names nothing, but counts: it becomes the empty string.
    pub(crate) fn ids(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        let Some(list) = self.raw(name) else { return Ok(None) };
        let ids = elements(list, MAX_IDS).ok_or_else(|| Failure::validation(name))?;
        Ok(Some(ids.into_iter().map(|id| text(shallow(id)).unwrap_or_default()).collect()))
    }

    /// An id that names nothing when it is no string.
    pub(crate) fn lenient_id(&self, name: &str) -> Option<String> {
        self.value(name).map(|id| text(id).unwrap_or_default())
    }

    /// A device id: a string, or a number, which counts as its decimal text. The empty string is absent.
    pub(crate) fn device_id(&self, name: &str) -> Result<Option<String>, Failure> {
        let device_id = self.read(name, Reason::DeviceIdMissing, |value| match value {
            Value::Number(number) => Some(decimal_text(&number)),
            other => text(other),
        })?;
        Ok(device_id.filter(|text| !text.is_empty()))
    }

    /// The span of time in `updated_at`; `None` without a bound. Bounds finer than a millisecond are widened to one.
    pub(crate) fn updated_at(&self) -> Result<Option<v1::TimeBounds>, Failure> {
        let Some(bounds) = self.object("updated_at", &["gt", "lt"])? else { return Ok(None) };
        let after_ms = bounds.read_as("gt", "updated_at.gt", |value| date_in_nanos(&value).map(floor_millis))?;
        let before_ms = bounds.read_as("lt", "updated_at.lt", |value| date_in_nanos(&value).map(ceil_millis))?;
        let bounded = after_ms.is_some() || before_ms.is_some();
        Ok(bounded.then_some(v1::TimeBounds { after_ms, before_ms }))
    }

    /// The lower bound in `updated_at`, where the request knows no other.
    pub(crate) fn updated_after(&self) -> Result<Option<i64>, Failure> {
        let Some(bounds) = self.object("updated_at", &["gt"])? else { return Ok(None) };
        bounds.read_as("gt", "updated_at.gt", |value| date_in_nanos(&value).map(floor_millis))
    }

    /// These fields of an object.
    pub(crate) fn object(&self, name: &str, names: &'static [&'static str]) -> Result<Option<Fields<'a>>, Failure> {
        let Some(object) = self.raw(name) else { return Ok(None) };
        Fields::of(object.get(), names).map(Some).ok_or_else(|| Failure::validation(name))
    }

    fn read<T>(&self, name: &str, otherwise: Reason, read: impl Fn(Value) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Failure::of_field(otherwise, name))
    }

    /// As `read`, for a field of an inner object, which `path` names from outside.
    fn read_as<T>(&self, name: &str, path: &str, read: impl Fn(Value) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Failure::validation(path))
    }
}

fn text(value: Value) -> Option<String> {
    if let Value::String(text) = value { Some(text) } else { None }
}

/// The same text for every way to write a whole number; any other number as it was sent.
#[expect(clippy::cast_possible_truncation, reason = "a whole number that a double holds exactly")]
fn decimal_text(number: &serde_json::Number) -> String {
    const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < FIRST_INEXACT) {
        Some(whole) => (whole as i64).to_string(),
        None => number.to_string(),
    }
}

/// The text of a number, or of a string that is written like one.
fn decimal(value: &Value) -> Option<&str> {
    match value {
        Value::Number(number) => Some(number.as_str()),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.')) => {
            Some(text)
        }
        _ => None,
    }
}

/// A finite number, also as a decimal string.
pub(super) fn number(value: &Value) -> Option<f64> {
    decimal(value)?.parse::<f64>().ok().filter(|number| number.is_finite())
}

#[expect(clippy::cast_possible_truncation, reason = "beyond 64 bits the nearest that fits is meant")]
fn integer(value: &Value) -> Option<i64> {
    let exact = decimal(value)?.parse().ok();
    exact.or_else(|| number(value).filter(|number| number.fract() == 0.0).map(|number| number as i64))
}

/// A date as nanoseconds since the epoch.
fn date_in_nanos(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) if !text.bytes().all(|byte| byte.is_ascii_digit()) => iso_date(text),
        _ => number(value).map(epoch_nanos),
    }
}

/// ISO 8601 with an offset or `Z`, or without either, which is UTC.
fn iso_date(text: &str) -> Option<i128> {
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    Some(at.as_nanosecond())
}

#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn epoch_nanos(number: f64) -> i128 {
    let micros = if number.abs() < FIRST_MILLIS { number * 1e6 } else { number * 1e3 };
    // No stamp lies outside the years that dates can be written in, so a bound beyond them means the same at their end.
    let (first, last) = (Timestamp::MIN.as_microsecond() as f64, Timestamp::MAX.as_microsecond() as f64);
    micros.round().clamp(first, last) as i128 * 1000
}

fn floor_millis(nanos: i128) -> i64 {
    i64::try_from(nanos.div_euclid(1_000_000)).expect("dates are in the years -9999 to 9999")
}

fn ceil_millis(nanos: i128) -> i64 {
    i64::try_from(-(-nanos).div_euclid(1_000_000)).expect("dates are in the years -9999 to 9999")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// All fields of an object.
    fn fields(payload: &Value) -> Fields<'static> {
        let names = payload.as_object().unwrap().keys().map(|name| &*name.clone().leak()).collect::<Vec<_>>().leak();
        Fields::of(payload.to_string().leak(), names).unwrap()
    }

    fn bounds(updated_at: Value) -> Result<Option<v1::TimeBounds>, Failure> {
        fields(&json!({ "updated_at": updated_at })).updated_at()
    }

    fn lower(date: Value) -> Option<i64> {
        bounds(json!({ "gt": date })).unwrap().unwrap().after_ms
    }

    fn upper(date: Value) -> Option<i64> {
        bounds(json!({ "lt": date })).unwrap().unwrap().before_ms
    }

    #[test]
    fn a_date_may_be_written_in_many_ways() {
        let dates = [
            json!("2024-01-11T19:06:40Z"),
            json!("2024-01-11T19:06:40.000Z"),
            json!("2024-01-11T19:06:40.000000000Z"),
            json!("2024-01-11T19:06:40"),
            json!("2024-01-11T20:06:40+01:00"),
            json!(1_705_000_000_000_i64),
            json!("1705000000000"),
            json!(1_705_000_000),
            json!("1705000000"),
        ];
        for date in dates {
            assert_eq!(lower(date.clone()), Some(1_705_000_000_000), "{date}");
            assert_eq!(upper(date.clone()), Some(1_705_000_000_000), "{date}");
        }
    }

    #[test]
    fn a_date_finer_than_a_millisecond_widens_the_span() {
        for date in [json!("2024-01-11T19:06:40.123456Z"), json!(1_705_000_000.123_456), json!(1_705_000_000_123.456)] {
            assert_eq!(lower(date.clone()), Some(1_705_000_000_123), "{date}");
            assert_eq!(upper(date.clone()), Some(1_705_000_000_124), "{date}");
        }
    }

    #[test]
    fn a_whole_millisecond_given_in_seconds_stays_one() {
        for millis in 0..1000 {
            let at = 1_705_000_000_000_i64 + millis;
            let seconds = json!(format!("1705000000.{millis:03}").parse::<f64>().unwrap());
            assert_eq!((lower(seconds.clone()), upper(seconds)), (Some(at), Some(at)));
        }
    }

    #[test]
    fn what_is_no_date_is_refused_under_its_path() {
        for date in [json!("abc"), json!(""), json!(true), json!([]), json!({}), json!("2024-13-01T00:00:00Z")] {
            assert_eq!(bounds(json!({ "gt": date })), Err(Failure::validation("updated_at.gt")));
            assert_eq!(bounds(json!({ "lt": date })), Err(Failure::validation("updated_at.lt")));
        }
        assert_eq!(bounds(json!("2024-01-11T19:06:40Z")), Err(Failure::validation("updated_at")));
    }

    #[test]
    fn no_bound_is_no_filter() {
        for empty in [json!({}), json!(null), json!({ "gt": null, "lt": null })] {
            assert_eq!(bounds(empty), Ok(None));
        }
    }

    #[test]
    fn a_date_beyond_all_years_is_the_end_of_them() {
        assert_eq!(upper(json!(1e300)), Some(253_402_207_201_000));
        assert_eq!(lower(json!(-1e300)), Some(-377_705_023_201_000));
    }

    #[test]
    fn a_number_may_be_a_decimal_string() {
        let fields = fields(&json!({
            "plain": 30, "text": "30", "decimal": 30.0, "negative": "-3", "large": 1e30,
            "fraction": 1.5, "word": "thirty", "empty": "", "hex": "0x1e", "exponent": "3e1", "list": [30],
        }));
        for name in ["plain", "text", "decimal"] {
            assert_eq!(fields.integer(name), Ok(Some(30)), "{name}");
        }
        assert_eq!(fields.integer("negative"), Ok(Some(-3)));
        assert_eq!(fields.integer("large"), Ok(Some(i64::MAX)));
        for name in ["fraction", "word", "empty", "hex", "exponent", "list"] {
            assert_eq!(fields.integer(name), Err(Failure::validation(name)), "{name}");
        }
    }

    #[test]
    fn a_device_id_may_be_a_number() {
        let fields = fields(&json!({ "text": "pc-1", "empty": "", "odd": {} }));
        assert_eq!(fields.device_id("text"), Ok(Some("pc-1".to_owned())));
        assert_eq!(fields.device_id("empty"), Ok(None));
        assert_eq!(fields.device_id("odd"), Err(Failure::of_field(Reason::DeviceIdMissing, "odd")));
    }

    #[test]
    fn a_whole_number_is_one_device_however_it_is_written() {
        for (number, device) in [
            ("42", "42"),
            ("42.0", "42"),
            ("4.2e1", "42"),
            ("4073368485", "4073368485"),
            ("-7.00", "-7"),
            ("1.5", "1.5"),
            ("12345678901234567890123", "12345678901234567890123"),
        ] {
            let payload = format!(r#"{{"device_id":{number}}}"#);
            let fields = Fields::of(&payload, &["device_id"]).unwrap();
            assert_eq!(fields.device_id("device_id"), Ok(Some(device.to_owned())), "{number}");
        }
    }

    #[test]
    fn a_list_of_ids_keeps_its_length() {
        let ids = fields(&json!({ "ids": ["a", null, 7, {}, "b"] })).ids("ids").unwrap().unwrap();
        assert_eq!(ids, ["a", "", "", "", "b"]);
    }

    #[test]
    fn a_list_of_ids_without_end_is_cut_where_it_shows_to_be_too_long() {
        let ids = fields(&json!({ "ids": vec![""; 2 * MAX_IDS] })).ids("ids").unwrap().unwrap();
        assert_eq!(ids.len(), MAX_IDS);
    }

    #[test]
    fn of_two_fields_of_one_name_the_last_one_counts() {
        let fields = Fields::of(r#"{"a":1,"b":3,"a":2,"c":[],"a":null}"#, &["a", "b"]).unwrap();
        assert_eq!((fields.integer("a"), fields.integer("b")), (Ok(None), Ok(Some(3))));
        assert_eq!(fields.found.len(), 2, "what nobody asks for is not kept");
    }
}
