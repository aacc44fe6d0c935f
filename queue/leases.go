package queue

import (
	"context"
	"strings"
	"time"
)

// leaseOrders is how many order ids of one batch are told.
const leaseOrders = 20

// Lease is a batch that a worker holds.
type Lease struct {
	Batch    string
	Instance string // whose worker it is; empty where that was not said
	Tickets  int64
	Orders   []string // the first of them, at most 20
	Deadline time.Time
	Left     time.Duration // until then; negative once it has run out and nobody has taken the batch over yet
}

// Named returns the same lines, claiming in the name of an instance: Leases tells it.
func (ls *Lines) Named(instance string) *Lines {
	named := *ls
	named.instance = instance
	return &named
}

// Numbered returns the same lines, whose tickets carry the number of the instance that admits, takes back or cancels them; 0: they
// carry none.
func (ls *Lines) Numbered(number int64) *Lines {
	numbered := *ls
	numbered.number, numbered.instanceText = number, numberOrEmpty(number)
	return &numbered
}

// Number is what Numbered was told.
func (ls *Lines) Number() int64 { return ls.number }

// batchName is the id of a batch of this instance.
func (ls *Lines) batchName(id string) string {
	if ls.instance == "" {
		return id
	}
	return ls.instance + "/" + id
}

// ownerOf is the inverse of batchName.
func ownerOf(name string) (instance, id string) {
	at := strings.LastIndexByte(name, '/')
	return name[:max(at, 0)], name[at+1:]
}

// Leases returns up to most batches that workers hold, those first whose lease ends first, after skipping some, and how many there
// are in all.
func (l *Line) Leases(ctx context.Context, skip int64, most int) (leases []Lease, all int64, err error) {
	list, err := l.scripts.leases.RunList(ctx, l.rdb, []string{l.keys.lease, l.keys.leased}, skip, most, leaseOrders)
	if err != nil {
		return nil, 0, err
	}
	now := time.UnixMilli(toInt(list[0]))
	for i := 2; i+3 < len(list); i += 4 {
		name, _ := list[i].(string)
		orders, _ := list[i+3].(string)
		deadline := time.UnixMilli(toInt(list[i+1])).UTC()
		one := Lease{Tickets: toInt(list[i+2]), Deadline: deadline, Left: deadline.Sub(now)}
		one.Instance, one.Batch = ownerOf(name)
		if orders != "" {
			one.Orders = strings.Split(orders, ",")
		}
		leases = append(leases, one)
	}
	return leases, toInt(list[1]), nil
}
