// Package providers plays the outside ones in tests, over real sockets: a mail server, and endpoints that are called.
package providers

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"sluice/internal/testkit"

	"github.com/stretchr/testify/require"
)

// MailServer is a mail server on loopback that speaks TLS and asks for a login. A test may change its replies.
type MailServer struct {
	t        testing.TB
	listener net.Listener
	tls      *tls.Config
	caFile   string

	StartTLS bool          // it asks to switch to TLS
	Whole    bool          // sessions begin with TLS
	Release  chan struct{} // ends every "wait"
	Login    string        // user\x00password; empty: none is asked for

	mu       sync.Mutex
	mails    []string
	sessions int
	reply    func(step, line string) string // a reply instead of the usual one; "drop" closes, "hang" says nothing more
	open     map[net.Conn]bool
	loops    sync.WaitGroup
}

// NewMailServer returns a server that speaks in the clear unless change says otherwise. It ends with the test.
func NewMailServer(t testing.TB, change func(*MailServer)) *MailServer {
	t.Helper()
	s := &MailServer{t: t, open: map[net.Conn]bool{}, reply: func(string, string) string { return "" }}
	s.certify()
	change(s)
	var err error
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.loops.Go(s.accept)
	t.Cleanup(s.Stop)
	return s
}

func (s *MailServer) certify() {
	certFile, keyFile := testkit.Certificate(s.t, s.t.TempDir(), 1)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(s.t, err)
	s.caFile, s.tls = certFile, &tls.Config{Certificates: []tls.Certificate{pair}}
}

// Addr returns host:port.
func (s *MailServer) Addr() string { return s.listener.Addr().String() }

// CAFile returns the file with the certificate to trust.
func (s *MailServer) CAFile() string { return s.caFile }

// Received returns the mails that were taken, each with its envelope.
func (s *MailServer) Received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

// Sessions returns how many connections there were.
func (s *MailServer) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Answer makes the server reply with f from now on.
func (s *MailServer) Answer(f func(step, line string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = f
}

// DropAll closes every open connection, as a server does with idle ones.
func (s *MailServer) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		_ = conn.Close()
	}
}

// Stop ends the server and its sessions. Doing it again changes nothing.
func (s *MailServer) Stop() {
	_ = s.listener.Close()
	s.DropAll()
	s.loops.Wait()
}

func (s *MailServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.sessions++
		s.open[conn] = true
		s.mu.Unlock()
		s.loops.Go(func() {
			s.serve(conn)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.open, conn)
			s.mu.Unlock()
		})
	}
}

func (s *MailServer) serve(conn net.Conn) {
	secured, known, mail := s.Whole, s.Login == "", ""
	if s.Whole {
		conn = tls.Server(conn, s.tls)
	}
	in := bufio.NewReader(conn)
	say := func(step, line, usual string) bool {
		s.mu.Lock()
		reply := s.reply(step, line)
		s.mu.Unlock()
		switch reply {
		case "drop":
			return false
		case "hang":
			_, _ = in.ReadByte() // until the client gives up
			return false
		case "wait":
			<-s.Release
			reply = usual
		case "":
			reply = usual
		}
		_, err := fmt.Fprintf(conn, "%s\r\n", reply)
		return err == nil
	}
	if !say("connect", "", "220 mail ready") {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		var ok bool
		switch strings.ToUpper(verb) {
		case "EHLO":
			offers := []string{"mail", "8BITMIME", "ENHANCEDSTATUSCODES"}
			if s.StartTLS && !secured {
				offers = append(offers, "STARTTLS")
			}
			if s.Login != "" && secured {
				offers = append(offers, "AUTH PLAIN")
			}
			ok = say("ehlo", line, "250-"+strings.Join(offers, "\r\n250-")+"\r\n250 SIZE 1000000")
		case "STARTTLS":
			if ok = say("starttls", line, "220 go on"); ok {
				conn, secured = tls.Server(conn, s.tls), true
				in = bufio.NewReader(conn)
			}
		case "AUTH":
			_, encoded, _ := strings.Cut(rest, " ")
			given, _ := base64.StdEncoding.DecodeString(encoded)
			if known = secured && string(given) == "\x00"+s.Login; known {
				ok = say("auth", line, "235 welcome")
			} else {
				ok = say("auth", line, "535 5.7.8 wrong password for "+string(given))
			}
		case "MAIL":
			if mail = line + "\n"; known {
				ok = say("mail", line, "250 ok")
			} else {
				ok = say("mail", line, "530 log in first")
			}
		case "RCPT":
			mail += line + "\n"
			ok = say("rcpt", line, "250 ok")
		case "DATA":
			if ok = say("data", line, "354 go on"); !ok {
				return
			}
			for {
				text, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if text == ".\r\n" {
					break
				}
				mail += text
			}
			s.mu.Lock()
			refused := s.reply("end", mail)
			if refused == "" || strings.HasPrefix(refused, "2") {
				s.mails = append(s.mails, mail)
			}
			s.mu.Unlock()
			ok = say("end", mail, "250 taken")
		case "RSET", "NOOP":
			ok = say(strings.ToLower(verb), line, "250 ok")
		case "QUIT":
			say("quit", line, "221 bye")
			return
		default:
			ok = say("other", line, "502 what?")
		}
		if !ok {
			return
		}
	}
}

// Subjects returns the subjects of the mails that a server has taken, in their order.
func (s *MailServer) Subjects() (list []string) {
	for _, mail := range s.Received() {
		for line := range strings.Lines(mail) {
			if text, ok := strings.CutPrefix(line, "Subject: "); ok {
				list = append(list, strings.TrimSpace(text))
			}
		}
	}
	return list
}
