-- What operators have changed while Sluice runs, newest version last.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS config_versions (
    version   BIGINT       NOT NULL PRIMARY KEY,
    at        BIGINT       NOT NULL,
    actor     VARCHAR(128) NOT NULL,
    source    VARCHAR(16)  NOT NULL, -- admin, revert, expiry, file, signal
    reason    VARCHAR(200) NOT NULL,
    digest    VARCHAR(64)  NOT NULL, -- of the hot keys in the writer's file
    overlay   TEXT         NOT NULL, -- the keys set by operators, as JSON
    effective TEXT         NOT NULL  -- every hot key as it counted at the writer, as JSON
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
