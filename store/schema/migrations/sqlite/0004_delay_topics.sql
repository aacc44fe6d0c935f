-- Never edit this file once it is released: add the next number instead.
-- +goose Up
CREATE TABLE delay_topics (
    name          TEXT NOT NULL PRIMARY KEY CHECK (length(name) <= 64),
    url           TEXT NOT NULL CHECK (length(url) <= 2000),
    method        TEXT NOT NULL CHECK (length(method) <= 8), -- POST, PUT, PATCH
    delay_ms      INTEGER NOT NULL,
    timeout_ms    INTEGER NOT NULL,
    retries       INTEGER NOT NULL,
    retry_unit_ms INTEGER NOT NULL,
    alert         TEXT NOT NULL DEFAULT '' CHECK (length(alert) <= 254),
    owner         TEXT NOT NULL DEFAULT '' CHECK (length(owner) <= 128),
    enabled       INTEGER NOT NULL, -- 0: its messages wait
    events        TEXT NOT NULL DEFAULT '' CHECK (length(events) <= 1000), -- order events, joined by commas
    secret        TEXT NOT NULL CHECK (length(secret) <= 128),
    old_secret    TEXT NOT NULL DEFAULT '' CHECK (length(old_secret) <= 128), -- signs too until old_until
    old_until     INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
