-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- Every process that ever ran, by the small number that orders and tickets carry for it.
CREATE TABLE IF NOT EXISTS instances (
    number     BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       VARCHAR(128) NOT NULL,
    roles      VARCHAR(64)  NOT NULL,
    version    VARCHAR(64)  NOT NULL,
    started_at BIGINT       NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Which process did a step of an order; 0: it did not say. ended_by: who cancelled or expired it.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'admitted_by') > 0, 'DO 0',
    'ALTER TABLE orders ADD COLUMN admitted_by BIGINT NOT NULL DEFAULT 0, ADD COLUMN ended_by BIGINT NOT NULL DEFAULT 0');
PREPARE change_orders FROM @change;
EXECUTE change_orders;
DEALLOCATE PREPARE change_orders;

-- expired_at, expired_by: of a late payment, when its order had expired, and who had ended it.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'payments' AND column_name = 'taken_by') > 0, 'DO 0',
    'ALTER TABLE payments ADD COLUMN taken_by BIGINT NOT NULL DEFAULT 0, ADD COLUMN expired_at BIGINT NOT NULL DEFAULT 0, ADD COLUMN expired_by BIGINT NOT NULL DEFAULT 0');
PREPARE change_payments FROM @change;
EXECUTE change_payments;
DEALLOCATE PREPARE change_payments;

SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'admin_log' AND column_name = 'instance') > 0, 'DO 0',
    'ALTER TABLE admin_log ADD COLUMN instance BIGINT NOT NULL DEFAULT 0');
PREPARE change_admin_log FROM @change;
EXECUTE change_admin_log;
DEALLOCATE PREPARE change_admin_log;

SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'outbox' AND column_name = 'told_by') > 0, 'DO 0',
    'ALTER TABLE outbox ADD COLUMN told_by BIGINT NOT NULL DEFAULT 0');
PREPARE change_outbox FROM @change;
EXECUTE change_outbox;
DEALLOCATE PREPARE change_outbox;

-- request_key: the Idempotency-Key of a stock change; a sale takes each once.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'stock_moves' AND column_name = 'request_key') > 0, 'DO 0',
    'ALTER TABLE stock_moves ADD COLUMN request_key VARCHAR(255) NULL, ADD UNIQUE KEY stock_moves_request (sale_id, request_key)');
PREPARE change_stock_moves FROM @change;
EXECUTE change_stock_moves;
DEALLOCATE PREPARE change_stock_moves;
