-- Never edit this file once it is released: add the next number instead.
-- +sluice note writes the table outbox anew: it takes time and as much free disk again
-- +goose Up

-- id: the order in which news was queued, is told and lies in the file. next_at 0: due as soon as its turn comes. lease: the relay's
-- token until leased_until. What was leased while this ran is due again when that lease would have ended.
ALTER TABLE outbox RENAME TO outbox_before;
DROP INDEX outbox_due;
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id     TEXT NOT NULL CHECK (length(order_id) <= 36),
    event        TEXT NOT NULL CHECK (length(event) <= 32),
    channel      TEXT NOT NULL CHECK (length(channel) <= 16),
    sale_id      TEXT NOT NULL CHECK (length(sale_id) <= 64),
    user_id      TEXT NOT NULL CHECK (length(user_id) <= 128),
    state        INTEGER NOT NULL DEFAULT 0, -- 0 pending, 1 delivered, 2 dead
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL DEFAULT 0,
    lease        INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT NOT NULL DEFAULT '' CHECK (length(last_error) <= 200),
    created_at   INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT outbox_news UNIQUE (order_id, event, channel)
) STRICT;
INSERT INTO outbox (order_id, event, channel, sale_id, user_id, state, attempts, next_at, last_error, created_at, delivered_at)
    SELECT order_id, event, channel, sale_id, user_id, state, attempts, next_at, last_error, created_at, delivered_at FROM outbox_before ORDER BY created_at;
DROP TABLE outbox_before;
CREATE INDEX outbox_due ON outbox (state, channel, next_at, id);
