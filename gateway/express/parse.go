package express

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// endOfHeader is the empty line that ends a header.
const endOfHeader = "\r\n\r\n"

// parse parses the bytes so far. Only a complete plain request is filled in. It follows RFC 9112, restricted to what
// cannot be read in two ways. A test checks that net/http reads the same request from the same bytes.
func (x *exchange) parse(s *Server) readResult {
	end := bytes.Index(x.in, []byte(endOfHeader))
	switch {
	case end < 0 && x.doubtful(s):
		return strange
	case end < 0:
		return partial
	}
	// net/http counts the empty line and allows some slack, so it decides on headers close to the bound.
	if s.whole.MaxHeaderBytes > 0 && end > s.whole.MaxHeaderBytes {
		return strange
	}
	head := string(x.in[:end+2])
	line, rest, _ := strings.Cut(head, "\r\n")
	method, path, ok := requestLine(line)
	if !ok || !s.plain(method, path) || !x.readHeader(rest) {
		return strange
	}
	length, ok := x.length(method)
	if !ok {
		return strange
	}
	from := end + len(endOfHeader)
	switch have := len(x.in) - from; {
	case length > maxRequest-from || have > length: // too long, or a second request after the first
		return strange
	case have < length:
		clear(x.header)
		return partial
	}
	x.fill(method, path, length)
	return whole
}

// doubtful reports whether an incomplete header is already one for net/http, which may answer at once.
func (x *exchange) doubtful(s *Server) bool {
	if bytes.Count(x.in, []byte("\n")) != bytes.Count(x.in, []byte("\r\n")) {
		return true
	}
	line, _, ended := strings.Cut(string(x.in), "\r\n")
	method, path, ok := requestLine(line)
	return ended && !(ok && s.plain(method, path))
}

func (x *exchange) fill(method, path string, length int) {
	x.url = url.URL{Path: path}
	x.request = x.blank
	r := &x.request
	r.Method, r.URL, r.RequestURI = method, &x.url, path
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header, r.Host = x.header, x.header["Host"][0]
	r.ContentLength, r.Body = int64(length), http.NoBody
	delete(x.header, "Host")
	if length > 0 {
		x.body = body{bytes: x.in[len(x.in)-length:]}
		x.request.Body = &x.body
	}
}

// requestLine parses the line of a GET or POST of a path that needs no decoding.
func requestLine(line string) (method, path string, ok bool) {
	method, rest, _ := strings.Cut(line, " ")
	path, proto, _ := strings.Cut(rest, " ")
	if method != http.MethodPost && method != http.MethodGet || proto != "HTTP/1.1" || !strings.HasPrefix(path, "/") {
		return "", "", false
	}
	for i := 0; i < len(path); i++ {
		if !inPath(path[i]) {
			return "", "", false
		}
	}
	return method, path, true
}

// readHeader parses header lines that each end with CRLF.
func (x *exchange) readHeader(lines string) bool {
	for n := 0; lines != ""; n++ {
		end := strings.IndexByte(lines, '\r')
		if n == maxHeaders || end < 0 || lines[end+1] != '\n' {
			return false
		}
		colon := strings.IndexByte(lines[:end], ':')
		if colon <= 0 {
			return false
		}
		name, value := lines[:colon], strings.Trim(lines[colon+1:end], " \t")
		if !isToken(name) || !isText(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if _, twice := x.header[name]; twice {
			return false
		}
		x.values[n] = value
		x.header[name] = x.values[n : n+1 : n+1]
		lines = lines[end+2:]
	}
	return x.plainHeader()
}

// plainHeader reports whether no header changes how the request is read or answered.
func (x *exchange) plainHeader() bool {
	for _, name := range [...]string{"Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma"} {
		if _, has := x.header[name]; has {
			return false
		}
	}
	if kept := x.header["Connection"]; kept != nil && !strings.EqualFold(kept[0], "keep-alive") {
		return false
	}
	host := x.header["Host"]
	if host == nil || host[0] == "" {
		return false
	}
	for i := 0; i < len(host[0]); i++ {
		if !inHost(host[0][i]) {
			return false
		}
	}
	return true
}

// length returns the body's length, or false when it is not given in digits or a GET has a body.
func (x *exchange) length(method string) (int, bool) {
	given := x.header["Content-Length"]
	if given == nil {
		return 0, true
	}
	if method != http.MethodPost || given[0] == "" || len(given[0]) > 5 {
		return 0, false
	}
	n := 0
	for i := 0; i < len(given[0]); i++ {
		digit := given[0][i] - '0'
		if digit > 9 {
			return 0, false
		}
		n = 10*n + int(digit)
	}
	return n, true
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !inToken(s[i]) {
			return false
		}
	}
	return true
}

// isText reports whether s is printable ASCII, spaces and tabs.
func isText(s string) bool {
	for i := 0; i < len(s); i++ {
		if b := s[i]; (b < ' ' && b != '\t') || b > '~' {
			return false
		}
	}
	return true
}

func alphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

func inPath(b byte) bool {
	switch b {
	case '/', '-', '.', '_', '~':
		return true
	}
	return alphanumeric(b)
}

// inToken reports whether b is a tchar of RFC 9110.
func inToken(b byte) bool {
	switch b {
	case '-', '!', '#', '$', '%', '&', '\'', '*', '+', '.', '^', '_', '`', '|', '~':
		return true
	}
	return alphanumeric(b)
}

func inHost(b byte) bool {
	switch b {
	case '-', '.', ':', '[', ']':
		return true
	}
	return alphanumeric(b)
}
