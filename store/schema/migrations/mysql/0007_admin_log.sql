-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- sale_id: empty where an entry belongs to no single sale.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'admin_log' AND column_name = 'sale_id') > 0, 'DO 0',
    'ALTER TABLE admin_log ADD COLUMN sale_id VARCHAR(64) NOT NULL DEFAULT '''', ADD KEY admin_log_sale (sale_id, id), ADD KEY admin_log_target (target, id)');
PREPARE change_admin_log FROM @change;
EXECUTE change_admin_log;
DEALLOCATE PREPARE change_admin_log;

UPDATE admin_log SET sale_id = target WHERE action LIKE 'sale.%' OR action IN ('stock.adjust', 'line.rebuild');
UPDATE admin_log SET sale_id = COALESCE((SELECT sale_id FROM orders WHERE orders.id = admin_log.target), '') WHERE action LIKE 'dead.%';
