package pull

import "sluice/delay/message"

// What the tests of this package need to see from outside.
const GivenBack = givenBack

// LeaseText is the text of a lease.
func LeaseText(l message.Lease) string { return leaseText(l) }

// Waiting is how many readers wait, and whether somebody looks for them.
func (r *Readers) Waiting() (n int, looking bool) {
	r.waiting.mu.Lock()
	defer r.waiting.mu.Unlock()
	for _, list := range r.waiting.of {
		n += len(list)
	}
	return n, r.waiting.looking
}
