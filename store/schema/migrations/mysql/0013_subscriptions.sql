-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- A topic's receivers beside its own URL, each with a copy of its messages.
CREATE TABLE IF NOT EXISTS delay_subscriptions (
    name          VARCHAR(64)   NOT NULL PRIMARY KEY,
    topic         VARCHAR(64)   NOT NULL,
    kind          VARCHAR(8)    NOT NULL, -- push, pull
    url           VARCHAR(2000) NOT NULL DEFAULT '',
    method        VARCHAR(8)    NOT NULL DEFAULT '', -- POST, PUT, PATCH, GET
    timeout_ms    BIGINT        NOT NULL,
    lease_ms      BIGINT        NOT NULL, -- pull: how long a received message is held
    retries       INTEGER       NOT NULL,
    retry_unit_ms BIGINT        NOT NULL,
    alert         VARCHAR(254)  NOT NULL DEFAULT '',
    owner         VARCHAR(128)  NOT NULL DEFAULT '',
    enabled       SMALLINT      NOT NULL, -- 0: its messages wait
    events        VARCHAR(1000) NOT NULL DEFAULT '', -- the only ones it takes, joined by commas
    sales         VARCHAR(1000) NOT NULL DEFAULT '', -- patterns of the only ones it takes, joined by commas
    secret        VARCHAR(128)  NOT NULL DEFAULT '',
    old_secret    VARCHAR(128)  NOT NULL DEFAULT '', -- signs too until old_until
    old_until     BIGINT        NOT NULL DEFAULT 0,
    created_at    BIGINT        NOT NULL,
    updated_at    BIGINT        NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- version: raised by each change of the topic or of one of its subscriptions.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'version') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN version BIGINT NOT NULL DEFAULT 1');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
