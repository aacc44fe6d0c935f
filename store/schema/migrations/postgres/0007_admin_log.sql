-- Never edit this file once it is released: add the next number instead.
-- +goose Up
ALTER TABLE admin_log ADD COLUMN sale_id VARCHAR(64) NOT NULL DEFAULT ''; -- empty: it belongs to no single sale
UPDATE admin_log SET sale_id = target WHERE action LIKE 'sale.%' OR action IN ('stock.adjust', 'line.rebuild');
UPDATE admin_log SET sale_id = COALESCE((SELECT sale_id FROM orders WHERE orders.id = admin_log.target), '') WHERE action LIKE 'dead.%';
CREATE INDEX admin_log_sale ON admin_log (sale_id, id);
CREATE INDEX admin_log_target ON admin_log (target, id);
