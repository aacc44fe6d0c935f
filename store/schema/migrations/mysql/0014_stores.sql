-- Never edit this file once it is released: add the next number instead.
-- DDL commits by itself here, so each statement can be repeated after a crash half way.
-- +goose NO TRANSACTION
-- +goose Up

-- Several stores of delayed messages, and what was lost with them.
-- store: name of the Redis that keeps its messages; empty: the default.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'store') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN store VARCHAR(32) NOT NULL DEFAULT ''''');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
-- unfinished: messages in all of its subscriptions, at the last look.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'unfinished') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN unfinished BIGINT NOT NULL DEFAULT 0');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
-- mark_era: raised by each loss and each move: marks of other eras do not count.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'mark_era') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN mark_era BIGINT NOT NULL DEFAULT 0');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
-- mark_added: messages that its store has said it has taken, in this era.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'mark_added') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN mark_added BIGINT NOT NULL DEFAULT 0');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
-- mark_before: mark_added as it was when the era before ended with a loss.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'mark_before') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN mark_before BIGINT NOT NULL DEFAULT 0');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
-- lost: messages that its store no longer knew, in all.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'lost') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN lost BIGINT NOT NULL DEFAULT 0');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
-- lost_at: when that was last found.
SET @change = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'delay_topics' AND column_name = 'lost_at') > 0, 'DO 0',
    'ALTER TABLE delay_topics ADD COLUMN lost_at BIGINT NOT NULL DEFAULT 0');
PREPARE change_topics FROM @change;
EXECUTE change_topics;
DEALLOCATE PREPARE change_topics;
