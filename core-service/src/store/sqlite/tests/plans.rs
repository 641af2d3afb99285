//! The statements that run often find their rows in an index.

use tempfile::TempDir;

use super::super::{changes, conversations, journal, marks, messages, read_marks, views};
use super::open;

#[tokio::test]
async fn frequent_statements_search_an_index() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let expected = [
        (
            conversations::LOOKUP_BY_PAIR,
            "USING INDEX conversations_by_pair (organization_id=? AND <expr>=? AND <expr>=?",
        ),
        (conversations::LOOKUP_BY_ATTEMPT, "USING INDEX conversations_by_attempt"),
        (conversations::LIST_MEMBERS, "USING INDEX members_by_conversation"),
        (conversations::LIST_MEMBERSHIPS, "SEARCH members USING INDEX members_by_user (user_id=?)"),
        (conversations::LIST_MEMBERSHIPS, "SEARCH messages USING COVERING INDEX messages_by_conversation"),
        (changes::LOOKUP_CHANGE, "USING COVERING INDEX changes_by_attempt"),
        (changes::REMOVE_CONTENT[0], "USING COVERING INDEX messages_by_conversation (conversation_id=?)"),
        (changes::REMOVE_CONTENT[1], "USING COVERING INDEX hidden_by_conversation (conversation_id=?)"),
        (changes::REMOVE_CONTENT[1], "hidden_by_conversation (conversation_id=? AND user_id=? AND message_id=?)"),
        (changes::REMOVE_CONTENT[2], "USING PRIMARY KEY (conversation_id=? AND user_id=? AND first_id=?)"),
        (messages::LIST_RECENT, "USING INDEX messages_by_conversation (conversation_id=? AND id>?)"),
        (views::LOOKUP, "USING INDEX messages_by_conversation (conversation_id=? AND id=?)"),
        (marks::NEWEST_FIRST, "USING COVERING INDEX messages_by_conversation (conversation_id=? AND id>? AND id<?)"),
        (marks::NEWEST_FIRST, "SEARCH hidden USING PRIMARY KEY (user_id=? AND conversation_id=? AND message_id=?)"),
        (marks::OLDEST_FIRST, "USING COVERING INDEX messages_by_conversation (conversation_id=? AND id>? AND id<?)"),
        (read_marks::LIST_RANGES, "USING PRIMARY KEY (conversation_id=? AND user_id=?)"),
        (read_marks::LOOKUP_RANGE, "USING PRIMARY KEY (conversation_id=? AND user_id=? AND first_id<?)"),
        (read_marks::NEXT_READER, "USING PRIMARY KEY (conversation_id=? AND user_id>?)"),
        (journal::READ_ABOVE, "USING INTEGER PRIMARY KEY"),
    ];
    for (statement, part) in expected {
        let plan = store
            .lookups
            .read("explain", move |connection| {
                let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
                let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
                let rows = explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3))?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?.join("\n"))
            })
            .await
            .unwrap();
        assert!(plan.contains(part), "{part} is not in the plan of {statement}:\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{statement} sorts:\n{plan}");
    }
}
