package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// chooseAddress returns where the server shall listen: a socket, or TCP if the socket's path is too long.
func (m *managedServer) chooseAddress() (network, address string, err error) {
	if m.password == "" {
		return "unix", m.socket(), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	return "tcp", l.Addr().String(), l.Close()
}

// answers reports whether the server answers, even with an error.
func (m *managedServer) answers(ctx context.Context) bool {
	conn, err := m.dial(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1))
	return err == nil
}

// dial connects to the running server.
func (m *managedServer) dial(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	network, address := m.network, m.address
	m.mu.Unlock()
	if address == "" {
		return nil, errors.New("the managed redis-server is not started")
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// conf returns the text of the server's redis.conf.
func (m *managedServer) conf(network, address string) string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s %s\n", name, quoteConf(value)) }
	if network == "unix" {
		set("port", "0")
		set("unixsocket", address)
		set("unixsocketperm", "700")
	} else {
		host, port, _ := net.SplitHostPort(address)
		set("bind", host)
		set("port", port)
		set("requirepass", m.password)
	}
	set("dir", m.dir)
	set("daemonize", "no")
	set("supervised", "no")
	set("save", "")
	set("appendonly", "yes")
	set("appendfsync", "always")
	set("no-appendfsync-on-rewrite", "no")
	// A rewrite costs as much as the whole data. None is needed while the file can be read in seconds.
	set("auto-aof-rewrite-min-size", "512mb")
	set("maxmemory-policy", "noeviction")
	return b.String()
}

// quoteConf quotes s for redis.conf, so that any bytes survive.
func quoteConf(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ':
			b.WriteString(`\x` + strconv.FormatUint(uint64(c)+0x100, 16)[1:])
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}
