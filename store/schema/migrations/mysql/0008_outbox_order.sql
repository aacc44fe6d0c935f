-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +sluice note writes the tables outbox and orders anew: it takes time and as much free disk again
-- +goose NO TRANSACTION
-- +goose Up

-- id: the order in which news was queued, is told and lies on disk; keyed by random order ids, each row was on a page of its own.
-- next_at 0: due as soon as its turn comes. lease: the relay's token until leased_until. Both change without touching an index.
-- What was leased while this ran is due again when that lease would have ended.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'outbox' AND column_name = 'leased_until') > 0, 'DO 0',
    'ALTER TABLE outbox DROP PRIMARY KEY, DROP COLUMN lease, DROP KEY outbox_due,
        ADD COLUMN id BIGINT NOT NULL AUTO_INCREMENT FIRST, ADD PRIMARY KEY (id),
        ADD COLUMN lease BIGINT NOT NULL DEFAULT 0, ADD COLUMN leased_until BIGINT NOT NULL DEFAULT 0,
        ALTER COLUMN next_at SET DEFAULT 0,
        ADD UNIQUE KEY outbox_news (order_id, event, channel), ADD KEY outbox_due (state, channel, next_at, id)');
PREPARE change_outbox FROM @change;
EXECUTE change_outbox;
DEALLOCATE PREPARE change_outbox;

-- row_no: a row lies where the orders before it lie, not on a random page, and every index names it in 8 bytes instead of 36.
-- Units to be returned are listed by seq, so that the many that have none are added at one place.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'row_no') > 0, 'DO 0',
    'ALTER TABLE orders DROP PRIMARY KEY, ADD COLUMN row_no BIGINT NOT NULL AUTO_INCREMENT FIRST, ADD PRIMARY KEY (row_no), ADD UNIQUE KEY orders_id (id),
        DROP KEY orders_unreleased, ADD KEY orders_unreleased (released, sale_id, seq)');
PREPARE change_orders FROM @change;
EXECUTE change_orders;
DEALLOCATE PREPARE change_orders;
