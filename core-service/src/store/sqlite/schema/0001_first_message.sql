-- Ids are BLOBs of 12 bytes, which say when they were made. Times are Unix milliseconds, unless a column says otherwise.
-- The tables that messages flow through keep a rowid and have their order in an index: measured at two and a half
-- times the writes of a table clustered by that order.

CREATE TABLE organizations (
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id BLOB NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    login TEXT NOT NULL,
    -- What must be unique of login and e-mail.
    login_key TEXT NOT NULL,
    email TEXT,
    email_key TEXT,
    phone TEXT,
    first_name TEXT,
    last_name TEXT,
    -- All three names as they are compared, for the search of a part.
    search_text TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    -- Unix seconds; 0 while online.
    recent_activity INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX users_by_login ON users (organization_id, login_key);
CREATE UNIQUE INDEX users_by_email ON users (organization_id, email_key) WHERE email_key IS NOT NULL;
CREATE UNIQUE INDEX users_by_phone ON users (organization_id, phone) WHERE phone IS NOT NULL;

CREATE TABLE sessions (
    -- 24 bytes.
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    refresh_counter INTEGER NOT NULL,
    rotated_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- Entries of one device lie in the order in which its sessions were made.
CREATE INDEX sessions_by_device ON sessions (user_id, device_id);

CREATE TABLE connections (
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    device_id TEXT NOT NULL,
    is_inactive INTEGER NOT NULL
) STRICT;

CREATE INDEX connections_by_user ON connections (user_id);

CREATE TABLE conversations (
    id BLOB NOT NULL UNIQUE,
    -- The protocol's letter.
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
    -- The attempt that made it.
    attempt_connection_id BLOB NOT NULL,
    attempt_frame INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX conversations_by_attempt ON conversations (attempt_connection_id, attempt_frame);
CREATE UNIQUE INDEX conversations_by_pair
    ON conversations (organization_id, min(owner_id, opponent_id), max(owner_id, opponent_id), is_encrypted)
    WHERE kind = 'u';

CREATE TABLE members (
    conversation_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    -- 'owner', 'admin' or 'plain'.
    role TEXT NOT NULL,
    joined_at INTEGER NOT NULL
) STRICT;

-- Entries of one conversation lie in join order.
CREATE INDEX members_by_conversation ON members (conversation_id);
CREATE UNIQUE INDEX members_by_user ON members (user_id, conversation_id);

CREATE TABLE messages (
    conversation_id BLOB NOT NULL,
    id BLOB NOT NULL,
    from_user_id BLOB NOT NULL,
    attempt_connection_id BLOB NOT NULL,
    attempt_frame INTEGER NOT NULL,
    fingerprint BLOB,
    encrypted_message_type INTEGER,
    replied_message_id BLOB,
    forwarded_message_id TEXT,
    attachments_json TEXT,
    x_json TEXT,
    -- Last, so that whoever needs only the others does not read it.
    body TEXT NOT NULL
) STRICT;

-- With the author, so that unread messages are counted in the index alone.
CREATE INDEX messages_by_conversation ON messages (conversation_id, id, from_user_id);

-- Who never sees which message.
CREATE TABLE hidden (
    user_id BLOB NOT NULL,
    conversation_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    PRIMARY KEY (user_id, conversation_id, message_id)
) STRICT, WITHOUT ROWID;

-- What a user has read: every message from the first id to the last one.
CREATE TABLE read_ranges (
    conversation_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    first_id BLOB NOT NULL,
    last_id BLOB NOT NULL,
    PRIMARY KEY (conversation_id, user_id, first_id)
) STRICT, WITHOUT ROWID;

-- Events in the order in which they were committed. Positions have no holes and are never used again, since the newest
-- event is never trimmed: AUTOINCREMENT would only write one more page in each commit.
CREATE TABLE journal (
    position INTEGER PRIMARY KEY,
    created_at INTEGER NOT NULL,
    -- The bytes of all envelopes up to and with this one, trimmed ones included.
    end_offset INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
