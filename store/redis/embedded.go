package redis

import (
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embeddedServer is an in-memory Redis inside this process, reached over TCP on the loopback interface. Its TIME is the
// machine's, and keys expire.
type embeddedServer struct {
	server   *miniredis.Miniredis
	password string
	stop     chan struct{}
	done     chan struct{}
}

func startEmbedded() (*embeddedServer, error) {
	e := &embeddedServer{
		server: miniredis.NewMiniRedis(), password: randomPassword(),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	e.server.RequireAuth(e.password)
	if err := e.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, err
	}
	go e.expire()
	return e, nil
}

func (e *embeddedServer) addr() string { return e.server.Addr() }

// expire makes keys expire, once a second. The server's own way would check every such key at each command.
func (e *embeddedServer) expire() {
	defer close(e.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
			now := time.Now()
			e.server.FastForward(now.Sub(last))
			last = now
		case <-e.stop:
			return
		}
	}
}

// Close stops the server, whose data is lost.
func (e *embeddedServer) Close() error {
	close(e.stop)
	<-e.done
	e.server.Close()
	return nil
}
