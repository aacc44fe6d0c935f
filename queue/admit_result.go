package queue

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Admission is the answer to one Request.
type Admission struct {
	Ticket   Ticket // when Err is nil
	Replayed bool   // the same request had been admitted before: Ticket is what became of it
	Err      error  // ErrMismatch, NotStartedError, ErrEnded, ErrPaused, LimitError, ErrCancels, ErrFull or ErrSoldOut
}

// AdmitResult is the answer to one Ask.
type AdmitResult struct {
	Admissions []Admission // one per request, when Err is nil
	Stock      int64       // units left to reserve when they had been answered
	Seq        int64       // sequence of the newest ticket by then
	Err        error

	// Until then it is certain that nobody is admitted whom Redis had not admitted before. The last NotStartedError,
	// ErrFull or ErrSoldOut may be repeated to them. Zero: it is not certain for any time. By this process' monotonic
	// clock, whatever the clocks say.
	Firm time.Time
}

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
		return AdmitResult{Err: fmt.Errorf("admit to %s: %d answers to %d requests", a.Line.sale, len(answers)-1,
			len(a.Requests))}
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
	instance               int64 // number of the instance
}

// place reads the head of a reply, and counts back from the newest ticket to those before the batch.
func (a Ask) place(head string, answers []any) (place, error) {
	p := place{instance: a.Line.number}
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
	p.stopped = a.stopSeconds()
	p.rate, _ = strconv.ParseFloat(a.rateText(), 64) // the script and the record know it no better
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
	*t = Ticket{ID: r.ID, User: r.User, State: Queued, Seq: p.seq, Units: r.Units, Slot: 1, AdmittedAt: p.admitted,
		Fingerprint: r.Fingerprint,
		Position:    max(p.seq-p.claimed, 1), Email: r.Email, Phone: r.Phone, Locale: r.Locale, By: p.instance}
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
