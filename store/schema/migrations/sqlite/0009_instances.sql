-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- Every process that ever ran, by the small number that orders and tickets carry for it.
CREATE TABLE instances (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL CHECK (length(name) <= 128),
    roles      TEXT NOT NULL CHECK (length(roles) <= 64),
    version    TEXT NOT NULL CHECK (length(version) <= 64),
    started_at INTEGER NOT NULL
) STRICT;

-- Which process did a step of an order; 0: it did not say.
ALTER TABLE orders ADD COLUMN admitted_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN ended_by INTEGER NOT NULL DEFAULT 0; -- who cancelled or expired it
ALTER TABLE payments ADD COLUMN taken_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN expired_at INTEGER NOT NULL DEFAULT 0; -- of a late payment: when its order had expired, and who had ended it
ALTER TABLE payments ADD COLUMN expired_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN told_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE admin_log ADD COLUMN instance INTEGER NOT NULL DEFAULT 0;

-- The Idempotency-Key of a stock change: a sale takes each once.
ALTER TABLE stock_moves ADD COLUMN request_key TEXT NULL CHECK (length(request_key) <= 255);
CREATE UNIQUE INDEX stock_moves_request ON stock_moves (sale_id, request_key);
