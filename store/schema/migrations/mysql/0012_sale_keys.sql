-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- Signs the ids of a sale's orders. Empty: the sale is from before ids were signed, and keeps ids that are not.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'sales' AND column_name = 'id_key') > 0, 'DO 0',
    'ALTER TABLE sales ADD COLUMN id_key VARCHAR(64) NOT NULL DEFAULT ''''');
PREPARE change_sales FROM @change;
EXECUTE change_sales;
DEALLOCATE PREPARE change_sales;
