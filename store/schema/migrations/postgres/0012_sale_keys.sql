-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- Signs the ids of a sale's orders. Empty: the sale is from before ids were signed, and keeps ids that are not.
ALTER TABLE sales ADD COLUMN id_key VARCHAR(64) NOT NULL DEFAULT '';
