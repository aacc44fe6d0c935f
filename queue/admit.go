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

// rest is how and in which language to reach the shopper and who admits the request, as a record ends with it.
func (r *Request) rest(by string) string {
	return r.Email + "\t" + r.Phone + "\t" + r.Locale + "\t" + by
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
			calls, asked = append(calls, luascript.Call{Keys: ask.Line.keys.admit(), Args: ask.args()}), append(asked,
				i)
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
	head := [...]any{a.Epoch, a.rate(), a.Line.wakeChannel, a.Line.sale, a.stopped(), a.Line.keys.seen.newest(),
		a.Line.cancels}
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
