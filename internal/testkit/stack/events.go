package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/api"
)

// Events is an event stream as a client reads it.
type Events struct {
	T    testing.TB
	Resp *http.Response
	Read *bufio.Reader
	stop context.CancelFunc
}

// Event is one block of a stream.
type Event struct{ Name, ID, Data, Comment string }

// Follow opens the stream of an order as a user. An empty last says that the client has seen nothing.
func (s *Stack) Follow(user, path, last string) *Events {
	s.T.Helper()
	e := s.open(s.public, "http://"+s.Addr+path+"/events", s.Token(user, false), last)
	if e.Resp.StatusCode == http.StatusOK {
		require.Equal(s.T, "no", e.Resp.Header.Get("X-Accel-Buffering"))
		require.Contains(s.T, e.Resp.Header.Get("Cache-Control"), "no-cache")
	}
	return e
}

// EventLog opens the log of all orders' events as an administrator.
func (s *Stack) EventLog(query, last string) *Events {
	s.T.Helper()
	return s.open(s.ops, "http://"+s.OpsAddr+"/admin/v1/events"+query, s.Token("root", true), last)
}

func (s *Stack) open(client *http.Client, url, token, last string) *Events {
	s.T.Helper()
	ctx, stop := context.WithTimeout(s.T.Context(), 2*Patience)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(s.T, err)
	r.Header.Set("Authorization", "Bearer "+token)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := client.Do(r)
	require.NoError(s.T, err)
	e := &Events{T: s.T, Resp: resp, Read: bufio.NewReader(resp.Body), stop: stop}
	s.T.Cleanup(e.Close)
	if resp.StatusCode == http.StatusOK {
		require.Equal(s.T, "text/event-stream", resp.Header.Get("Content-Type"))
		first, err := e.Read.ReadString('\n')
		require.NoError(s.T, err)
		require.Equal(s.T, "retry: 3000\n", first)
		_, err = e.Read.ReadString('\n')
		require.NoError(s.T, err)
	}
	return e
}

// Close hangs up.
func (e *Events) Close() {
	e.stop()
	_ = e.Resp.Body.Close()
}

// Next reads one block; io.EOF is a stream that ended in good order.
func (e *Events) Next() (Event, error) {
	var one Event
	for {
		line, err := e.Read.ReadString('\n')
		if err != nil {
			return one, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && one.Name == "" && one.Comment == "": // a place to come back to
		case line == "":
			return one, nil
		case name == "event":
			one.Name = value
		case name == "id":
			one.ID = value
		case name == "data":
			one.Data = value
		case name == "":
			one.Comment = value
		default:
			return one, fmt.Errorf("unknown line %q", line)
		}
	}
}

// Order reads the next event, which must be one of the order, and checks its data.
func (e *Events) Order(id string) map[string]any {
	e.T.Helper()
	one, err := e.Next()
	require.NoError(e.T, err)
	require.Equal(e.T, "order", one.Name)
	require.Equal(e.T, id, one.ID)
	var data map[string]any
	require.NoError(e.T, json.Unmarshal([]byte(one.Data), &data))
	require.NoError(e.T, StrictDocument(e.T, api.OpenAPI()).Components.Schemas["Order"].Value.VisitJSON(data))
	return data
}

// Ends requires that the stream has ended in good order.
func (e *Events) Ends() {
	e.T.Helper()
	_, err := e.Next()
	require.ErrorIs(e.T, err, io.EOF)
}
