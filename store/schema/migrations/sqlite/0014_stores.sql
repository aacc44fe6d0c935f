-- Never edit this file once it is released: add the next number instead.
-- +goose Up

-- Several stores of delayed messages, and what was lost with them.
-- store: name of the Redis that keeps its messages; empty: the default.
ALTER TABLE delay_topics ADD COLUMN store TEXT NOT NULL DEFAULT '' CHECK (length(store) <= 32);
-- unfinished: messages in all of its subscriptions, at the last look.
ALTER TABLE delay_topics ADD COLUMN unfinished INTEGER NOT NULL DEFAULT 0;
-- mark_era: raised by each loss and each move: marks of other eras do not count.
ALTER TABLE delay_topics ADD COLUMN mark_era INTEGER NOT NULL DEFAULT 0;
-- mark_added: messages that its store has said it has taken, in this era.
ALTER TABLE delay_topics ADD COLUMN mark_added INTEGER NOT NULL DEFAULT 0;
-- mark_before: mark_added as it was when the era before ended with a loss.
ALTER TABLE delay_topics ADD COLUMN mark_before INTEGER NOT NULL DEFAULT 0;
-- lost: messages that its store no longer knew, in all.
ALTER TABLE delay_topics ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
-- lost_at: when that was last found.
ALTER TABLE delay_topics ADD COLUMN lost_at INTEGER NOT NULL DEFAULT 0;
