"""How values lie in PostgreSQL: the table, and every statement that is executed on it."""

from __future__ import annotations

CREATE = """
DO $$ BEGIN
    PERFORM pg_advisory_xact_lock(7027164309115437122);
    IF to_regclass('prefixcache_entries_v1') IS NULL THEN
        CREATE TABLE prefixcache_entries_v1 (
            namespace bytea NOT NULL, digest bytea NOT NULL, metadata jsonb NOT NULL, value bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(), used_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz, PRIMARY KEY (namespace, digest)
        );
        ALTER TABLE prefixcache_entries_v1 ALTER COLUMN value SET STORAGE EXTERNAL;
        CREATE INDEX prefixcache_entries_v1_used ON prefixcache_entries_v1 (used_at);
        CREATE INDEX prefixcache_entries_v1_expiry ON prefixcache_entries_v1 (expires_at)
            WHERE expires_at IS NOT NULL;
    END IF;
    IF to_regclass('prefixcache_deletions_v1') IS NULL THEN
        CREATE TABLE prefixcache_deletions_v1 (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, namespace bytea NOT NULL, tag text,
            deleted_at timestamptz NOT NULL DEFAULT now()
        );
    END IF;
END $$
"""
"""Creates the tables where there are none; values come compressed, where that pays.

A table that is there is not touched: ``ALTER`` and ``CREATE INDEX``, even of what exists, wait for all who use it. And
its lock is no other's: who changes many rows locks the table first, and then waits for theirs.
"""

GET = "prefixcache_get"
TOUCH = "prefixcache_touch"
PUT = "prefixcache_put"
PUT_SINCE = "prefixcache_put_since"
TAKE_BACK = "prefixcache_take_back"
LAST_DELETION = "prefixcache_last_deletion"
NOTE_DELETION = "prefixcache_note_deletion"
DELETE = "prefixcache_delete"
INVALIDATE = "prefixcache_invalidate"
FACTS = "prefixcache_facts"
DISCARD = "prefixcache_discard"
CLEAR = "prefixcache_clear"
EXPIRE = "prefixcache_expire"
EVICT = "prefixcache_evict"
LOCK = "prefixcache_lock"
UNLOCK = "prefixcache_unlock"

# The advisory lock is for who changes many rows: two of them, each in an order of its own, could wait for each other.
STATEMENTS = {
    GET: """
        SELECT value, used_at < now() - interval '1 hour' FROM prefixcache_entries_v1
        WHERE namespace = $1 AND digest = $2 AND (expires_at IS NULL OR expires_at > now())
    """,
    TOUCH: "UPDATE prefixcache_entries_v1 SET used_at = now() WHERE namespace = $1 AND digest = $2",
    PUT: """
        INSERT INTO prefixcache_entries_v1 (namespace, digest, metadata, value, expires_at)
        VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second')
        ON CONFLICT (namespace, digest) DO UPDATE SET metadata = excluded.metadata, value = excluded.value,
        created_at = excluded.created_at, used_at = excluded.used_at, expires_at = excluded.expires_at
    """,
    # Who knows the last deletion that was there when he asked keeps nothing that another has deleted since.
    PUT_SINCE: """
        INSERT INTO prefixcache_entries_v1 (namespace, digest, metadata, value, expires_at)
        SELECT $1::bytea, $2::bytea, $3::jsonb, $4::bytea, now() + $5::float8 * interval '1 second'
        WHERE NOT EXISTS (
            SELECT 1 FROM prefixcache_deletions_v1
            WHERE id > $6::bigint AND namespace = $1 AND (tag IS NULL OR $3::jsonb -> 'tags' ? tag)
        )
        ON CONFLICT (namespace, digest) DO UPDATE SET metadata = excluded.metadata, value = excluded.value,
        created_at = excluded.created_at, used_at = excluded.used_at, expires_at = excluded.expires_at
    """,
    # What was deleted while it was put, neither its statement nor that of who deleted may have seen.
    TAKE_BACK: """
        DELETE FROM prefixcache_entries_v1 WHERE namespace = $1::bytea AND digest = $2::bytea AND EXISTS (
            SELECT 1 FROM prefixcache_deletions_v1
            WHERE id > $4::bigint AND namespace = $1 AND (tag IS NULL OR $3::jsonb -> 'tags' ? tag)
        )
    """,
    LAST_DELETION: "SELECT coalesce(max(id), 0)::text FROM prefixcache_deletions_v1",
    # By itself, and first: who deletes may wait for others, and does not see what is put meanwhile.
    NOTE_DELETION: "INSERT INTO prefixcache_deletions_v1 (namespace, tag) VALUES ($1::bytea, $2::text)",
    DELETE: "DELETE FROM prefixcache_entries_v1 WHERE namespace = $1 AND digest = $2",
    INVALIDATE: """
        WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(7027164309115437121)),
        forgotten AS (DELETE FROM prefixcache_deletions_v1 WHERE deleted_at < now() - interval '1 hour')
        DELETE FROM prefixcache_entries_v1
        WHERE (SELECT count(*) FROM alone) = 1 AND namespace = $1 AND metadata -> 'tags' ? $2
    """,
    FACTS: """
        SELECT digest, octet_length(value)::text, extract(epoch FROM now() - created_at)::text,
        (metadata -> 'tags')::text
        FROM prefixcache_entries_v1 WHERE namespace = $1 AND (expires_at IS NULL OR expires_at > now())
    """,
    DISCARD: """
        WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(7027164309115437121))
        DELETE FROM prefixcache_entries_v1
        WHERE (SELECT count(*) FROM alone) = 1 AND namespace = $1 AND digest = ANY($2::bytea[])
    """,
    CLEAR: """
        WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(7027164309115437121)),
        forgotten AS (DELETE FROM prefixcache_deletions_v1 WHERE deleted_at < now() - interval '1 hour')
        DELETE FROM prefixcache_entries_v1 WHERE (SELECT count(*) FROM alone) = 1 AND namespace = $1
    """,
    EXPIRE: """
        DELETE FROM prefixcache_entries_v1 WHERE ctid IN (
            SELECT ctid FROM prefixcache_entries_v1 WHERE expires_at <= now() FOR UPDATE SKIP LOCKED
        )
    """,
    # $1 bytes may stay, each row counting $2 beside its value: metadata, hashes, headers, its places in indexes.
    EVICT: """
        WITH alone AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(7027164309115437121) AS so),
        kept AS (
            SELECT namespace, digest, sum(octet_length(value) + $2::bigint) OVER (ORDER BY used_at DESC) AS bytes
            FROM prefixcache_entries_v1 WHERE (SELECT so FROM alone)
        )
        DELETE FROM prefixcache_entries_v1 AS entry USING kept
        WHERE entry.namespace = kept.namespace AND entry.digest = kept.digest AND kept.bytes > $1::bigint
    """,
    LOCK: "SELECT pg_try_advisory_lock($1::bigint)",
    UNLOCK: "SELECT pg_advisory_unlock($1::bigint)",
}

COUNT = """
    SELECT metadata ->> 'namespace', count(*), sum(octet_length(value))::bigint,
    count(*) FILTER (WHERE expires_at <= now())
    FROM prefixcache_entries_v1 GROUP BY 1 ORDER BY 1
"""
COUNT_TAGS = """
    SELECT metadata ->> 'namespace', tag, count(*)
    FROM prefixcache_entries_v1, jsonb_array_elements_text(metadata -> 'tags') AS tag GROUP BY 1, 2 ORDER BY 1, 2
"""
