-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- One row: who this database belongs to, and which schema versions its processes must know.
CREATE TABLE installation (
    only_one      INTEGER NOT NULL PRIMARY KEY CHECK (only_one = 1),
    id            TEXT    NOT NULL CHECK (length(id) <= 36), -- the same in Redis, or the two stores do not belong together
    schema_newest INTEGER NOT NULL DEFAULT 0, -- the newest version that is applied, or is about to be
    schema_least  INTEGER NOT NULL DEFAULT 0, -- a process must know this version
    created_at    INTEGER NOT NULL
) STRICT;

-- The processes that run, and which schema versions each works with.
CREATE TABLE processes (
    name          TEXT    NOT NULL PRIMARY KEY CHECK (length(name) <= 128),
    version       TEXT    NOT NULL CHECK (length(version) <= 64),
    schema_oldest INTEGER NOT NULL,
    schema_newest INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL -- by the database's clock
) STRICT;
