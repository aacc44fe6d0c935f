package alert

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

// alert is one message to operators, sent one way.
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

// Letter is one alert as an e-mail. ID is the same at every try.
type Letter struct{ ID, To, Subject, Text string }

// Mail sends an alert to an address.
type Mail func(ctx context.Context, l Letter) notify.Result

// Post sends the JSON of an alert, with an id that is the same at every try.
type Post func(ctx context.Context, id string, body []byte) notify.Result

// sending sends one alert one way.
type sending func(ctx context.Context, a alert) notify.Result

// mailTo sends alerts to an e-mail address.
func mailTo(mail Mail, address string) sending {
	return func(ctx context.Context, a alert) notify.Result {
		return mail(ctx, Letter{ID: fmt.Sprintf("alert.%d", a.at.UnixNano()), To: address, Subject: a.subject(),
			Text: a.text()})
	}
}

// postTo sends alerts to a webhook.
func postTo(post Post) sending {
	return func(ctx context.Context, a alert) notify.Result {
		body, err := json.Marshal(map[string]any{"type": "alert", "timestamp": a.at.UTC().Format(time.RFC3339),
			"data": map[string]any{"summary": a.subject(), "causes": a.causes}})
		if err != nil {
			return notify.Permanent("the alert could not be written as JSON")
		}
		return post(ctx, fmt.Sprintf("alert:%d", a.at.UnixNano()), body)
	}
}

// way is one way to operators, such as one address, with the causes it has yet to send.
type way struct {
	name    string
	id      string // in the journal
	send    sending
	journal *journal // nil: a restart finds nothing
	// single marks the address of one topic, which may not exist. Other ways send the same causes to operators.
	single bool

	// unsent is the alert whose sending failed, nil: none. It is sent again unchanged, with the same id, so that a
	// receiver can drop a repeat.
	unsent *alert

	mu     sync.Mutex
	causes map[string]int64
	next   time.Time // nothing is sent before
}

func (w *way) count(cause string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, counted := w.causes[cause]; !counted && len(w.causes) >= maxCauses {
		cause = "other causes"
	}
	w.causes[cause] += n
	w.journal.add(w.id, cause, n)
}

// due returns the alert to send now: the one that failed before, else the gathered causes. It returns nil when there is
// none, or before w.next.
func (w *way) due(now time.Time) *alert {
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

// retry remembers a failed alert, to be sent again at next.
func (w *way) retry(a *alert, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsent, w.next = a, next
}

// finish subtracts the counts of an alert that was sent; more may have gathered meanwhile.
func (w *way) finish(a *alert, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsent, w.next = nil, next
	for cause, n := range a.causes {
		w.journal.add(w.id, cause, -n)
		if w.causes[cause] -= n; w.causes[cause] <= 0 {
			delete(w.causes, cause)
		}
	}
}
