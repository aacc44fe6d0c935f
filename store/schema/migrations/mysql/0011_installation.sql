-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- One row: who this database belongs to, and which schema versions its processes must know.
CREATE TABLE IF NOT EXISTS installation (
    only_one      SMALLINT    NOT NULL PRIMARY KEY,
    id            VARCHAR(36) NOT NULL, -- the same in Redis, or the two stores do not belong together
    schema_newest BIGINT      NOT NULL DEFAULT 0, -- the newest version that is applied, or is about to be
    schema_least  BIGINT      NOT NULL DEFAULT 0, -- a process must know this version
    created_at    BIGINT      NOT NULL,
    CONSTRAINT installation_one CHECK (only_one = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The processes that run, and which schema versions each works with.
CREATE TABLE IF NOT EXISTS processes (
    name          VARCHAR(128) NOT NULL PRIMARY KEY,
    version       VARCHAR(64)  NOT NULL,
    schema_oldest BIGINT       NOT NULL,
    schema_newest BIGINT       NOT NULL,
    seen_at       BIGINT       NOT NULL -- by the database's clock
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
