-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- fence: raised by each worker that gives back units which a late payment had taken again. refund: why a payment of this
-- order must go back (late, again, ended, amount); empty: none.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'fence') > 0, 'DO 0',
    'ALTER TABLE orders ADD COLUMN fence BIGINT NOT NULL DEFAULT 0, ADD COLUMN refund VARCHAR(16) NOT NULL DEFAULT ''''');
PREPARE change_orders FROM @change;
EXECUTE change_orders;
DEALLOCATE PREPARE change_orders;

-- Operators list payments by what became of them, newest first.
SET @change = IF((SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'payments' AND index_name = 'payments_outcome') > 0, 'DO 0',
    'ALTER TABLE payments ADD KEY payments_received (received_at, payment_id), ADD KEY payments_outcome (outcome, received_at, payment_id)');
PREPARE change_payments FROM @change;
EXECUTE change_payments;
DEALLOCATE PREPARE change_payments;
