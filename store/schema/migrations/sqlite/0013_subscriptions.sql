-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- A topic's receivers beside its own URL, each with a copy of its messages.
CREATE TABLE delay_subscriptions (
    name          TEXT NOT NULL PRIMARY KEY CHECK (length(name) <= 64),
    topic         TEXT NOT NULL CHECK (length(topic) <= 64),
    kind          TEXT NOT NULL CHECK (length(kind) <= 8), -- push, pull
    url           TEXT NOT NULL DEFAULT '' CHECK (length(url) <= 2000),
    method        TEXT NOT NULL DEFAULT '' CHECK (length(method) <= 8), -- POST, PUT, PATCH, GET
    timeout_ms    INTEGER NOT NULL,
    lease_ms      INTEGER NOT NULL, -- pull: how long a received message is held
    retries       INTEGER NOT NULL,
    retry_unit_ms INTEGER NOT NULL,
    alert         TEXT NOT NULL DEFAULT '' CHECK (length(alert) <= 254),
    owner         TEXT NOT NULL DEFAULT '' CHECK (length(owner) <= 128),
    enabled       INTEGER NOT NULL, -- 0: its messages wait
    events        TEXT NOT NULL DEFAULT '' CHECK (length(events) <= 1000), -- the only ones it takes, joined by commas
    sales         TEXT NOT NULL DEFAULT '' CHECK (length(sales) <= 1000), -- patterns of the only ones it takes, joined by commas
    secret        TEXT NOT NULL DEFAULT '' CHECK (length(secret) <= 128),
    old_secret    TEXT NOT NULL DEFAULT '' CHECK (length(old_secret) <= 128), -- signs too until old_until
    old_until     INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- version: raised by each change of the topic or of one of its subscriptions.
ALTER TABLE delay_topics ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
