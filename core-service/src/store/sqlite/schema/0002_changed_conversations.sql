-- Which attempts have changed or emptied which conversation lately, so that a repeat is known.
CREATE TABLE changes (
    attempt_connection_id BLOB NOT NULL,
    attempt_frame INTEGER NOT NULL,
    conversation_id BLOB NOT NULL,
    made_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX changes_by_attempt ON changes (attempt_connection_id, attempt_frame, conversation_id);

-- Conversations that nobody is in any more, as they were at last, until their content is gone too and no repeat can ask.
CREATE TABLE erased (
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    owner_id BLOB NOT NULL,
    opponent_id BLOB,
    name TEXT,
    description TEXT,
    image_json TEXT,
    is_encrypted INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    erased_at INTEGER NOT NULL
) STRICT;

-- So that what was hidden in a conversation is found without knowing from whom.
CREATE INDEX hidden_by_conversation ON hidden (conversation_id);
