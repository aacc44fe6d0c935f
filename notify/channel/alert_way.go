package channel

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/notify"
)

// maxCauses bounds how many causes one alert names; the rest is counted together.
const maxCauses = 20

// alert is what one way out sends at once.
type alert struct {
	at     time.Time // also its id
	causes map[string]int64
}

func (a alert) total() (n int64) {
	for _, count := range a.causes {
		n += count
	}
	return n
}

func (a alert) subject() string { return fmt.Sprintf("Sluice: %d given up", a.total()) }

// text lists the causes with their counts.
func (a alert) text() string {
	var text strings.Builder
	for _, cause := range slices.Sorted(maps.Keys(a.causes)) {
		fmt.Fprintf(&text, "%6d  %s\n", a.causes[cause], cause)
	}
	text.WriteString("\nList them with: sluice notify list --state dead, sluice topic dead list TOPIC\n")
	return text.String()
}

// sendAlert sends one alert one way.
type sendAlert func(ctx context.Context, a alert) notify.Result

// mailTo sends alerts to an e-mail address.
func mailTo(mailer *Mailer, address string) sendAlert {
	return func(ctx context.Context, a alert) notify.Result {
		return mailer.Send(ctx, Mail{ID: fmt.Sprintf("alert.%d", a.at.UnixNano()), To: []string{address},
			Subject: a.subject(), Text: a.text()})
	}
}

// postTo sends alerts to a webhook. Alerts are rare, so no connection is kept for the next.
func postTo(hook *webhookTransport) sendAlert {
	return func(ctx context.Context, a alert) notify.Result {
		defer hook.close()
		body, err := json.Marshal(map[string]any{"type": "alert", "timestamp": a.at.UTC().Format(time.RFC3339),
			"data": map[string]any{"summary": a.subject(), "causes": a.causes}})
		if err != nil {
			return notify.Permanent("the alert could not be written as JSON")
		}
		return hook.post(ctx, fmt.Sprintf("alert:%d", a.at.UnixNano()), body)
	}
}

// alertWay is one way out with what it has yet to send.
type alertWay struct {
	name string
	send sendAlert
	// single says that this is one address, which may not exist. Operators hear of the same causes by their own ways.
	single bool

	// unsent is the alert that failed, nil: none. It is repeated as it was, under its id. A receiver that has got it
	// after all can tell.
	unsent *alert

	mu     sync.Mutex
	causes map[string]int64
	next   time.Time // nothing is sent before
}

func (w *alertWay) count(cause string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, counted := w.causes[cause]; !counted && len(w.causes) >= maxCauses {
		cause = "other causes"
	}
	w.causes[cause] += n
}

// due returns what to send now: what failed before, else what has gathered. It is nil when there is nothing or it is
// not time.
func (w *alertWay) due(now time.Time) *alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case now.Before(w.next):
		return nil
	case w.unsent != nil:
		return w.unsent
	case len(w.causes) == 0:
		return nil
	}
	return &alert{now, maps.Clone(w.causes)}
}

// retry keeps an alert that failed for the next try.
func (w *alertWay) retry(a *alert, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsent, w.next = a, next
}

// finish subtracts what an alert said; more may have gathered since.
func (w *alertWay) finish(a *alert, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsent, w.next = nil, next
	for cause, n := range a.causes {
		if w.causes[cause] -= n; w.causes[cause] <= 0 {
			delete(w.causes, cause)
		}
	}
}
