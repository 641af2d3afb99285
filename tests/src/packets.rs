//! What must hold for every packet a server sends, and small readers of packets.

use serde_json::Value;

/// The keys that one of the clients acts on. Two of them in one packet: the later one is lost.
const HANDLED: [&str; 9] = [
    "typing",
    "system_message",
    "last_activity",
    "message_read",
    "message_edit",
    "message_delete",
    "message",
    "ask",
    "response",
];

/// Keys that no packet may carry, at any depth.
const SECRET: [&str; 4] = ["encrypted_password", "password_salt", "password", "refresh_token"];

/// Finds what is wrong with a packet whatever it is an answer to. The client asks this of every packet it gets.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check(packet: &Value) -> Result<(), String> {
    let Some(keys) = packet.as_object() else {
        return Err("a packet is an object".to_owned());
    };
    let handled: Vec<_> = HANDLED.into_iter().filter(|key| keys.contains_key(*key)).collect();
    if handled.len() > 1 {
        return Err(format!("clients act on one of {handled:?} and lose the others"));
    }
    for key in HANDLED {
        let error = packet.get(key).and_then(|inner| inner.get("error"));
        if let Some(error) = error {
            check_error(error)?;
            if keys.len() != 1 {
                return Err("a packet with an error carries one key".to_owned());
            }
        }
    }
    check_objects(packet)
}

fn check_error(error: &Value) -> Result<(), String> {
    let status = error["status"].as_u64();
    let text = |key: &str| error[key].as_str().is_some_and(|text| !text.is_empty());
    if status.is_none() || !text("code") || !text("message") {
        return Err("an error has a status, a code and a sentence".to_owned());
    }
    if error["code"] == "validation_failed" && !text("field") {
        return Err("validation_failed names the field".to_owned());
    }
    Ok(())
}

/// Walks through everything but `x`, which is the users' own.
fn check_objects(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(object) => {
            if let Some(key) = SECRET.into_iter().find(|key| object.contains_key(*key)) {
                return Err(format!("{key} leaves the server"));
            }
            if object.contains_key("login") {
                if object.get("native_id") != object.get("_id") {
                    return Err("a user's native_id is its _id".to_owned());
                }
                if object.contains_key("organization_id") {
                    return Err("a user's organization leaves the server".to_owned());
                }
            }
            object.iter().filter(|(key, _)| *key != "x").try_for_each(|(_, inner)| check_objects(inner))
        }
        Value::Array(items) => items.iter().try_for_each(check_objects),
        _ => Ok(()),
    }
}

/// The text under a key.
///
/// # Panics
/// When there is none.
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("no text {key:?} in {object}"))
}

/// The integer under a key. A number with a point is none.
///
/// # Panics
/// When there is none.
pub fn integer(object: &Value, key: &str) -> i64 {
    object[key].as_i64().unwrap_or_else(|| panic!("no integer {key:?} in {object}"))
}

/// The array under a key.
///
/// # Panics
/// When there is none.
pub fn items<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object[key].as_array().unwrap_or_else(|| panic!("no array {key:?} in {object}"))
}

/// One text of each item, in order.
pub fn texts<'a>(items: &'a [Value], key: &str) -> Vec<&'a str> {
    items.iter().map(|item| text(item, key)).collect()
}

/// Whether this is an id as the server makes them: 24 lowercase hexadecimal digits.
pub fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is a time stamp in the one form the server uses: UTC, exactly three decimals, `Z`.
pub fn is_stamp(text: &str) -> bool {
    let shape = "0000-00-00T00:00:00.000Z";
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

/// Whether the packet is a live message with this body.
pub fn is_message(packet: &Value, body: &str) -> bool {
    packet["message"]["body"] == body && packet["message"]["_id"].is_string()
}

/// Whether the packet tells of a new conversation.
pub fn is_created(packet: &Value) -> bool {
    packet["system_message"]["x"]["conversation_created"].is_object()
}

/// Asserts that this is the error object, of this status and code.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn assert_error(holder: &Value, status: u16, code: &str) {
    let error = &holder["error"];
    assert!(error["status"] == status && error["code"] == code, "wanted {status} {code}, got {holder}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_handled_keys_are_found() {
        assert!(check(&json!({"ask": {}, "response": {}})).is_err());
        assert!(check(&json!({"ask": {}, "ack": {}})).is_ok());
        assert!(check(&json!({"event": {}, "system_message": {}})).is_ok());
    }

    #[test]
    fn leaks_are_found_except_in_what_users_wrote() {
        assert!(check(&json!({"response": {"users": [{"_id": "a", "native_id": "a", "login": "ann"}]}})).is_ok());
        assert!(check(&json!({"response": {"users": [{"_id": "a", "login": "ann"}]}})).is_err());
        let foreign = json!({"_id": "a", "native_id": "a", "login": "ann", "organization_id": "o"});
        assert!(check(&json!({"response": {"user": foreign}})).is_err());
        assert!(check(&json!({"response": {"user": {"password_salt": ""}}})).is_err());
        assert!(check(&json!({"message": {"from": "a", "x": {"password": 1}}})).is_ok());
    }

    #[test]
    fn half_an_error_is_found() {
        assert!(check(&json!({"response": {"error": {"status": 500, "code": "internal_error"}}})).is_err());
        let unnamed = json!({"status": 422, "code": "validation_failed", "message": "No."});
        assert!(check(&json!({"response": {"error": unnamed}})).is_err());
    }

    #[test]
    fn stamps_have_three_decimals() {
        assert!(is_stamp("2023-08-23T09:09:20.993Z"));
        assert!(!is_stamp("2023-08-23T09:09:20Z"));
        assert!(!is_stamp("2023-08-23T09:09:20.993+00:00"));
    }
}
