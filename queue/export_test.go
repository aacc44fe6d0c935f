package queue

import "time"

// What the tests of this package need to see from outside.
const (
	KeepDone   = keepDone
	KeepDead   = keepDead
	FirstPause = firstPause
)

func ParseTicket(id, record string) (Ticket, error) { return parseTicket(id, record) }

func (t Ticket) Record() string { return t.record() }

// Pace shows how large a batch may be.
type Pace struct{ *pace }

func NewPace(lease time.Duration) Pace { return Pace{newPace(lease)} }

func (p Pace) Bound(batch int) int { return p.bound(batch) }

func (p Pace) Ended(size int, took time.Duration, well bool) { p.ended(size, took, well) }
