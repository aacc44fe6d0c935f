-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- Every payment the provider has told of, whatever became of it.
CREATE TABLE IF NOT EXISTS payments (
    payment_id   VARCHAR(128) NOT NULL PRIMARY KEY,
    order_id     VARCHAR(36)  NOT NULL,
    sale_id      VARCHAR(64)  NOT NULL,
    amount_cents BIGINT       NOT NULL,
    currency     VARCHAR(3)   NOT NULL,
    outcome      VARCHAR(16)  NOT NULL, -- accepted, late, refund_required, mismatch
    paid_at      BIGINT       NOT NULL DEFAULT 0, -- by the provider's clock; 0: it did not say
    received_at  BIGINT       NOT NULL,
    KEY payments_order (order_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- MySQL has no ADD COLUMN IF NOT EXISTS. All columns come in one statement: it is done or it is not.
-- pay_by 0: the order need not be paid. late_seq: the line's sequence when a late payment took its units again.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'pay_by') > 0, 'DO 0',
    'ALTER TABLE orders ADD COLUMN pay_by BIGINT NOT NULL DEFAULT 0, ADD COLUMN paid_at BIGINT NOT NULL DEFAULT 0, ADD COLUMN late_seq BIGINT NOT NULL DEFAULT 0, ADD COLUMN locale VARCHAR(16) NOT NULL DEFAULT '''', ADD KEY orders_unpaid (status, pay_by)');
PREPARE change_orders FROM @change;
EXECUTE change_orders;
DEALLOCATE PREPARE change_orders;
