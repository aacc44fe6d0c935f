-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- How often the stock of a sale has changed. The line remembers the newest change it knows of: a database that has fewer came back
-- without its last commits.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'stock' AND column_name = 'changes') > 0, 'DO 0',
    'ALTER TABLE stock ADD COLUMN changes BIGINT NOT NULL DEFAULT 0');
PREPARE change_stock FROM @change;
EXECUTE change_stock;
DEALLOCATE PREPARE change_stock;

-- Each loading of a sale's line. base: sequence of the newest ticket when it was loaded, those of this era come later. seq: newest
-- sequence that anybody was answered before, which may be learnt later. lost: tickets of earlier eras that were in no store by then.
-- restored, refused: orders that were put back into the ledger from the line's records, and those that could not be.
-- server: the Redis that held the line.
CREATE TABLE IF NOT EXISTS eras (
    sale_id  VARCHAR(64) NOT NULL,
    epoch    BIGINT      NOT NULL,
    base     BIGINT      NOT NULL,
    seq      BIGINT      NOT NULL,
    lost     BIGINT      NOT NULL DEFAULT 0,
    restored BIGINT      NOT NULL DEFAULT 0,
    refused  BIGINT      NOT NULL DEFAULT 0,
    cause    VARCHAR(32) NOT NULL,
    server   VARCHAR(64) NOT NULL,
    began_at BIGINT      NOT NULL,
    PRIMARY KEY (sale_id, epoch)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
