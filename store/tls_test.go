package store_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/store"
)

// encrypted starts a server that calls greet before TLS and reports how the handshakes end.
func encrypted(t *testing.T, greet func(net.Conn) error) (addr, certFile string, handshakes <-chan error) {
	t.Helper()
	certFile, keyFile := testkit.Certificate(t, t.TempDir(), 1)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if err = greet(conn); err == nil {
				err = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
			}
			ended <- err
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String(), certFile, ended
}

// postgresGreeting answers yes to a client that asks for TLS.
func postgresGreeting(conn net.Conn) error {
	var request [8]byte
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(request[4:]) != 80877103 {
		return io.ErrUnexpectedEOF // the client goes on without TLS
	}
	_, err := conn.Write([]byte("S"))
	return err
}

// mysqlGreeting offers TLS and reads the client's request for it.
func mysqlGreeting(conn net.Conn) error {
	body := append([]byte{10}, "8.0.0\x00\x01\x00\x00\x0012345678\x00"...)
	// capabilities: PROTOCOL_41, SSL, SECURE_CONNECTION, PLUGIN_AUTH
	body = append(body, 0x00, 0x8a, 45, 2, 0, 0x08, 0, 21)
	body = append(body, make([]byte, 10)...)
	body = append(body, "123456789012\x00mysql_native_password\x00"...)
	if _, err := conn.Write(append([]byte{byte(len(body)), 0, 0, 0}, body...)); err != nil {
		return err
	}
	var request [36]byte
	_, err := io.ReadFull(conn, request[:])
	return err
}

func TestCAFileEncryptsAndVerifies(t *testing.T) {
	t.Parallel()
	for driver, c := range map[string]struct {
		greet func(net.Conn) error
		dsn   func(addr string) string
	}{
		// No DSN asks for TLS: the file decides.
		store.Postgres: {postgresGreeting, func(addr string) string {
			return "postgres://sluice:x@" + addr +
				"/sluice?sslmode=disable"
		}},
		store.MySQL: {mysqlGreeting, func(addr string) string {
			return "sluice:x@tcp(" + addr +
				")/sluice?tls=false"
		}},
	} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			addr, ca, handshakes := encrypted(t, c.greet)
			cfg := store.DefaultConfig()
			cfg.Driver, cfg.DSN, cfg.CAFile, cfg.TxTimeout = driver, c.dsn(addr), ca, time.Second
			open := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				db, err := store.Open(ctx, cfg, slog.New(slog.DiscardHandler))
				if err == nil {
					err = db.Close()
				}
				return err
			}
			require.Error(t, open(), "nothing speaks behind the handshake")
			require.NoError(t, <-handshakes)

			stranger, _, refusals := encrypted(t, c.greet)
			cfg.DSN = c.dsn(stranger)
			require.Error(t, open())
			require.Error(t, <-refusals, "a server that another authority vouches for is refused")

			cfg.CAFile = filepath.Join(t.TempDir(), "none")
			require.ErrorContains(t, open(), "database.ca_file")
			require.NoError(t, os.WriteFile(cfg.CAFile, []byte("no pem"), 0o600))
			require.ErrorContains(t, open(), "holds no PEM certificate")
		})
	}
	cfg := store.DefaultConfig()
	cfg.CAFile = "ca.pem"
	require.ErrorContains(t, cfg.Validate(), "database.ca_file")
}
