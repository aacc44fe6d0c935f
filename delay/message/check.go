package message

import (
	"encoding/json"
	"fmt"
	"time"

	"sluice/delay"
	"sluice/internal/invalid"
)

// Check returns an invalid.Error that names every field of the messages that breaks a rule.
func (s *Store) Check(messages []delay.New) error { return check(messages, s.cfg, s.now()) }

func check(messages []delay.New, cfg delay.Config, now time.Time) error {
	if len(messages) == 0 || len(messages) > delay.MaxBatch {
		return invalid.Error{{Field: "messages", Detail: fmt.Sprintf("must be 1 to %d", delay.MaxBatch)}}
	}
	var bad invalid.Error
	seen := make(map[string]bool, len(messages))
	for i, m := range messages {
		check := func(ok bool, field, detail string) {
			if !ok && len(bad) < 20 {
				bad = append(bad, invalid.Field{Field: fmt.Sprintf("messages[%d].%s", i, field), Detail: detail})
			}
		}
		check(invalid.Name(m.ID, 128, "-_.:"), "id",
			"must be 1 to 128 letters, digits, '-', '_', '.' or ':', starting with a letter or digit")
		check(!seen[m.ID], "id", "must not come twice in one call")
		check(m.Delay >= 0 && m.Delay <= cfg.MaxDelay, "delay_ms",
			fmt.Sprintf("must be between 0 and %d (delay.max_delay)", cfg.MaxDelay.Milliseconds()))
		check(m.At.IsZero() || m.At.Unix() > 0 && m.At.Before(now.Add(cfg.MaxDelay)), "at",
			"must not be further away than delay.max_delay")
		check(m.At.IsZero() || m.Delay == 0, "at", "must not be given with delay_ms")
		check(m.Event == "" || invalid.Name(m.Event, 64, "-_."), "event",
			"must be at most 64 letters, digits, '-', '_' or '.', starting with a letter or digit")
		check(m.Sale == "" || invalid.Name(m.Sale, 64, "-_"), "sale", "must be the id of a sale")
		check(len(m.Body) <= delay.MaxBody, "body", fmt.Sprintf("must have at most %d bytes", delay.MaxBody))
		check(len(m.Body) > 0 && json.Valid(m.Body), "body", "must be JSON")
		seen[m.ID] = true
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}
