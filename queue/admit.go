package queue

import (
	"context"
	"fmt"
	"strconv"
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

// contact returns the end of a record: how and in which language to reach the shopper, and which instance admits.
func (r *Request) contact(instance string) string {
	return r.Email + "\t" + r.Phone + "\t" + r.Locale + "\t" + instance
}

// Ask is what one line is asked in a call of Admit.
type Ask struct {
	Line     *Line
	Epoch    int64         // of the line, as the caller knows it
	Rate     float64       // measured drain rate in tickets per second, for the expected wait; positive
	Stopped  time.Duration // until it drains at all, for the expected wait, in whole seconds; 0: it does
	Requests []Request     // 1 to MaxAdmit, in the order in which they came
}

// Admit takes requests into their lines in one round trip, each line's in
// their order, and answers each ask. No line may be named twice. Repeating a
// call repeats its answers.
//
// An ask gets ErrNotReady, having done nothing, on a line that is missing, of another epoch, or being rebuilt. So it
// does on one that was not compared with the ledger since this Redis started or was promoted. So it does on one that
// is older than what this process has seen. It gets ErrNotReady too while Redis keeps less than redis.durability asks
// for, or when too few replicas acknowledged. The requests may then be in the line, as after any other error:
// repeating the call tells.
func (ls *Lines) Admit(ctx context.Context, asks []Ask) []AdmitResult {
	sent := time.Now()
	results := make([]AdmitResult, len(asks))
	if len(asks) == 1 || ls.acks() > 0 {
		// WAIT speaks of one server's writes, and each line may be on another.
		for i, ask := range asks {
			results[i] = ask.call(ctx)
		}
		return results
	}
	if err := ls.checkDurability(); err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	calls, asked := make([]luascript.Call, 0, len(asks)), make([]int, 0, len(asks))
	for i, ask := range asks {
		if results[i].Err = ask.check(); results[i].Err == nil {
			calls = append(calls, luascript.Call{Keys: ask.Line.keys.admit(), Args: ask.args()})
			asked = append(asked, i)
		}
	}
	for i, reply := range ls.scripts.admit.RunEach(ctx, ls.rdb, calls) {
		results[asked[i]] = asks[asked[i]].read(reply.Value, reply.Err, sent)
	}
	return results
}

// Admit takes requests into one line; see Lines.Admit.
func (l *Line) Admit(ctx context.Context, epoch int64, rate float64, requests []Request) ([]Admission, error) {
	result := Ask{Line: l, Epoch: epoch, Rate: rate, Requests: requests}.call(ctx)
	return result.Admissions, result.Err
}

// call makes the admission in a call of its own.
func (a Ask) call(ctx context.Context) AdmitResult {
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

// args returns columns: the script hands the ids, and the users, to Redis as they stand.
func (a Ask) args() []any {
	n := len(a.Requests)
	head := [...]any{a.Epoch, a.rateText(), a.Line.wakeChannel, a.Line.sale, a.stopSeconds(),
		a.Line.keys.seen.newestRevision(), a.Line.cancels}
	args := make([]any, len(head)+5*n)
	columns := args[copy(args, head[:]):]
	ids, users, units, prints, contacts := columns, columns[n:], columns[2*n:], columns[3*n:], columns[4*n:]
	texts := make([]string, n)
	for i := range a.Requests {
		r := &a.Requests[i]
		texts[i] = r.contact(a.Line.instanceText)
		// Pointers: a string in an interface would be copied to the heap.
		ids[i], users[i], units[i], prints[i], contacts[i] = &r.ID, &r.User, &r.Units, &r.Fingerprint, &texts[i]
	}
	return args
}

// rateText returns the drain rate as the script gets it.
func (a Ask) rateText() string { return strconv.FormatFloat(a.Rate, 'f', 3, 64) }

func (a Ask) stopSeconds() int64 { return int64(a.Stopped / time.Second) }
