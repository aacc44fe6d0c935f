-- Never edit this file once it is released: add the next number instead.
-- +goose Up
CREATE TABLE sales (
    id             VARCHAR(64)  NOT NULL PRIMARY KEY,
    title          VARCHAR(200) NOT NULL,
    sku            VARCHAR(64)  NOT NULL,
    price_cents    BIGINT       NOT NULL,
    currency       VARCHAR(3)   NOT NULL,
    per_user_limit INTEGER      NOT NULL,
    cap            INTEGER      NOT NULL,
    state          VARCHAR(16)  NOT NULL, -- draft, open, paused, closed
    starts_at      BIGINT       NOT NULL,
    ends_at        BIGINT       NOT NULL,
    epoch          BIGINT       NOT NULL DEFAULT 0,
    version        BIGINT       NOT NULL DEFAULT 1,
    rebuild_until  BIGINT       NOT NULL DEFAULT 0,
    created_at     BIGINT       NOT NULL,
    updated_at     BIGINT       NOT NULL
);

-- One hot row per sale: free space on its page keeps updates off the indexes,
-- and early vacuum keeps its dead versions few.
CREATE TABLE stock (
    sale_id   VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES sales (id),
    total     BIGINT      NOT NULL,
    available BIGINT      NOT NULL,
    CONSTRAINT stock_bounds CHECK (available >= 0 AND available <= total)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE stock_moves (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sale_id    VARCHAR(64)  NOT NULL,
    delta      BIGINT       NOT NULL,
    reason     VARCHAR(200) NOT NULL,
    actor      VARCHAR(128) NOT NULL,
    created_at BIGINT       NOT NULL
);
CREATE INDEX stock_moves_sale ON stock_moves (sale_id, id);

CREATE TABLE orders (
    id           VARCHAR(36)  NOT NULL PRIMARY KEY,
    sale_id      VARCHAR(64)  NOT NULL,
    user_id      VARCHAR(128) NOT NULL,
    slot         INTEGER      NULL, -- null once cancelled or expired: the user may order again
    quantity     INTEGER      NOT NULL,
    price_cents  BIGINT       NOT NULL,
    currency     VARCHAR(3)   NOT NULL,
    status       VARCHAR(16)  NOT NULL, -- confirmed, paid, failed, cancelled, expired
    reason       VARCHAR(200) NOT NULL DEFAULT '',
    email        VARCHAR(254) NOT NULL DEFAULT '',
    phone        VARCHAR(20)  NOT NULL DEFAULT '',
    seq          BIGINT       NOT NULL,
    epoch        BIGINT       NOT NULL,
    batch_id     VARCHAR(48)  NOT NULL,
    fingerprint  VARCHAR(16)  NOT NULL DEFAULT '',
    position     BIGINT       NOT NULL DEFAULT 0, -- place in line and wait as first answered
    eta_seconds  BIGINT       NOT NULL DEFAULT 0,
    released     SMALLINT     NOT NULL DEFAULT 1, -- 0: its units must still be returned to the line
    admitted_at  BIGINT       NOT NULL,
    confirmed_at BIGINT       NOT NULL DEFAULT 0,
    ended_at     BIGINT       NOT NULL DEFAULT 0,
    CONSTRAINT orders_holder UNIQUE (sale_id, user_id, slot)
) WITH (fillfactor = 85);
CREATE INDEX orders_user ON orders (user_id, admitted_at, id);
CREATE INDEX orders_sale ON orders (sale_id, admitted_at, id);
CREATE INDEX orders_unreleased ON orders (released, sale_id) WHERE released = 0;

CREATE TABLE outbox (
    order_id     VARCHAR(36)  NOT NULL,
    event        VARCHAR(32)  NOT NULL,
    channel      VARCHAR(16)  NOT NULL,
    sale_id      VARCHAR(64)  NOT NULL,
    user_id      VARCHAR(128) NOT NULL,
    state        SMALLINT     NOT NULL DEFAULT 0, -- 0 pending, 1 delivered, 2 dead
    attempts     INTEGER      NOT NULL DEFAULT 0,
    next_at      BIGINT       NOT NULL,
    lease        VARCHAR(48)  NOT NULL DEFAULT '',
    last_error   VARCHAR(200) NOT NULL DEFAULT '',
    created_at   BIGINT       NOT NULL,
    delivered_at BIGINT       NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, event, channel)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX outbox_due ON outbox (state, channel, next_at);

CREATE TABLE admin_log (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           BIGINT       NOT NULL,
    actor        VARCHAR(128) NOT NULL,
    action       VARCHAR(64)  NOT NULL,
    target       VARCHAR(128) NOT NULL,
    reason       VARCHAR(200) NOT NULL DEFAULT '',
    before_value TEXT         NOT NULL,
    after_value  TEXT         NOT NULL
);
