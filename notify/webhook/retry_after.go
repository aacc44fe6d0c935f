package webhook

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// MaxWait is the longest wait that a receiver can ask for.
const MaxWait = time.Hour

// RetryAfter reads a Retry-After header: seconds, or an HTTP date (RFC 9110, 10.2.3). It returns the wait, at most
// MaxWait, and 0 when the header asks for none.
func RetryAfter(text string, now time.Time) time.Duration {
	seconds, err := strconv.ParseUint(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return MaxWait
	}
	if err == nil {
		return time.Duration(min(seconds, uint64(MaxWait/time.Second))) * time.Second // #nosec G115 -- 3600 at most
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxWait)
}
