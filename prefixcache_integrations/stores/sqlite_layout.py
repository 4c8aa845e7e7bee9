"""How values lie in a SQLite file: the table, and every statement that is executed on it."""

from __future__ import annotations

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries_v2 (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, digest TEXT NOT NULL, tags TEXT NOT NULL,
    value BLOB NOT NULL, created_at INTEGER NOT NULL, used_at INTEGER NOT NULL, expires_at REAL,
    UNIQUE (namespace, digest)
);
CREATE INDEX IF NOT EXISTS entries_v2_expiry ON entries_v2 (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS deletions_v1 (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, tag TEXT, deleted_at REAL NOT NULL
);
COMMIT;
"""
# Whatever type another writer left in the column, bytes come back.
GET = (
    "SELECT CAST(value AS BLOB), used_at < ? FROM entries_v2"
    " WHERE namespace = ? AND digest = ? AND (expires_at IS NULL OR expires_at > ?)"
)
# A row that is written again gets a new id, and so does one that is used: the order of ids is the order of use.
PUT = (
    "INSERT OR REPLACE INTO entries_v2 (namespace, digest, tags, value, created_at, used_at, expires_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
# Who knows the last deletion that was there when he asked keeps nothing that another has deleted since.
PUT_SINCE = (
    "INSERT OR REPLACE INTO entries_v2 (namespace, digest, tags, value, created_at, used_at, expires_at)"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM deletions_v1 WHERE id > ?8 AND namespace = ?1"
    " AND (tag IS NULL OR tag IN (SELECT value FROM json_each(?3))))"
)
LAST_DELETION = "SELECT max(id) FROM deletions_v1"
NOTE_DELETION = "INSERT INTO deletions_v1 (namespace, tag, deleted_at) VALUES (?, ?, ?)"
FORGET_DELETIONS = "DELETE FROM deletions_v1 WHERE deleted_at < ?"
TOUCH = (
    "UPDATE entries_v2 SET id = (SELECT max(id) + 1 FROM entries_v2), used_at = ? WHERE namespace = ? AND digest = ?"
)
DELETE = "DELETE FROM entries_v2 WHERE namespace = ? AND digest = ?"
INVALIDATE = (
    "DELETE FROM entries_v2 WHERE namespace = ?"
    " AND EXISTS (SELECT 1 FROM json_each(entries_v2.tags) AS tag WHERE tag.value = ?)"
)
CLEAR = "DELETE FROM entries_v2 WHERE namespace = ?"
EXPIRE = "DELETE FROM entries_v2 WHERE expires_at <= ?"
OLDEST = "SELECT id, length(value) FROM entries_v2 WHERE id < (SELECT max(id) FROM entries_v2) ORDER BY id"
EVICT = "DELETE FROM entries_v2 WHERE id <= ?"
FACTS = (
    "SELECT digest, length(value), created_at, tags FROM entries_v2"
    " WHERE namespace = ? AND (expires_at IS NULL OR expires_at > ?)"
)
