package queue

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"sluice/internal/luascript"
)

// MaxAdmit is the most requests for one line that one Ask takes.
const MaxAdmit = 200

// Request asks for a place in the line. No field may hold a control character.
type Request struct {
	ID, User     string
	Units        int
	Fingerprint  string
	Email, Phone string
	Locale       string // language tag for what the shopper is told
}

// rest is how and in which language to reach the shopper and who admits the request, as a record ends with it.
func (r *Request) rest(by string) string {
	return r.Email + "\t" + r.Phone + "\t" + r.Locale + "\t" + by
}

// Admission is the answer to one Request.
type Admission struct {
	Ticket   Ticket // when Err is nil
	Replayed bool   // the same request had been admitted before: Ticket is what became of it
	Err      error  // ErrMismatch, NotStartedError, ErrEnded, ErrPaused, LimitError, ErrCancels, ErrFull or ErrSoldOut
}

// Ask is what one line is asked in a call of Admit.
type Ask struct {
	Line     *Line
	Epoch    int64         // of the line, as the caller knows it
	Rate     float64       // measured drain rate in tickets per second, for the expected wait; positive
	Stopped  time.Duration // until it drains at all, for the expected wait, in whole seconds; 0: it does
	Requests []Request     // 1 to MaxAdmit, in the order in which they came
}

// AdmitResult is the answer to one Ask.
type AdmitResult struct {
	Admissions []Admission // one per request, when Err is nil
	Stock      int64       // units left to reserve when they had been answered
	Seq        int64       // sequence of the newest ticket by then
	Err        error

	// Until then it is certain that nobody whom Redis had not admitted before is admitted: the last NotStartedError, ErrFull or
	// ErrSoldOut may be repeated to them. Zero: it is not certain for any time. By this process' monotonic clock, whatever the clocks say.
	Firm time.Time
}

// Admit takes requests into their lines in one round trip, each line's in
// their order, and answers each ask. No line may be named twice. Repeating a
// call repeats its answers.
//
// An ask gets ErrNotReady, and nothing was done for it, when its line is
// missing, has another epoch, is being rebuilt, was not compared with the ledger
// since this Redis started or was promoted, or is older than what this process
// has seen of it; also when Redis does not keep what redis.durability asks for, or too few replicas have acknowledged,
// and then the requests may be in the line. After any other error the
// requests may or may not be in the line; repeating the call tells.
func (ls *Lines) Admit(ctx context.Context, asks []Ask) []AdmitResult {
	sent := time.Now()
	told := make([]AdmitResult, len(asks))
	if len(asks) == 1 || ls.acks() > 0 {
		// WAIT speaks of one server's writes, and each line may be on another.
		for i, ask := range asks {
			told[i] = ask.alone(ctx)
		}
		return told
	}
	if err := ls.checkDurability(); err != nil {
		for i := range told {
			told[i].Err = err
		}
		return told
	}
	calls, asked := make([]luascript.Call, 0, len(asks)), make([]int, 0, len(asks))
	for i, ask := range asks {
		if told[i].Err = ask.check(); told[i].Err == nil {
			calls, asked = append(calls, luascript.Call{Keys: ask.Line.keys.admit(), Args: ask.args()}), append(asked, i)
		}
	}
	for i, reply := range ls.scripts.admit.RunEach(ctx, ls.rdb, calls) {
		told[asked[i]] = asks[asked[i]].read(reply.Value, reply.Err, sent)
	}
	return told
}

// Admit is the admission of requests to one line; see Lines.Admit.
func (l *Line) Admit(ctx context.Context, epoch int64, rate float64, requests []Request) ([]Admission, error) {
	told := Ask{Line: l, Epoch: epoch, Rate: rate, Requests: requests}.alone(ctx)
	return told.Admissions, told.Err
}

func (a Ask) alone(ctx context.Context) AdmitResult {
	if err := a.check(); err != nil {
		return AdmitResult{Err: err}
	}
	sent := time.Now()
	reply, err := a.Line.durably(ctx, a.Line.scripts.admit, a.Line.keys.admit(), a.args()...)
	return a.read(reply, err, sent)
}

func (a Ask) check() error {
	if n := len(a.Requests); n == 0 || n > MaxAdmit {
		return fmt.Errorf("admit takes 1 to %d requests, got %d", MaxAdmit, n)
	}
	return nil
}

func (k keys) admit() []string {
	return []string{k.meta, k.stock, k.wait, k.orders, k.holders, k.cancels}
}

// args are columns: the script hands the ids, and the users, to Redis as they stand.
func (a Ask) args() []any {
	n := len(a.Requests)
	head := [...]any{a.Epoch, a.rate(), a.Line.wakeChannel, a.Line.sale, a.stopped(), a.Line.keys.seen.newest(), a.Line.cancels}
	args := make([]any, len(head)+5*n)
	columns := args[copy(args, head[:]):]
	ids, users, units, prints, contacts := columns, columns[n:], columns[2*n:], columns[3*n:], columns[4*n:]
	texts := make([]string, n)
	for i := range a.Requests {
		r := &a.Requests[i]
		texts[i] = r.rest(a.Line.instanceText)
		// Pointers: a string in an interface would be copied to the heap.
		ids[i], users[i], units[i], prints[i], contacts[i] = &r.ID, &r.User, &r.Units, &r.Fingerprint, &texts[i]
	}
	return args
}

// rate is the drain rate as the script is told.
func (a Ask) rate() string { return strconv.FormatFloat(a.Rate, 'f', 3, 64) }

func (a Ask) stopped() int64 { return int64(a.Stopped / time.Second) }

// read reads the reply to an ask that left no earlier than sent.
func (a Ask) read(reply any, err error, sent time.Time) AdmitResult {
	if err != nil {
		return AdmitResult{Err: err}
	}
	answers, ok := reply.([]any)
	if !ok || len(answers) == 0 {
		return AdmitResult{Err: fmt.Errorf("admit to %s answered %T, not a list", a.Line.sale, reply)}
	}
	head, _ := answers[0].(string)
	if head == "X" {
		return AdmitResult{Err: ErrNotReady}
	}
	if len(answers) != len(a.Requests)+1 {
		return AdmitResult{Err: fmt.Errorf("admit to %s: %d answers to %d requests", a.Line.sale, len(answers)-1, len(a.Requests))}
	}
	at, err := a.place(head, answers[1:])
	if err != nil {
		return AdmitResult{Err: err}
	}
	a.Line.keys.seen.note(at.rev, at.newest)
	t := AdmitResult{Admissions: make([]Admission, len(a.Requests)), Stock: at.stock, Seq: at.newest}
	if at.firm > 0 {
		// From when the question left: Redis decided later, and a reply may have been long on its way.
		t.Firm = sent.Add(time.Duration(at.firm) * time.Millisecond)
	}
	for i, answer := range answers[1:] {
		text, _ := answer.(string)
		at.readAnswer(&t.Admissions[i], &a.Requests[i], text)
	}
	return t
}

// place is where the next ticket of a batch stands.
type place struct {
	stock, newest, claimed int64
	work, firm             int64 // tickets that workers have; ms, as the script says
	rev                    int64 // revision of the line
	seq                    int64 // of the ticket that was read last
	admitted               time.Time
	rate                   float64
	stopped                int64 // s until the line is drained
	by                     int64 // number of the instance
}

// place reads the head of a reply, and counts back from the newest ticket to those before the batch.
func (a Ask) place(head string, answers []any) (place, error) {
	p := place{by: a.Line.number}
	var ms int64
	rest := head
	for i, to := range [...]*int64{&p.stock, &p.newest, &p.claimed, &ms, &p.work, &p.firm, &p.rev} {
		text, after, more := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || more != (i < 6) {
			return p, fmt.Errorf("admit to %s began with %q, which says no place in line", a.Line.sale, head)
		}
		*to, rest = n, after
	}
	p.seq = p.newest
	for _, answer := range answers {
		if text, _ := answer.(string); strings.HasPrefix(text, "A") {
			p.seq--
		}
	}
	p.admitted = time.UnixMilli(ms).UTC()
	p.stopped = a.stopped()
	p.rate, _ = strconv.ParseFloat(a.rate(), 64) // the script and the record know it no better
	return p, nil
}

// readAnswer fills an empty admission, which is large: it is never copied here.
func (p *place) readAnswer(to *Admission, r *Request, answer string) {
	if answer == "" {
		answer = "?"
	}
	code, rest := answer[0], answer[1:]
	switch code {
	case 'A':
		to.Err = p.admit(&to.Ticket, r, rest)
	case 'R':
		to.Replayed = true
		to.Ticket, to.Err = ParseTicket(r.ID, rest)
	case 'M':
		to.Err = ErrMismatch
	case 'N':
		ms, _ := strconv.ParseInt(rest, 10, 64)
		refused := NotStartedError{}
		if ms != 0 {
			refused.StartsAt = time.UnixMilli(ms).UTC()
		}
		to.Err = refused
	case 'E':
		to.Err = ErrEnded
	case 'P':
		to.Err = ErrPaused
	case 'L':
		to.Err = LimitError{OrderID: rest}
	case 'C':
		to.Err = ErrCancels
	case 'F':
		to.Err = ErrFull
	case 'S':
		to.Err = ErrSoldOut
	default:
		to.Err = fmt.Errorf("admit answered %q, which is no answer", answer)
	}
}

// admit makes the next ticket: the request as it stands in the line now.
func (p *place) admit(t *Ticket, r *Request, slot string) error {
	p.seq++
	*t = Ticket{ID: r.ID, User: r.User, State: Queued, Seq: p.seq, Units: r.Units, Slot: 1, AdmittedAt: p.admitted, Fingerprint: r.Fingerprint,
		Position: max(p.seq-p.claimed, 1), Email: r.Email, Phone: r.Phone, Locale: r.Locale, By: p.by}
	t.ETASeconds = p.stopped + int64(math.Ceil(float64(t.Position+p.work)/p.rate))
	if slot == "" {
		return nil
	}
	var err error
	if t.Slot, err = strconv.Atoi(slot); err != nil || t.Slot < 2 {
		return fmt.Errorf("admit answered slot %q for %s", slot, r.ID)
	}
	return nil
}
