package notify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// maxAddresses bounds how many addresses of their own are remembered: the most topics there can be.
const maxAddresses = 1000

// AddTo counts n events of a cause into the next e-mail to one address, which gets at most one in an interval; it never blocks.
// False says that nobody there will be told: no mail server is configured, or 1,000 addresses have something to be told already.
func (a *Alerts) AddTo(address, cause string, n int64) bool {
	if a.mailer == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w, known := a.addresses[address]
	if !known {
		if len(a.addresses) >= maxAddresses {
			return false
		}
		w = &alertWay{name: "address", send: a.mailTo(address), causes: map[string]int64{}, single: true}
		a.addresses[address] = w
	}
	w.count(cause, n)
	return true
}

// mailTo is the way out to an e-mail address.
func (a *Alerts) mailTo(address string) func(context.Context, string, map[string]int64, time.Time) Result {
	return func(ctx context.Context, subject string, causes map[string]int64, at time.Time) Result {
		return a.mailer.Send(ctx, Mail{ID: fmt.Sprintf("alert.%d", at.UnixNano()), To: []string{address}, Subject: subject, Text: listed(causes)})
	}
}

// stepAddresses tells each address what has gathered for it, if it is time, one after the other.
func (a *Alerts) stepAddresses(ctx context.Context) {
	a.mu.Lock()
	ways := slices.Collect(maps.Values(a.addresses))
	a.mu.Unlock()
	for _, w := range ways {
		if ctx.Err() != nil {
			return
		}
		a.step(ctx, w)
	}
	a.forgetAddresses()
}

// forgetAddresses makes room: an address with nothing to be told, whose interval is over, is as one never heard of.
func (a *Alerts) forgetAddresses() {
	now := a.now()
	a.mu.Lock() // before a way's own, as in AddTo
	defer a.mu.Unlock()
	maps.DeleteFunc(a.addresses, func(_ string, w *alertWay) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.causes) == 0 && !now.Before(w.next)
	})
}
