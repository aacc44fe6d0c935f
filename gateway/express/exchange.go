package express

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxRequest = 8 << 10  // bytes of a request's header and body
	usual      = 2 << 10  // initial buffer, large enough for nearly every request
	maxHeaders = 24       // header lines of a request
	maxKept    = 16 << 10 // larger answers' buffers are not reused
)

// exchange is one request and its answer, with all their memory. It is the handler's http.ResponseWriter.
type exchange struct {
	in      []byte // the request's bytes so far
	late    bool   // it came in several pieces
	client  *conn  // the connection of the request
	blank   http.Request
	request http.Request
	url     url.URL
	header  http.Header
	values  [maxHeaders]string
	body    body

	answer http.Header
	status int
	text   []byte // the answer's body
	out    []byte // the encoded answer
}

func newExchange() *exchange {
	x := &exchange{in: make([]byte, 0, usual), header: make(http.Header, 8), answer: make(http.Header, 8)}
	x.blank = *(&http.Request{}).WithContext(caller{context.Background(), x})
	return x
}

// caller is the context of a plain request. It does not end when the client leaves, but HasLeft tells.
type caller struct {
	context.Context
	x *exchange
}

// HasLeft reports whether the client has left, by a system call. It may be called until the handler returns.
func (c caller) HasLeft() bool { return c.x.client.hasLeft() }

// room returns the buffer for the next bytes of the request.
func (x *exchange) room() []byte {
	if len(x.in) == cap(x.in) {
		x.in = append(make([]byte, 0, maxRequest), x.in...)
	}
	return x.in[len(x.in):cap(x.in)]
}

func (x *exchange) full() bool { return len(x.in) == maxRequest }

// reset prepares for the next request. It returns false when the buffers are too large to keep.
func (x *exchange) reset() bool {
	x.in, x.text, x.out, x.status, x.late = x.in[:0], x.text[:0], x.out[:0], 0, false
	clear(x.header)
	clear(x.answer)
	return cap(x.text) <= maxKept && cap(x.in) == usual
}

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.answer }

// WriteHeader implements http.ResponseWriter. Headers set later are sent, too, because nothing is sent before the
// handler returns.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
	}
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.text = append(x.text, p...)
	return len(p), nil
}

// WriteString implements io.StringWriter.
func (x *exchange) WriteString(s string) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.text = append(x.text, s...)
	return len(s), nil
}

// finish encodes the answer and reports whether the connection ends with it.
func (x *exchange) finish(date string, last bool) bool {
	x.WriteHeader(http.StatusOK)
	b := append(x.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(append(append(b, ' '), http.StatusText(x.status)...), "\r\n"...)
	for name, values := range x.answer {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Date":
			continue
		case "Connection":
			last = last || len(values) > 0 && strings.EqualFold(values[0], "close")
			continue
		}
		for _, v := range values {
			b = appendLine(b, name, v)
		}
	}
	empty := x.status == http.StatusNoContent || x.status == http.StatusNotModified
	if _, typed := x.answer["Content-Type"]; !typed && !empty && len(x.text) > 0 {
		b = appendLine(b, "Content-Type", http.DetectContentType(x.text))
	}
	b = append(b, date...)
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	if !empty {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(x.text)), 10), "\r\n"...)
	}
	b = append(b, "\r\n"...)
	if !empty {
		b = append(b, x.text...)
	}
	x.out = b
	return last
}

// appendLine writes one header line. A line break in a value becomes a space, as in net/http, so that it cannot begin
// another header.
func appendLine(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	from := len(b)
	b = append(b, value...)
	for i := from; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

// body is a request's body, which is in memory.
type body struct {
	bytes []byte
	read  int
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.read == len(b.bytes) {
		return 0, io.EOF
	}
	n := copy(p, b.bytes[b.read:])
	b.read += n
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }

// Bytes returns the whole body. It is valid until the handler returns.
func (b *body) Bytes() []byte { return b.bytes }
