-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- Every process that ever ran, by the small number that orders and tickets carry for it.
CREATE TABLE instances (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       VARCHAR(128) NOT NULL,
    roles      VARCHAR(64)  NOT NULL,
    version    VARCHAR(64)  NOT NULL,
    started_at BIGINT       NOT NULL
);

-- Which process did a step of an order; 0: it did not say.
ALTER TABLE orders
    ADD COLUMN admitted_by BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN ended_by    BIGINT NOT NULL DEFAULT 0; -- who cancelled or expired it
ALTER TABLE payments
    ADD COLUMN taken_by   BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN expired_at BIGINT NOT NULL DEFAULT 0, -- of a late payment: when its order had expired, and who had ended it
    ADD COLUMN expired_by BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN told_by BIGINT NOT NULL DEFAULT 0;
ALTER TABLE admin_log ADD COLUMN instance BIGINT NOT NULL DEFAULT 0;

-- The Idempotency-Key of a stock change: a sale takes each once.
ALTER TABLE stock_moves ADD COLUMN request_key VARCHAR(255) NULL;
CREATE UNIQUE INDEX stock_moves_request ON stock_moves (sale_id, request_key);
