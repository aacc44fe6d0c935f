-- Never edit this file once it is released: add the next number instead.
-- +goose Up
CREATE TABLE delay_topics (
    name          VARCHAR(64)   NOT NULL PRIMARY KEY,
    url           VARCHAR(2000) NOT NULL,
    method        VARCHAR(8)    NOT NULL, -- POST, PUT, PATCH
    delay_ms      BIGINT        NOT NULL,
    timeout_ms    BIGINT        NOT NULL,
    retries       INTEGER       NOT NULL,
    retry_unit_ms BIGINT        NOT NULL,
    alert         VARCHAR(254)  NOT NULL DEFAULT '',
    owner         VARCHAR(128)  NOT NULL DEFAULT '',
    enabled       SMALLINT      NOT NULL, -- 0: its messages wait
    events        VARCHAR(1000) NOT NULL DEFAULT '', -- order events, joined by commas
    secret        VARCHAR(128)  NOT NULL,
    old_secret    VARCHAR(128)  NOT NULL DEFAULT '', -- signs too until old_until
    old_until     BIGINT        NOT NULL DEFAULT 0,
    created_at    BIGINT        NOT NULL,
    updated_at    BIGINT        NOT NULL
);
