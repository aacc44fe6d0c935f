package worker

import (
	"sluice/queue"
	"sluice/store/redis"

	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Why workers do not drain, as metrics and readiness name it.
const (
	PausedByRedis    = "redis"    // it cannot be asked, or refuses
	PausedByDatabase = "database" // it cannot be asked, or refuses what no ticket has caused
	PausedByAll      = "tickets"  // every ticket fails alike
	PausedByBar      = "barred"   // this process must not touch the stores, or does not know whether it may
)

// pauseReasons lists them.
func pauseReasons() []string {
	return []string{PausedByRedis, PausedByDatabase, PausedByAll, PausedByBar}
}

// Pause is why the workers of a process do not drain.
type Pause struct {
	Reason string    // one of PausedByRedis, PausedByDatabase, PausedByAll, PausedByBar
	Cause  string    // what was said, one line of at most 300 bytes, without a ticket's data
	Sale   string    // of the batch that met it last
	Since  time.Time // by the consumer's clock
}

// Error describes the pause in one line.
func (p Pause) Error() string {
	return fmt.Sprintf("%s: %s (sale %s, since %s)", p.Reason, p.Cause, p.Sale, p.Since.UTC().Format(time.RFC3339))
}

// Causer is an error that can say what happened without the data of a ticket.
type Causer interface{ Cause() string }

// causeOf shortens what an error says to one line.
func causeOf(err error) string {
	text := err.Error()
	var causer Causer
	if errors.As(err, &causer) {
		text = causer.Cause()
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > mostCause {
		text = strings.ToValidUTF8(text[:mostCause], "")
	}
	return text
}

const (
	mostCause  = 300
	mostCauses = 16 // of one pause that are logged
)

// pauses remembers why draining pauses, from the first fault until something
// shows that it goes on. Safe for concurrent use.
type pauses struct {
	mu      sync.Mutex
	now     func() time.Time
	current *Pause
	logged  map[string]bool
}

func newPauses(now func() time.Time) *pauses { return &pauses{now: now, logged: map[string]bool{}} }

// begin notes a fault, and reports whether its cause is new within this pause.
func (p *pauses) begin(reason, sale string, err error) (pause Pause, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.now()
	if p.current != nil {
		since = p.current.Since
	}
	pause = Pause{Reason: reason, Cause: causeOf(err), Sale: sale, Since: since}
	p.current = &pause
	key := reason + "\n" + pause.Cause
	if p.logged[key] || len(p.logged) >= mostCauses {
		return pause, false
	}
	p.logged[key] = true
	return pause, true
}

// end ends the pause if it is one of those that is says, and returns it.
func (p *pauses) end(is func(Pause) bool) (Pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || !is(*p.current) {
		return Pause{}, false
	}
	ended := *p.current
	p.current = nil
	clear(p.logged)
	return ended, true
}

func (p *pauses) get() (Pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		return Pause{}, false
	}
	return *p.current, true
}

// Paused returns why the workers of this process do not drain; false while
// nothing keeps them from it. An operator's stop is no pause.
func (c *Consumer) Paused() (Pause, bool) { return c.pauses.get() }

// pausedBy returns 1 while the workers do not drain for this reason, else 0.
func (c *Consumer) pausedBy(reason string) float64 {
	if p, ok := c.pauses.get(); ok && p.Reason == reason {
		return 1
	}
	return 0
}

// fault puts what failed in doubt: the line, or the server of which nothing was heard. Where others
// go well, that is all. Otherwise draining pauses, and the pause is logged once for each cause
// until draining goes on.
func (c *Consumer) fault(reason string, err error, sale string) {
	defer c.runnable.add(sale)
	if errors.Is(err, queue.ErrOutdated) { // no store's fault: whoever claims next has the line's new epoch
		wait, _ := c.runnable.distrust(ofLine(sale))
		c.log.Info("batch goes back", "sale", sale, "for", wait, "error", err)
		return
	}
	place, alone := c.blame(reason, err, sale)
	_, fresh := c.runnable.distrust(place)
	if alone {
		if begun, _ := c.failing.Note(place, err); begun {
			c.log.Warn("set apart until it goes well again: the others go on",
				"what", place, "sale", sale, "reason", reason, "cause", causeOf(err))
		}
		return
	}
	c.pause(reason, err, sale, fresh)
}

// pause says that nothing is drained; fresh: for a time that has just begun.
func (c *Consumer) pause(reason string, err error, sale string, fresh bool) {
	if fresh {
		c.metrics.pauses.WithLabelValues(reason).Inc()
	}
	if p, news := c.pauses.begin(reason, sale, err); news {
		c.log.Warn("draining pauses, and is tried again and again", "reason", reason, "cause", p.Cause, "sale", p.Sale)
	}
}

// ErrOfLine is wrapped by errors of a Handler that are of the batch's line alone, whatever the others do.
var ErrOfLine = errors.New("this line cannot be served")

// blame names what a fault is of, and reports whether that alone fails.
func (c *Consumer) blame(reason string, err error, sale string) (place string, alone bool) {
	if reason == PausedByRedis && redis.Unavailable(err) {
		server := ofServer(c.lines.Server(sale))
		return server, c.reached.alone(server)
	}
	line := ofLine(sale)
	alone = c.drained.alone(line)
	return line, alone || reason == PausedByRedis || errors.Is(err, ErrOfLine)
}

// answered notes that the server of a line serves.
func (c *Consumer) answered(sale string) {
	server := ofServer(c.lines.Server(sale))
	c.reached.good(server)
	c.restore(server)
}

// went notes that a batch of a line went through.
func (c *Consumer) went(sale string) {
	line := ofLine(sale)
	c.drained.good(line)
	c.restore(line)
}

// restore ends the doubt about a place.
func (c *Consumer) restore(place string) {
	c.runnable.trust(place)
	if _, ended := c.failing.Note(place, nil); ended {
		c.log.Info("what was set apart goes well again", "what", place)
	}
}

// barred puts lines that have work off while this process must not drain, and reports whether it must not. A pause that
// stands already says more: a database that is away also keeps its schema from being read.
func (c *Consumer) barred(sales ...string) bool {
	err := c.tuning.barred()
	if err == nil {
		return false
	}
	_, fresh := c.backoff.begin()
	if _, paused := c.pauses.get(); !paused {
		c.pause(PausedByBar, err, sales[0], fresh)
	}
	for _, sale := range sales {
		c.runnable.add(sale)
	}
	return true
}

// ofBar picks the pause that ends when this process may drain.
func ofBar(p Pause) bool { return p.Reason == PausedByBar }

// resume says that a pause is over, if it is one that is picks.
func (c *Consumer) resume(is func(Pause) bool) {
	if p, ok := c.pauses.end(is); ok {
		c.runnable.trustAll()
		c.log.Info("draining goes on", "reason", p.Reason, "cause", p.Cause, "paused_for", c.now().Sub(p.Since))
	}
}

func anyPause(Pause) bool { return true }

// ofRedis picks the pause that ends when Redis answers.
func ofRedis(p Pause) bool { return p.Reason == PausedByRedis }

// inSale picks the pause of a sale. It ends when its line has nothing that could fail.
func inSale(sale string) func(Pause) bool { return func(p Pause) bool { return p.Sale == sale } }
