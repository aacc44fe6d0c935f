package order

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// tagInstance is how much of an instance's name fits behind the UUID: batch_id
// holds 48 characters. The end of a name is what tells instances apart.
const tagInstance = 11

// newTag names one run of a transaction: no two are alike, and it says when
// the run began and where, so that a timeline needs no row of its own for it.
func newTag(now time.Time, instance string) string {
	id := uuid.Must(uuid.NewV7())
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) // #nosec G115 -- one byte of it
	}
	instance = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, instance)
	return id.String() + "@" + instance[max(0, len(instance)-tagInstance):]
}

// readTag is the inverse of newTag; at is zero for a tag without a time.
func readTag(tag string) (at time.Time, instance string) {
	name, instance, _ := strings.Cut(tag, "@")
	id, err := uuid.Parse(name)
	if err != nil || id.Version() != 7 {
		return time.Time{}, instance
	}
	ms := int64(0)
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return atMS(ms), instance
}
