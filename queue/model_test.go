package queue_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"sluice/queue"
)

// model is a line as it should be: the same promises, told with plain lists.
type model struct {
	epoch, version, total, stock, seq, claimed, served int64
	limit, cap                                         int
	tickets                                            map[string]*entry
	wait, isolated                                     []string // next to be claimed first
	batches                                            map[string]*held
	retry                                              map[string]bool
	attempts                                           map[string]int
	dead                                               map[string]bool
}

type entry struct {
	queue.Ticket
	known   bool // the line still has its record
	ordered bool // a rebuild found it in the ledger
	held    bool // it was cancelled, and holds its units until that is written down
}

type held struct {
	queue.Batch
	ids      []string
	unleased bool // its lease has run out or is missing
}

func newModel(s queue.Settings) *model {
	return &model{epoch: s.Epoch, version: s.Version, total: s.Total, stock: s.Total, limit: s.Limit, cap: s.Cap,
		tickets: map[string]*entry{}, batches: map[string]*held{}, retry: map[string]bool{},
		attempts: map[string]int{}, dead: map[string]bool{}}
}

func (m *model) holding(user string) (units int, slot int, newest string) {
	used, last := map[int]bool{}, -1
	for _, e := range m.live() {
		if e.User == user {
			units += e.Units
			used[e.Slot] = true
			if int(e.Seq) > last {
				last, newest = int(e.Seq), e.ID
			}
		}
	}
	for slot = 1; used[slot]; slot++ {
	}
	return units, slot, newest
}

// live is every ticket that holds units.
func (m *model) live() []*entry {
	var live []*entry
	for _, e := range m.tickets {
		if strings.ContainsRune("qcp", rune(e.State)) || e.held {
			live = append(live, e)
		}
	}
	slices.SortFunc(live, func(a, b *entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return live
}

// admit is what the line must answer: a state, a replay or a refusal.
func (m *model) admit(r queue.Request) (err error, replayed bool) {
	if e, ok := m.tickets[r.ID]; ok && e.known {
		if e.User == r.User && e.Fingerprint == r.Fingerprint {
			return nil, true
		}
		return queue.ErrMismatch, false
	}
	units, slot, newest := m.holding(r.User)
	switch {
	case units+r.Units > m.limit:
		return queue.LimitError{OrderID: newest}, false
	case m.bounded() >= m.cap:
		return queue.ErrFull, false
	case int64(r.Units) > m.stock:
		return queue.ErrSoldOut, false
	}
	m.seq++
	m.stock -= int64(r.Units)
	m.tickets[r.ID] = &entry{known: true, Ticket: queue.Ticket{ID: r.ID, User: r.User, State: queue.Queued, Seq: m.seq,
		Units: r.Units,
		Slot:  slot, Fingerprint: r.Fingerprint, Position: m.seq - m.claimed}}
	m.wait = append(m.wait, r.ID)
	return nil, false
}

// listed are the tickets that are anywhere in the line.
func (m *model) listed() map[string]bool {
	listed := maps.Clone(m.retry)
	for _, batch := range m.batches {
		for _, id := range batch.ids {
			listed[id] = true
		}
	}
	for _, id := range slices.Concat(m.wait, m.isolated) {
		listed[id] = true
	}
	return listed
}

// bounded counts what the cap bounds.
func (m *model) bounded() (n int) {
	for id := range m.listed() {
		if m.tickets[id].State == queue.Queued {
			n++
		}
	}
	return n
}

// claim returns what must be claimed.
func (m *model) claim(id string, n int) (want []string, solo bool) {
	if len(m.isolated) > 0 {
		want, m.isolated, solo = m.isolated[:1:1], m.isolated[1:], true
	} else {
		n = min(n, len(m.wait))
		want, m.wait = m.wait[:n:n], m.wait[n:]
	}
	for _, one := range want {
		m.claimed = max(m.claimed, m.tickets[one].Seq)
	}
	if len(want) > 0 {
		m.batches[id] = &held{ids: want}
	}
	return want, solo
}

func (m *model) end(id string, state queue.State) {
	e := m.tickets[id]
	if state != queue.Confirmed {
		m.stock += int64(e.Units)
	}
	e.State = state
}

func (m *model) settle(id string, outcomes []queue.Outcome) {
	batch := m.batches[id]
	delete(m.batches, id)
	var back []string
	for _, o := range outcomes {
		queued := m.tickets[o.ID].State == queue.Queued
		switch o.Op {
		case queue.OpBack:
			back = append(back, o.ID)
			continue
		case queue.OpRetry:
			m.retry[o.ID] = true
			m.attempts[o.ID]++
			continue
		case queue.OpConfirm:
			if queued {
				m.end(o.ID, queue.Confirmed)
			}
		case queue.OpFail, queue.OpDead:
			if queued {
				m.end(o.ID, queue.Failed)
			}
			if o.Op == queue.OpDead {
				m.dead[o.ID] = true
			}
		}
		m.letGo(o.ID)
		m.served++
		delete(m.attempts, o.ID)
	}
	if batch.Solo {
		m.isolated = append(back, m.isolated...)
	} else {
		m.wait = append(back, m.wait...)
	}
}

// cancel is what the line must answer to the owner of a ticket.
func (m *model) cancel(id string) error {
	e, ok := m.tickets[id]
	switch {
	case !ok || !e.known:
		return queue.ErrUnknown
	case e.State != queue.Queued:
		return queue.ErrNotWaiting
	}
	for _, batch := range m.batches {
		if slices.Contains(batch.ids, id) {
			return queue.ErrBusy
		}
	}
	if m.retry[id] && e.Seq <= m.claimed {
		delete(m.retry, id)
		m.wait = append([]string{id}, m.wait...)
	}
	if e.held = e.Seq <= m.claimed; e.held {
		e.State = queue.Cancelled
		return nil
	}
	m.end(id, queue.Cancelled)
	return nil
}

// letGo returns what a cancelled ticket still holds.
func (m *model) letGo(id string) {
	if e := m.tickets[id]; e.held {
		e.held = false
		m.stock += int64(e.Units)
	}
}

// requeue is what the line must answer to an operator who puts a letter back.
func (m *model) requeue(id string) error {
	e, ok := m.tickets[id]
	switch {
	case !ok || !m.dead[id]:
		return queue.ErrNotDead
	case strings.ContainsRune("qcp", rune(e.State)):
		return queue.ErrNotDead // a rebuild found its order in the ledger
	case e.State != queue.Failed:
		return queue.ErrUnreadable // it was cancelled: only its end can be forgotten
	case int64(e.Units) > m.stock:
		return queue.ErrSoldOut
	}
	units, slot, _ := m.holding(e.User)
	if units+e.Units > m.limit {
		return queue.ErrHeld
	}
	delete(m.dead, id)
	delete(m.attempts, id)
	m.seq++ // its mark
	m.stock -= int64(e.Units)
	e.State, e.Slot, e.Mark = queue.Queued, slot, m.seq
	m.isolated = append(m.isolated, id)
	return nil
}

// requeuedOf reports whether a letter of the user came back.
func (m *model) requeuedOf(user string) bool {
	for _, e := range m.tickets {
		if e.User == user && e.Mark > 0 {
			return true
		}
	}
	return false
}

// reclaim takes over a batch whose lease is gone.
func (m *model) reclaim() {
	for id, batch := range m.batches {
		if !batch.unleased {
			continue
		}
		m.isolated = append(m.isolated, batch.ids...)
		for _, one := range batch.ids {
			m.attempts[one]++
		}
		delete(m.batches, id)
	}
}

// begin closes the line: what workers hold and what waits for a retry becomes
// isolated. The order among batches is Redis' own, so it is read from there.
func (m *model) begin(rt *rapid.T, isolated []string) {
	want := slices.Clone(m.isolated)
	for _, batch := range m.batches {
		want = append(want, batch.ids...)
	}
	want = slices.AppendSeq(want, maps.Keys(m.retry))
	if !slices.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(isolated))) {
		rt.Fatalf("isolated after the gate: %v, want %v", isolated, want)
	}
	m.isolated, m.batches, m.retry = isolated, map[string]*held{}, map[string]bool{}
}

// reopen forgets what has ended, as the database answers for it; dead letters
// stay for an operator.
func (m *model) reopen() {
	listed := map[string]bool{}
	for _, id := range slices.Concat(m.wait, m.isolated) {
		listed[id] = true
	}
	for id, e := range m.tickets {
		m.letGo(id)
		e.known = e.State == queue.Confirmed || listed[id] || m.dead[id]
		e.ordered = e.ordered && e.State == queue.Confirmed // the walk's ledger names live orders only
	}
	m.claimed = m.seq
	if len(m.wait) > 0 {
		m.claimed = m.tickets[m.wait[0]].Seq - 1
	}
}

// holders is who holds what, as box.holders tells it.
func (m *model) holders() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, e := range m.live() {
		if all[e.User] == nil {
			all[e.User] = map[string]string{}
		}
		all[e.User][e.ID] = fmt.Sprintf("%d:%d", e.Slot, e.Units)
	}
	return all
}
