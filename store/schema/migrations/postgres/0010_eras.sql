-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- How often the stock of a sale has changed. The line remembers the newest change it knows of: a database that has fewer came back
-- without its last commits.
ALTER TABLE stock ADD COLUMN changes BIGINT NOT NULL DEFAULT 0;

-- Each loading of a sale's line.
CREATE TABLE eras (
    sale_id  VARCHAR(64) NOT NULL,
    epoch    BIGINT NOT NULL,
    base     BIGINT NOT NULL, -- sequence of the newest ticket when it was loaded: those of this era come later
    seq      BIGINT NOT NULL, -- newest sequence that anybody was answered before; may be learnt later
    lost     BIGINT NOT NULL DEFAULT 0, -- tickets of earlier eras that were in no store by then
    restored BIGINT NOT NULL DEFAULT 0, -- orders that were put back into the ledger, from the line's records
    refused  BIGINT NOT NULL DEFAULT 0, -- orders that could not be
    cause    VARCHAR(32) NOT NULL,
    server   VARCHAR(64) NOT NULL, -- the Redis that held the line
    began_at BIGINT NOT NULL,
    PRIMARY KEY (sale_id, epoch)
);
