package api

import (
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

// A client that stops reading costs its connection for the stream's patience, no longer.
func TestEventsCutOffAReaderThatStops(t *testing.T) {
	t.Parallel()
	engine := gin.New()
	ended := make(chan time.Duration, 1)
	engine.GET("/", func(c *gin.Context) {
		s := NewEventStream(c, time.Now)
		s.patience = 200 * time.Millisecond
		last := time.Now()
		for s.Send("order", "queued", []byte("{}")) == nil {
			last = time.Now()
		}
		ended <- time.Since(last)
	})
	srv := httptest.NewServer(engine)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.NoError(t, err)
	require.Less(t, <-ended, 5*time.Second)
	srv.Close() // which waits for the connection to be gone
}
