package queue

// What the tests of this package need to see from outside.
const (
	KeepDone = keepDone
	KeepDead = keepDead
)
