package queue

// What the tests of this package need to see from outside.
const (
	KeepDone   = keepDone
	KeepDead   = keepDead
	FirstPause = firstPause
)

func ParseTicket(id, record string) (Ticket, error) { return parseTicket(id, record) }

func (t Ticket) Record() string { return t.record() }
