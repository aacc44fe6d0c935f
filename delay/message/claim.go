package message

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/delay"
	"sluice/internal/cloudevent"
)

// Lease makes a message its holder's until it ends.
type Lease struct {
	ID, Token string // of the message and of the claim
	Attempt   int    // 1 for the first
	Due       int64  // when the message was due, ms by Redis' clock
}

// Claimed is a message that its claimer alone may deliver until its lease ends.
type Claimed struct {
	Lease
	About    cloudevent.Attributes
	Body     []byte
	Lateness time.Duration // time from Due to the claim
}

// Claim leases up to most due messages and counts an attempt of each. It returns a StaleError when the subscription was
// changed meanwhile. If the answer is lost, what was claimed is handed back: nobody would deliver it.
func (s *Store) Claim(ctx context.Context, sub delay.Subscription, most int) ([]Claimed, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return nil, err
	}
	k, token := at.keysOf(sub), rand.Text()[:TokenSize]
	reply, err := at.run(ctx, s.scripts.claim,
		[]string{k.due, k.firing, k.messages, k.tries, at.topicKeys(sub.Topic).version, k.about}, most,
		s.leaseOf(sub).Milliseconds(), token, sub.Version)
	if err != nil {
		if !refused(err) {
			err = errors.Join(err, s.release(ctx, sub, token))
		}
		return nil, err
	}
	if reply[0].(string) == "" {
		return nil, staleAs(reply[1])
	}
	now := parseMillis(reply[0].(string)).UnixMilli()
	var claimed []Claimed
	for i := 1; i+5 < len(reply); i += 6 {
		attempt, err1 := strconv.Atoi(reply[i+1].(string))
		due, err2 := strconv.ParseFloat(reply[i+2].(string), 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("claim messages of %s: %w", sub.Title(), err)
		}
		m := Claimed{
			Lease:    Lease{ID: reply[i].(string), Token: token, Attempt: attempt, Due: int64(due)},
			Body:     []byte(reply[i+3].(string)),
			Lateness: time.Duration(now-int64(due)) * time.Millisecond}
		m.About = s.attributes(sub.Topic, m, parseMillis(reply[i+4].(string)), reply[i+5].(string))
		claimed = append(claimed, m)
	}
	return claimed, nil
}

// attributes names a claimed message. An order's event has its own time, and another system's message that at which it
// was added.
func (s *Store) attributes(topic string, m Claimed, added time.Time, about string) cloudevent.Attributes {
	event, sale := readAbout(about)
	order, kind, ours := delay.OrderEvent(m.ID)
	if !ours {
		return cloudevent.OfMessage(s.prefix, cloudevent.Message{Topic: topic, ID: m.ID, Event: event, Sale: sale,
			At: added})
	}
	var body struct {
		Timestamp time.Time `json:"timestamp"`
	}
	_ = json.Unmarshal(m.Body, &body) // an older version let others take such an id: then it has no time
	return cloudevent.OfOrder(s.prefix, cloudevent.Order{ID: order, Event: kind, Sale: sale, At: body.Timestamp})
}

// TokenSize is how many letters a lease's token has.
const TokenSize = 16

// ChannelTime bounds how long a channel may take to send a claimed message, its wait for a turn included.
const ChannelTime = time.Minute

// leaseOf returns how long a claimed message is its deliverer's.
func (s *Store) leaseOf(sub delay.Subscription) time.Duration {
	switch sub.Kind {
	case delay.Pull:
		return sub.Lease()
	case delay.Channel:
		return max(s.cfg.Lease, ChannelTime+time.Minute)
	}
	return s.cfg.Lease
}

// release hands back what was claimed with a token.
func (s *Store) release(ctx context.Context, sub delay.Subscription, token string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ClaimTimeout)
	defer cancel()
	at, err := s.at(sub.Store)
	if err != nil {
		return err
	}
	k := at.keysOf(sub)
	_, err = at.run(ctx, s.scripts.release, []string{k.due, k.firing, k.messages, k.tries}, token)
	return err
}
