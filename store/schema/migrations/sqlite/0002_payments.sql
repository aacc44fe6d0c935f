-- Never edit this file once it is released: add the next number instead.
-- +goose Up
ALTER TABLE orders ADD COLUMN pay_by INTEGER NOT NULL DEFAULT 0; -- 0: it need not be paid
ALTER TABLE orders ADD COLUMN paid_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN late_seq INTEGER NOT NULL DEFAULT 0; -- the line's sequence when a late payment took its units again
ALTER TABLE orders ADD COLUMN locale TEXT NOT NULL DEFAULT '' CHECK (length(locale) <= 16);
CREATE INDEX orders_unpaid ON orders (pay_by) WHERE status = 'confirmed' AND pay_by > 0;

-- Every payment the provider has told of, whatever became of it.
CREATE TABLE payments (
    payment_id   TEXT NOT NULL PRIMARY KEY CHECK (length(payment_id) <= 128),
    order_id     TEXT NOT NULL CHECK (length(order_id) <= 36),
    sale_id      TEXT NOT NULL CHECK (length(sale_id) <= 64),
    amount_cents INTEGER NOT NULL,
    currency     TEXT NOT NULL CHECK (length(currency) <= 3),
    outcome      TEXT NOT NULL CHECK (length(outcome) <= 16), -- accepted, late, refund_required, mismatch
    paid_at      INTEGER NOT NULL DEFAULT 0, -- by the provider's clock; 0: it did not say
    received_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_order ON payments (order_id);
