-- Never edit this file once it is released: add the next number instead.
-- +goose Up
ALTER TABLE orders
    ADD COLUMN pay_by   BIGINT      NOT NULL DEFAULT 0, -- 0: it need not be paid
    ADD COLUMN paid_at  BIGINT      NOT NULL DEFAULT 0,
    ADD COLUMN late_seq BIGINT      NOT NULL DEFAULT 0, -- the line's sequence when a late payment took its units again
    ADD COLUMN locale   VARCHAR(16) NOT NULL DEFAULT '';
CREATE INDEX orders_unpaid ON orders (pay_by) WHERE status = 'confirmed' AND pay_by > 0;

-- Every payment the provider has told of, whatever became of it.
CREATE TABLE payments (
    payment_id   VARCHAR(128) NOT NULL PRIMARY KEY,
    order_id     VARCHAR(36)  NOT NULL,
    sale_id      VARCHAR(64)  NOT NULL,
    amount_cents BIGINT       NOT NULL,
    currency     VARCHAR(3)   NOT NULL,
    outcome      VARCHAR(16)  NOT NULL, -- accepted, late, refund_required, mismatch
    paid_at      BIGINT       NOT NULL DEFAULT 0, -- by the provider's clock; 0: it did not say
    received_at  BIGINT       NOT NULL
);
CREATE INDEX payments_order ON payments (order_id);
