package express

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShutdownWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	s := start(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain/slow" {
			close(began)
			<-release
		}
		tellPath(w, r)
	})
	quiet, busy := dial(t, s.addr), dial(t, s.addr)
	quiet.send(plainOrder)
	quiet.answer()
	busy.send("GET /plain/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	quiet.hungUp()
	require.Empty(t, ended, "one still runs")
	close(release)
	resp, body := busy.answer()
	require.Equal(t, "/plain/slow", body)
	require.True(t, resp.Close)
	require.NoError(t, <-ended)
	_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
	require.Error(t, err)
}

// TestAServerStoppedBeforeItServesDoesNotBegin checks that stopping a server that is just starting does not hang.
func TestAServerStoppedBeforeItServesDoesNotBegin(t *testing.T) {
	t.Parallel()
	for range 20 { // a free slot and the stop are both ready, so select would choose at random
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Serve closes it
		require.NoError(t, err)
		s := New(&http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}, plainPath, 1)
		require.NoError(t, s.Shutdown(t.Context()))
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		select {
		case err := <-served:
			require.ErrorIs(t, err, http.ErrServerClosed)
		case <-time.After(10 * time.Second):
			_ = ln.Close()
			t.Fatal("it serves after Shutdown")
		}
		require.ErrorIs(t, ln.Close(), net.ErrClosed, "Serve closes it")
	}
}

func TestShutdownGivesUpAndCloseCutsOff(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	s := start(t, 0, func(http.ResponseWriter, *http.Request) {
		close(began)
		<-release
	})
	c := dial(t, s.addr)
	c.send(plainOrder)
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.Canceled)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	c.hungUp()
	close(release)
	require.NoError(t, <-closed)
}

// TestStoppingAmongManyAnswersWhatWasRead checks that every request that was read before a stop is answered.
func TestStoppingAmongManyAnswersWhatWasRead(t *testing.T) {
	t.Parallel()
	var read, answered sync.Map
	s := start(t, 0, func(w http.ResponseWriter, r *http.Request) {
		read.Store(r.Header.Get("X-Id"), true)
		tellPath(w, r)
	})
	var clients sync.WaitGroup
	var warm sync.WaitGroup
	for n := range 32 {
		c := dial(t, s.addr)
		warm.Add(1)
		clients.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", n, i)
				if _, err := fmt.Fprintf(c.Conn, "GET /plain HTTP/1.1\r\nHost: x\r\nX-Id: %s\r\n\r\n", id); err != nil {
					return
				}
				resp, err := http.ReadResponse(c.Reader, nil)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				answered.Store(id, true)
				if i == 20 {
					warm.Done()
				}
			}
		})
	}
	warm.Wait()
	require.NoError(t, s.Shutdown(t.Context()))
	clients.Wait()
	read.Range(func(id, _ any) bool {
		_, ok := answered.Load(id)
		require.True(t, ok, "%v was read and not answered", id)
		return true
	})
}
