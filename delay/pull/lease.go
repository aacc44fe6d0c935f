package pull

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/cloudevent"
	"sluice/internal/invalid"
)

// Leased is a message that one reader alone holds until its lease ends.
type Leased struct {
	ID      string
	Attempt int // 1 for the first
	DueAt   time.Time
	Body    []byte
	About   cloudevent.Attributes
	Lease   string    // acknowledges, gives back or extends; opaque
	Ends    time.Time // when another reader may get the message, by Redis' clock
}

// leaseText returns the text that a reader gets of a lease.
func leaseText(l message.Lease) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s%d.%d.%s", l.Token, l.Attempt, l.Due, l.ID))
}

func parseLease(text string) (l message.Lease, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) <= message.TokenSize || len(raw) > 256 {
		return l, false
	}
	parts := strings.SplitN(string(raw[message.TokenSize:]), ".", 3)
	if len(parts) != 3 {
		return l, false
	}
	attempt, err1 := strconv.Atoi(parts[0])
	due, err2 := strconv.ParseInt(parts[1], 10, 64)
	l = message.Lease{ID: parts[2], Token: string(raw[:message.TokenSize]), Attempt: attempt, Due: due}
	return l, err1 == nil && err2 == nil && attempt > 0 && invalid.Name(l.ID, 128, "-_.:")
}

// parseLeases reads up to 1,000 leases. One that comes twice is in the list once; at says where each is. A lease has
// several texts: base64 skips line ends.
func parseLeases(texts []string) (list []message.Lease, at []int, err error) {
	if len(texts) == 0 || len(texts) > delay.MaxBatch {
		return nil, nil, invalid.Error{{Field: "leases", Detail: fmt.Sprintf("must be 1 to %d", delay.MaxBatch)}}
	}
	var bad invalid.Error
	type held struct{ id, token string }
	places := make(map[held]int, len(texts))
	at = make([]int, len(texts))
	for i, text := range texts {
		l, ok := parseLease(text)
		if !ok && len(bad) < 20 {
			bad = append(bad, invalid.Field{Field: fmt.Sprintf("leases[%d]", i),
				Detail: "must be as it came with a message"})
		}
		place, known := places[held{l.ID, l.Token}]
		if !known {
			place = len(list)
			places[held{l.ID, l.Token}], list = place, append(list, l)
		}
		at[i] = place
	}
	if len(bad) > 0 {
		return nil, nil, bad
	}
	return list, at, nil
}
