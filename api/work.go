package api

import (
	"encoding/json"

	"sluice/internal/cloudevent"
)

// Receive asks a subscription for messages.
type Receive struct {
	Max  *int    `json:"max"`  // 1 where it is absent
	Wait *string `json:"wait"` // for the first message, such as 20s; absent: not at all
}

// ReceivedMessages are messages that the receiver alone holds until their leases end.
type ReceivedMessages struct {
	Messages []ReceivedMessage `json:"messages"`
}

// ReceivedMessage is one of them, with its attributes as a CloudEvent. Its lease acknowledges it, gives it back or
// holds it for longer.
type ReceivedMessage struct {
	cloudevent.Attributes
	Attempt    int             `json:"attempt"` // 1 for the first
	DueAt      string          `json:"due_at"`
	Lease      string          `json:"lease"`
	LeaseUntil string          `json:"lease_until"`
	Body       json.RawMessage `json:"body"`
}

// Leases names received messages.
type Leases struct {
	Leases []string `json:"leases"`
}

// LeasesBack gives messages back.
type LeasesBack struct {
	Leases  []string `json:"leases"`
	DelayMS *int64   `json:"delay_ms"` // until they are due again; absent: as the subscription's schedule says
}

// LeasesExtended holds messages for longer.
type LeasesExtended struct {
	Leases  []string `json:"leases"`
	LeaseMS int64    `json:"lease_ms"` // from now
}

// LeasesAnswer says which leases stood. Of the others nothing was changed: they had ended, or were settled before.
type LeasesAnswer struct {
	Stood  int      `json:"stood"`
	Fenced []string `json:"fenced"`
}

// LeasesAnswerOf tells of leases, by whether each stood.
func LeasesAnswerOf(leases []string, stood []bool) LeasesAnswer {
	a := LeasesAnswer{Fenced: []string{}}
	for i, lease := range leases {
		if stood[i] {
			a.Stood++
		} else {
			a.Fenced = append(a.Fenced, lease)
		}
	}
	return a
}
