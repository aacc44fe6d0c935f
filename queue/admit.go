package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
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

// contact is how and in which language to reach the shopper, as a record has it.
func (r *Request) contact() *string {
	text := r.Email + "\t" + r.Phone + "\t" + r.Locale
	return &text
}

// Admission is the answer to one Request.
type Admission struct {
	Ticket   Ticket // when Err is nil
	Replayed bool   // the same request had been admitted before: Ticket is what became of it
	Err      error  // ErrMismatch, NotStartedError, ErrEnded, ErrPaused, LimitError, ErrFull or ErrSoldOut
}

// Ask is what one line is asked in a call of Admit.
type Ask struct {
	Line     *Line
	Epoch    int64     // of the line, as the caller knows it
	Rate     float64   // measured drain rate in tickets per second, for the expected wait; positive
	Requests []Request // 1 to MaxAdmit, in the order in which they came
}

// Told is the answer to one Ask.
type Told struct {
	Admissions []Admission // one per request, when Err is nil
	Stock      int64       // units left to reserve when they had been answered
	Seq        int64       // sequence of the newest ticket by then
	Err        error

	// Until then it is certain that nobody whom Redis had not admitted before is admitted: ErrSoldOut may be repeated to them. Zero: it
	// is not certain for any time. By this process' monotonic clock, whatever the clocks say.
	Firm time.Time
}

// Admit takes requests into their lines in one round trip, each line's in
// their order, and answers each ask. No line may be named twice. Repeating a
// call repeats its answers.
//
// An ask gets ErrNotReady, and nothing was done for it, when its line is
// missing, has another epoch, is being rebuilt, or Redis has been restarted and
// nobody has verified its lines since (see Verified); also when Redis does not
// keep what redis.durability asks for, or too few replicas have acknowledged,
// and then the requests may be in the line. After any other error the
// requests may or may not be in the line; repeating the call tells.
func (ls *Lines) Admit(ctx context.Context, asks []Ask) []Told {
	sent := time.Now()
	told := make([]Told, len(asks))
	if len(asks) == 1 || ls.promise.acks() > 0 {
		// WAIT speaks of one server's writes, and each line may be on another.
		for i, ask := range asks {
			told[i] = ask.alone(ctx)
		}
		return told
	}
	if err := ls.kept(); err != nil {
		for i := range told {
			told[i].Err = err
		}
		return told
	}
	pipe := ls.rdb.Pipeline()
	replies := make([]*redis.Cmd, len(asks))
	for i, ask := range asks {
		if told[i].Err = ask.check(); told[i].Err == nil {
			replies[i] = pipe.EvalSha(ctx, ls.scripts.admit.sha, ask.Line.keys.admit(), ask.args()...)
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, ask := range asks {
		if told[i].Err == nil {
			reply, err := ls.scripts.admit.fencedReply(replies[i], ask.Line.keys.meta)
			told[i] = ask.read(reply, err, sent)
		}
	}
	return told
}

// Admit is the admission of requests to one line; see Lines.Admit.
func (l *Line) Admit(ctx context.Context, epoch int64, rate float64, requests []Request) ([]Admission, error) {
	told := Ask{Line: l, Epoch: epoch, Rate: rate, Requests: requests}.alone(ctx)
	return told.Admissions, told.Err
}

func (a Ask) alone(ctx context.Context) Told {
	if err := a.check(); err != nil {
		return Told{Err: err}
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

func (k keys) admit() []string { return []string{k.meta, k.stock, k.wait, k.orders, k.holders} }

func (a Ask) args() []any {
	args := make([]any, 0, 4+5*len(a.Requests))
	args = append(args, a.Epoch, strconv.FormatFloat(a.Rate, 'f', 3, 64), wakeChannel, a.Line.sale)
	for i := range a.Requests {
		r := &a.Requests[i]
		// Pointers: a string in an interface would be copied to the heap.
		args = append(args, &r.ID, &r.User, &r.Units, &r.Fingerprint, r.contact())
	}
	return args
}

// read reads the reply to an ask that left no earlier than sent.
func (a Ask) read(reply any, err error, sent time.Time) Told {
	if err != nil {
		return Told{Err: err}
	}
	answers, ok := reply.([]any)
	if !ok || len(answers) == 0 {
		return Told{Err: fmt.Errorf("admit to %s answered %T, not a list", a.Line.sale, reply)}
	}
	head, _ := answers[0].(string)
	if head == "X" {
		return Told{Err: ErrNotReady}
	}
	t, ok := readHead(head, sent)
	t.Admissions = make([]Admission, len(a.Requests))
	if !ok || len(answers) != len(a.Requests)+1 {
		return Told{Err: fmt.Errorf("admit to %s: head %q and %d answers to %d requests", a.Line.sale, head, len(answers)-1, len(a.Requests))}
	}
	for i, answer := range answers[1:] {
		text, _ := answer.(string)
		t.Admissions[i] = readAnswer(&a.Requests[i], text)
	}
	return t
}

func readHead(head string, sent time.Time) (t Told, ok bool) {
	stock, rest, _ := strings.Cut(head, " ")
	seq, firm, _ := strings.Cut(rest, " ")
	var ms int64
	var bad [3]error
	t.Stock, bad[0] = strconv.ParseInt(stock, 10, 64)
	t.Seq, bad[1] = strconv.ParseInt(seq, 10, 64)
	ms, bad[2] = strconv.ParseInt(firm, 10, 64)
	if ms > 0 {
		// From when the question left: Redis decided later, and a reply may have been long on its way.
		t.Firm = sent.Add(time.Duration(ms) * time.Millisecond)
	}
	return t, bad == [3]error{}
}

func readAnswer(r *Request, answer string) Admission {
	if answer == "" {
		answer = "?"
	}
	code, rest := answer[0], answer[1:]
	switch code {
	case 'A':
		t, err := admittedTicket(r, rest)
		return Admission{Ticket: t, Err: err}
	case 'R':
		t, err := parseTicket(r.ID, rest)
		return Admission{Ticket: t, Replayed: true, Err: err}
	case 'M':
		return Admission{Err: ErrMismatch}
	case 'N':
		ms, _ := strconv.ParseInt(rest, 10, 64)
		if ms == 0 {
			return Admission{Err: NotStartedError{}}
		}
		return Admission{Err: NotStartedError{StartsAt: time.UnixMilli(ms).UTC()}}
	case 'E':
		return Admission{Err: ErrEnded}
	case 'P':
		return Admission{Err: ErrPaused}
	case 'L':
		return Admission{Err: LimitError{OrderID: rest}}
	case 'F':
		return Admission{Err: ErrFull}
	case 'S':
		return Admission{Err: ErrSoldOut}
	}
	return Admission{Err: fmt.Errorf("admit answered %q, which is no answer", answer)}
}

// admittedTicket is the request as it stands in the line now: sequence, slot,
// admission, position and expected wait are what the line decided.
func admittedTicket(r *Request, decided string) (Ticket, error) {
	t := Ticket{ID: r.ID, User: r.User, State: Queued, Units: r.Units, Fingerprint: r.Fingerprint, Email: r.Email, Phone: r.Phone, Locale: r.Locale}
	var slot, admitted int64
	rest := decided
	for i, to := range [...]*int64{&t.Seq, &slot, &admitted, &t.Position, &t.ETASeconds} {
		text, after, more := strings.Cut(rest, "\t")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || more != (i < 4) {
			return Ticket{}, fmt.Errorf("admit answered %q for %s, which is no place in line", decided, r.ID)
		}
		*to, rest = n, after
	}
	t.Slot, t.AdmittedAt = int(slot), time.UnixMilli(admitted).UTC()
	return t, nil
}
