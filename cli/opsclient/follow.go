package opsclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// Silence is how long a stream may say nothing: its server writes something every 15 s.
	silence = 45 * time.Second
	// maxLine bounds a line of a stream, in bytes.
	maxLine = 1 << 20
)

// Event is one block of a stream of server-sent events. One without data only has a place to come back to.
type Event struct {
	Name string
	ID   string
	Data []byte
}

var errSilent = errors.New("the stream has fallen silent")

// Follow calls do with each event of the stream at path that comes after the event named last, "" for none. It
// returns nil when the server has ended the stream, do's error, or why the stream broke. A refusal is an Error. After
// a connection that was open it may be called again with the last id. heard is called once the stream is open.
func (o *Client) Follow(ctx context.Context, path, last string, heard func(), do func(Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	token, err := o.params.Token()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.params.Base+o.params.Of.Root+path, nil)
	if err != nil {
		return o.Wrap(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	stream := &http.Client{Transport: o.http.Transport, CheckRedirect: o.http.CheckRedirect} // without its time limit
	resp, err := stream.Do(req)
	if err != nil {
		return o.brokenError(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
		if err != nil {
			return o.brokenError(ctx, err)
		}
		return o.refusal(resp, text)
	}
	heard()
	return o.read(ctx, resp.Body, func() { watchdog.Reset(silence) }, do)
}

// read reads the blocks of a stream. alive is called for each line.
func (o *Client) read(ctx context.Context, body io.Reader, alive func(), do func(Event) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	var one Event
	for lines.Scan() {
		alive()
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if one.ID != "" || len(one.Data) > 0 {
				if err := do(one); err != nil {
					return err
				}
			}
			one = Event{}
		case name == "event":
			one.Name = value
		case name == "id":
			one.ID = value
		case name == "data":
			one.Data = []byte(value)
		}
	}
	return o.brokenError(ctx, lines.Err())
}

// brokenError says why a stream has no more; nil stays nil.
func (o *Client) brokenError(ctx context.Context, err error) error {
	switch why := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(why, errSilent):
		return o.Wrap(fmt.Errorf("%w for %s", errSilent, silence))
	case why != nil:
		return why
	}
	return o.unreachableError(err)
}
