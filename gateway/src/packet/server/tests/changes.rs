//! What goes out when a conversation, or who is in it, changes.

use super::*;

const MADE_AT: i64 = 1_705_000_002_500;

fn listed() -> Option<v1::ListedConversation> {
    Some(v1::ListedConversation {
        conversation: Some(group()),
        last_message: Some(message()),
        last_message_read: false,
        unread_messages_count: 1,
    })
}

fn listed_text() -> String {
    format!(
        concat!(
            r#"{},"last_message":{{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","#,
            r#""from":"65a03f900000000000000001","t":1705000001,"body":"hi","#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z","#,
            r#""status":"sent","reactions":{{}}}},"unread_messages_count":1}}"#
        ),
        GROUP.strip_suffix('}').unwrap()
    )
}

/// The packet in both forms, with this in either.
fn told(content: &str) -> Option<String> {
    Some(format!(
        concat!(
            r#"{{"event":{{{content}}},"system_message":{{"_id":"65a03f900000000000000009","#,
            r#""cid":"65a03f900000000000000009","from":"65a03f900000000000000001","t":1705000003,"x":{{{content}}}}}}}"#
        ),
        content = content
    ))
}

#[test]
fn a_change_is_told_in_both_forms() {
    let updated = v1::ConversationUpdated { conversation: Some(group()), from_user_id: id(1), at_ms: MADE_AT };
    assert_eq!(
        step(&v1::step::Fact::ConversationUpdated(updated)),
        told(&format!(r#""conversation_updated":{GROUP}"#))
    );
    let removed = v1::MemberRemoved { conversation: Some(group()), from_user_id: id(1), at_ms: MADE_AT };
    assert_eq!(step(&v1::step::Fact::MemberRemoved(removed)), told(&format!(r#""conversation_kicked":{GROUP}"#)));
}

#[test]
fn who_enters_an_existing_conversation_sees_it_as_in_his_list() {
    let restored = v1::ConversationRestored { conversation: listed(), from_user_id: id(1), at_ms: MADE_AT };
    let text = listed_text();
    assert_eq!(
        step(&v1::step::Fact::ConversationRestored(restored)),
        told(&format!(r#""conversation_created":{text}"#))
    );
    let added = v1::MemberAdded { conversation: listed(), from_user_id: id(1), at_ms: MADE_AT };
    assert_eq!(
        step(&v1::step::Fact::MemberAdded(added)),
        told(&format!(r#""conversation_created":{text},"conversation_updated":{text}"#))
    );
}

#[test]
fn ones_own_other_sockets_learn_that_one_has_left() {
    let left = v1::MemberLeft { conversation: Some(group()) };
    let expected = format!(r#"{{"event":{{"conversation_deleted":{GROUP}}}}}"#);
    assert_eq!(step(&v1::step::Fact::MemberLeft(left)), Some(expected));
}

#[test]
fn the_reply_to_an_update_says_if_the_conversation_is_no_more() {
    let to = reply_to(r#"{"conversation_update":{},"id":1}"#);
    let reply = |deleted| response(&to, &Reply::updated(&group(), deleted));
    assert_eq!(reply(false), format!(r#"{{"response":{{"id":1,"conversation":{GROUP}}}}}"#));
    assert_eq!(reply(true), format!(r#"{{"response":{{"id":1,"deleted":true,"conversation":{GROUP}}}}}"#));
}

#[test]
fn without_a_conversation_there_is_nothing_to_tell() {
    let empty = [
        v1::step::Fact::ConversationUpdated(v1::ConversationUpdated::default()),
        v1::step::Fact::ConversationRestored(v1::ConversationRestored::default()),
        v1::step::Fact::MemberAdded(v1::MemberAdded::default()),
        v1::step::Fact::MemberRemoved(v1::MemberRemoved::default()),
        v1::step::Fact::MemberLeft(v1::MemberLeft::default()),
    ];
    assert!(empty.iter().all(|fact| step(fact).is_none()));
}
