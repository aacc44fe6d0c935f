-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS sales (
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
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- One hot row per sale.
CREATE TABLE IF NOT EXISTS stock (
    sale_id   VARCHAR(64) NOT NULL PRIMARY KEY,
    total     BIGINT      NOT NULL,
    available BIGINT      NOT NULL,
    CONSTRAINT stock_sale FOREIGN KEY (sale_id) REFERENCES sales (id),
    CONSTRAINT stock_bounds CHECK (available >= 0 AND available <= total)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS stock_moves (
    id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    sale_id    VARCHAR(64)  NOT NULL,
    delta      BIGINT       NOT NULL,
    reason     VARCHAR(200) NOT NULL,
    actor      VARCHAR(128) NOT NULL,
    created_at BIGINT       NOT NULL,
    KEY stock_moves_sale (sale_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS orders (
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
    UNIQUE KEY orders_holder (sale_id, user_id, slot),
    KEY orders_user (user_id, admitted_at, id),
    KEY orders_sale (sale_id, admitted_at, id),
    KEY orders_unreleased (released, sale_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS outbox (
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
    PRIMARY KEY (order_id, event, channel),
    KEY outbox_due (state, channel, next_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS admin_log (
    id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at           BIGINT       NOT NULL,
    actor        VARCHAR(128) NOT NULL,
    action       VARCHAR(64)  NOT NULL,
    target       VARCHAR(128) NOT NULL,
    reason       VARCHAR(200) NOT NULL DEFAULT '',
    before_value TEXT         NOT NULL,
    after_value  TEXT         NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
