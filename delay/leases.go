package delay

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/internal/invalid"
)

// Leased is a message that one reader alone holds until its lease ends.
type Leased struct {
	ID      string
	Attempt int // 1 for the first
	DueAt   time.Time
	Body    []byte
	Lease   string    // acknowledges, gives back or extends; opaque
	Ends    time.Time // when another reader may get the message, by Redis' clock
}

// lease is what the text of one holds.
type lease struct {
	id, token string
	attempt   int
	due       int64
}

func (l lease) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s%d.%d.%s", l.token, l.attempt, l.due, l.id))
}

func parseLease(text string) (l lease, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) <= tokenSize || len(raw) > 256 {
		return l, false
	}
	parts := strings.SplitN(string(raw[tokenSize:]), ".", 3)
	if len(parts) != 3 {
		return l, false
	}
	attempt, err1 := strconv.Atoi(parts[0])
	due, err2 := strconv.ParseInt(parts[1], 10, 64)
	l = lease{id: parts[2], token: string(raw[:tokenSize]), attempt: attempt, due: due}
	return l, err1 == nil && err2 == nil && attempt > 0 && validName(l.id, 128, "-_.:")
}

// parseLeases reads up to 1,000 leases. One that comes twice is in the list once; at says where each is.
func parseLeases(texts []string) (list []lease, at []int, err error) {
	if len(texts) == 0 || len(texts) > maxBatch {
		return nil, nil, invalid.Error{{Field: "leases", Detail: fmt.Sprintf("must be 1 to %d", maxBatch)}}
	}
	var bad invalid.Error
	places := make(map[string]int, len(texts))
	at = make([]int, len(texts))
	for i, text := range texts {
		place, known := places[text]
		if !known {
			l, ok := parseLease(text)
			if !ok && len(bad) < 20 {
				bad = append(bad, invalid.Field{Field: fmt.Sprintf("leases[%d]", i),
					Detail: "must be as it came with a message"})
			}
			place = len(list)
			places[text], list = place, append(list, l)
		}
		at[i] = place
	}
	if len(bad) > 0 {
		return nil, nil, bad
	}
	return list, at, nil
}
