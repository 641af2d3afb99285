//! Reading a payload's fields: JSON types, and the forms in which the protocol takes ids, numbers and dates.
//!
//! Shared by packets and HTTP bodies. `null` is absent everywhere.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use proto::reason::{Failure, Reason};
use proto::v1;
use serde_json::{Map, Value};

/// Numbers below it are seconds, others milliseconds (both since the epoch).
const FIRST_MILLIS: f64 = 1e11;

/// The fields of one object.
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>) -> Self {
        Self(object)
    }

    /// The field's value unless it is absent.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A string, or the general failure.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.text_or(name, Reason::ValidationFailed)
    }

    /// A string, or the failure the field's row names.
    pub(crate) fn text_or(&self, name: &str, otherwise: Reason) -> Result<Option<String>, Failure> {
        self.read(name, otherwise, |value| value.as_str().map(str::to_owned))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.read(name, Reason::ValidationFailed, Value::as_bool)
    }

    /// A whole number, also as a decimal string; beyond 64 bits it counts as the nearest that fits.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.read(name, Reason::ValidationFailed, integer)
    }

    /// A list of ids. What is no string in it names nothing, but counts: it becomes the empty string.
    pub(crate) fn ids(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        self.read(name, Reason::ValidationFailed, |value| Some(value.as_array()?.iter().map(lenient_id).collect()))
    }

    /// An id that names nothing when it is no string.
    pub(crate) fn lenient_id(&self, name: &str) -> Option<String> {
        self.value(name).map(lenient_id)
    }

    /// A device id: a string, or a number, which counts as its digits. The empty string is absent.
    pub(crate) fn device_id(&self, name: &str) -> Result<Option<String>, Failure> {
        let device_id = self.read(name, Reason::DeviceIdMissing, |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })?;
        Ok(device_id.filter(|text| !text.is_empty()))
    }

    /// The span of time in `updated_at`; `None` without a bound. Bounds finer than a millisecond are widened to one.
    pub(crate) fn updated_at(&self) -> Result<Option<v1::TimeBounds>, Failure> {
        let Some(bounds) = self.object("updated_at")? else { return Ok(None) };
        let after_ms = bounds.read_as("gt", "updated_at.gt", |value| date_in_micros(value).map(floor_millis))?;
        let before_ms = bounds.read_as("lt", "updated_at.lt", |value| date_in_micros(value).map(ceil_millis))?;
        let bounded = after_ms.is_some() || before_ms.is_some();
        Ok(bounded.then_some(v1::TimeBounds { after_ms, before_ms }))
    }

    /// The lower bound in `updated_at`, where the request knows no other.
    pub(crate) fn updated_after(&self) -> Result<Option<i64>, Failure> {
        let Some(bounds) = self.object("updated_at")? else { return Ok(None) };
        bounds.read_as("gt", "updated_at.gt", |value| date_in_micros(value).map(floor_millis))
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Failure> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields(object))),
            Some(_) => Err(Failure::validation(name)),
        }
    }

    fn read<T>(&self, name: &str, otherwise: Reason, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Failure::of_field(otherwise, name))
    }

    /// As `read`, for a field of an inner object, which `path` names from outside.
    fn read_as<T>(&self, name: &str, path: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Failure::validation(path))
    }
}

fn lenient_id(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
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

/// A date as microseconds since the epoch.
fn date_in_micros(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) if !text.bytes().all(|byte| byte.is_ascii_digit()) => iso_date(text),
        _ => number(value).map(epoch_micros),
    }
}

/// ISO 8601 with an offset or `Z`, or without either, which is UTC.
fn iso_date(text: &str) -> Option<i128> {
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    Some(at.as_nanosecond().div_euclid(1000))
}

#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn epoch_micros(number: f64) -> i128 {
    let micros = if number.abs() < FIRST_MILLIS { number * 1e6 } else { number * 1e3 };
    // No stamp lies outside the years that dates can be written in, so a bound beyond them means the same at their end.
    let (first, last) = (Timestamp::MIN.as_microsecond() as f64, Timestamp::MAX.as_microsecond() as f64);
    micros.round().clamp(first, last) as i128
}

fn floor_millis(micros: i128) -> i64 {
    i64::try_from(micros.div_euclid(1000)).expect("dates are in the years -9999 to 9999")
}

fn ceil_millis(micros: i128) -> i64 {
    i64::try_from(-(-micros).div_euclid(1000)).expect("dates are in the years -9999 to 9999")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bounds(updated_at: Value) -> Result<Option<v1::TimeBounds>, Failure> {
        let Value::Object(payload) = json!({ "updated_at": updated_at }) else { unreachable!() };
        Fields::new(&payload).updated_at()
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
        let Value::Object(payload) = json!({
            "plain": 30, "text": "30", "decimal": 30.0, "negative": "-3", "large": 1e30,
            "fraction": 1.5, "word": "thirty", "empty": "", "hex": "0x1e", "exponent": "3e1", "list": [30],
        }) else {
            unreachable!()
        };
        let fields = Fields::new(&payload);
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
        let Value::Object(payload) =
            json!({ "text": "pc-1", "number": 42, "large": 4073368485_u64, "empty": "", "odd": {} })
        else {
            unreachable!()
        };
        let fields = Fields::new(&payload);
        assert_eq!(fields.device_id("text"), Ok(Some("pc-1".to_owned())));
        assert_eq!(fields.device_id("number"), Ok(Some("42".to_owned())));
        assert_eq!(fields.device_id("large"), Ok(Some("4073368485".to_owned())));
        assert_eq!(fields.device_id("empty"), Ok(None));
        assert_eq!(fields.device_id("odd"), Err(Failure::of_field(Reason::DeviceIdMissing, "odd")));
    }

    #[test]
    fn a_list_of_ids_keeps_its_length() {
        let Value::Object(payload) = json!({ "ids": ["a", null, 7, {}, "b"] }) else { unreachable!() };
        let ids = Fields::new(&payload).ids("ids").unwrap().unwrap();
        assert_eq!(ids, ["a", "", "", "", "b"]);
    }
}
