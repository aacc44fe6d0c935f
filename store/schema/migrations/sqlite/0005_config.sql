-- What operators have changed while Sluice runs, newest version last.
-- +goose Up
CREATE TABLE config_versions (
    version   INTEGER NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL,
    actor     TEXT NOT NULL CHECK (length(actor) <= 128),
    source    TEXT NOT NULL CHECK (length(source) <= 16), -- admin, revert, expiry, file, signal
    reason    TEXT NOT NULL CHECK (length(reason) <= 200),
    digest    TEXT NOT NULL CHECK (length(digest) <= 64), -- of the hot keys in the writer's file
    overlay   TEXT NOT NULL, -- the keys set by operators, as JSON
    effective TEXT NOT NULL  -- every hot key as it counted at the writer, as JSON
) STRICT;
