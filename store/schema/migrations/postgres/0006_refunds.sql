-- Never edit this file once it is released: add the next number instead.
-- +goose Up
ALTER TABLE orders ADD COLUMN fence BIGINT NOT NULL DEFAULT 0; -- raised by each worker that gives back units which a late payment had taken again
ALTER TABLE orders ADD COLUMN refund VARCHAR(16) NOT NULL DEFAULT ''; -- why a payment of it must go back: late, again, ended, amount; empty: none

-- Operators list payments by what became of them, newest first.
CREATE INDEX payments_received ON payments (received_at, payment_id);
CREATE INDEX payments_outcome ON payments (outcome, received_at, payment_id);
