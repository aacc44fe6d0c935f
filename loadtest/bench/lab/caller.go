package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Answer is one HTTP answer.
type Answer struct {
	Status int
	Body   []byte
}

const (
	// AnswerPatience is how long an answer may take.
	AnswerPatience = 30 * time.Second
	mostBody       = 1 << 20
)

// Caller sends prepared requests on one connection and parses only what it needs of answers. It must be cheap, because
// it shares the machine with what it measures.
type Caller struct {
	Addr string
	conn net.Conn
	from *bufio.Reader
	body []byte
	sent time.Time // just before the last request was written
}

// dial connects. Do calls it if needed.
func (c *Caller) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return fmt.Errorf("connect (ulimit -n must allow it): %w", err)
	}
	c.conn, c.from = conn, bufio.NewReaderSize(conn, 2048)
	return nil
}

// Close closes the connection, if there is one.
func (c *Caller) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// Do sends a request and reads its answer, whose body is valid until the next call.
func (c *Caller) Do(ctx context.Context, request []byte) (Answer, error) {
	if c.conn == nil {
		if err := c.dial(ctx); err != nil {
			return Answer{}, err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(AnswerPatience)); err != nil {
		return Answer{}, err
	}
	c.sent = time.Now()
	if _, err := c.conn.Write(request); err != nil {
		return Answer{}, err
	}
	status, size, err := readHeader(c.from)
	if err != nil {
		return Answer{}, fmt.Errorf("read an answer: %w", err)
	}
	if cap(c.body) < size {
		c.body = make([]byte, size)
	}
	c.body = c.body[:size]
	_, err = io.ReadFull(c.from, c.body)
	return Answer{Status: status, Body: c.body}, err
}

var contentLength = []byte("content-length:")

// readHeader returns the status and the size of the body that follows.
func readHeader(from *bufio.Reader) (status, size int, err error) {
	line, err := from.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	const before = len("HTTP/1.1 ")
	if len(line) < before+3 {
		return 0, 0, fmt.Errorf("the first line is %q", line)
	}
	if status, err = strconv.Atoi(string(line[before : before+3])); err != nil {
		return 0, 0, fmt.Errorf("the first line is %q", line)
	}
	size = -1
	for {
		if line, err = from.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return 0, 0, err
			}
		}
	}
	if size < 0 || size > mostBody {
		return 0, 0, fmt.Errorf("an answer %d has no Content-Length up to %d", status, mostBody)
	}
	return status, size, nil
}

// Ask sends one prepared request on its own connection.
func Ask(ctx context.Context, addr string, request []byte) (Answer, error) {
	c := &Caller{Addr: addr}
	defer c.Close()
	return c.Do(ctx, request)
}
