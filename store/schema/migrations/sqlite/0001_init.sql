-- Never edit this file once it is released: add the next number instead.
-- SQLite ignores the length of a VARCHAR, so the lengths are checks: what is too long fails alike on every database.
-- Tables keyed by their own strings are WITHOUT ROWID: an insert then writes one tree less.
-- +goose Up
CREATE TABLE sales (
    id             TEXT NOT NULL PRIMARY KEY CHECK (length(id) <= 64),
    title          TEXT NOT NULL CHECK (length(title) <= 200),
    sku            TEXT NOT NULL CHECK (length(sku) <= 64),
    price_cents    INTEGER NOT NULL,
    currency       TEXT NOT NULL CHECK (length(currency) <= 3),
    per_user_limit INTEGER NOT NULL,
    cap            INTEGER NOT NULL,
    state          TEXT NOT NULL CHECK (length(state) <= 16), -- draft, open, paused, closed
    starts_at      INTEGER NOT NULL,
    ends_at        INTEGER NOT NULL,
    epoch          INTEGER NOT NULL DEFAULT 0,
    version        INTEGER NOT NULL DEFAULT 1,
    rebuild_until  INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One hot row per sale.
CREATE TABLE stock (
    sale_id   TEXT NOT NULL PRIMARY KEY REFERENCES sales (id) CHECK (length(sale_id) <= 64),
    total     INTEGER NOT NULL,
    available INTEGER NOT NULL,
    CONSTRAINT stock_bounds CHECK (available >= 0 AND available <= total)
) STRICT, WITHOUT ROWID;

CREATE TABLE stock_moves (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    sale_id    TEXT NOT NULL CHECK (length(sale_id) <= 64),
    delta      INTEGER NOT NULL,
    reason     TEXT NOT NULL CHECK (length(reason) <= 200),
    actor      TEXT NOT NULL CHECK (length(actor) <= 128),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX stock_moves_sale ON stock_moves (sale_id, id);

CREATE TABLE orders (
    id           TEXT NOT NULL PRIMARY KEY CHECK (length(id) <= 36),
    sale_id      TEXT NOT NULL CHECK (length(sale_id) <= 64),
    user_id      TEXT NOT NULL CHECK (length(user_id) <= 128),
    slot         INTEGER NULL, -- null once cancelled or expired: the user may order again
    quantity     INTEGER NOT NULL,
    price_cents  INTEGER NOT NULL,
    currency     TEXT NOT NULL CHECK (length(currency) <= 3),
    status       TEXT NOT NULL CHECK (length(status) <= 16), -- confirmed, paid, failed, cancelled, expired
    reason       TEXT NOT NULL DEFAULT '' CHECK (length(reason) <= 200),
    email        TEXT NOT NULL DEFAULT '' CHECK (length(email) <= 254),
    phone        TEXT NOT NULL DEFAULT '' CHECK (length(phone) <= 20),
    seq          INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    batch_id     TEXT NOT NULL CHECK (length(batch_id) <= 48),
    fingerprint  TEXT NOT NULL DEFAULT '' CHECK (length(fingerprint) <= 16),
    position     INTEGER NOT NULL DEFAULT 0, -- place in line and wait as first answered
    eta_seconds  INTEGER NOT NULL DEFAULT 0,
    released     INTEGER NOT NULL DEFAULT 1, -- 0: its units must still be returned to the line
    admitted_at  INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL DEFAULT 0,
    ended_at     INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT orders_holder UNIQUE (sale_id, user_id, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_user ON orders (user_id, admitted_at, id);
CREATE INDEX orders_sale ON orders (sale_id, admitted_at, id);
CREATE INDEX orders_unreleased ON orders (released, sale_id) WHERE released = 0;

CREATE TABLE outbox (
    order_id     TEXT NOT NULL CHECK (length(order_id) <= 36),
    event        TEXT NOT NULL CHECK (length(event) <= 32),
    channel      TEXT NOT NULL CHECK (length(channel) <= 16),
    sale_id      TEXT NOT NULL CHECK (length(sale_id) <= 64),
    user_id      TEXT NOT NULL CHECK (length(user_id) <= 128),
    state        INTEGER NOT NULL DEFAULT 0, -- 0 pending, 1 delivered, 2 dead
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    lease        TEXT NOT NULL DEFAULT '' CHECK (length(lease) <= 48),
    last_error   TEXT NOT NULL DEFAULT '' CHECK (length(last_error) <= 200),
    created_at   INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, event, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (state, channel, next_at);

CREATE TABLE admin_log (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    actor        TEXT NOT NULL CHECK (length(actor) <= 128),
    action       TEXT NOT NULL CHECK (length(action) <= 64),
    target       TEXT NOT NULL CHECK (length(target) <= 128),
    reason       TEXT NOT NULL DEFAULT '' CHECK (length(reason) <= 200),
    before_value TEXT NOT NULL,
    after_value  TEXT NOT NULL
) STRICT;
