package rewrite

import (
	"bytes"
	"encoding/binary"
	"sync"
)

const (
	pgHead       = 5        // bytes before each message: its type and its length, which counts itself
	pgSSLRequest = 80877103 // in place of a protocol version
	pgGSSRequest = 80877104
	pgCancel     = 80877102 // another connection's command is to end
)

// postgresFilter rewrites one connection of PostgreSQL's protocol. What a
// client sends up to a Sync, or in one Query, is one unit with one answer.
type postgresFilter struct {
	refusals *Refusals

	mu       sync.Mutex
	asked    []byte // a message of the client that is not whole yet
	answered []byte // the same of the server
	begun    bool   // the start-up message has passed
	refuseIn *Refusal

	unit  []byte            // the messages of the unit so far
	kind  string            // of what it executes
	kinds map[string]string // of prepared statements, by name

	refuse []*Refusal // for each unit sent, in order; nil passes
	sent   bool       // the error of the answer under way has been sent
}

func newPostgresFilter(refusals *Refusals) *postgresFilter {
	return &postgresFilter{refusals: refusals, kinds: map[string]string{}}
}

// Request implements Filter.
func (f *postgresFilter) Request(data []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, data...)
	var out []byte
	if !f.begun {
		out = f.begin()
	}
	for f.begun {
		message, rest := pgMessage(f.asked)
		if message == nil {
			break
		}
		f.asked = rest
		out = append(out, f.collect(message)...)
	}
	return out
}

// begin passes the messages that have no type. They are requests for encryption, which the server
// refuses as it has none, and the one that names the user.
func (f *postgresFilter) begin() []byte {
	if len(f.asked) < 8 {
		return nil
	}
	size := int(binary.BigEndian.Uint32(f.asked))
	if len(f.asked) < size {
		return nil
	}
	code := binary.BigEndian.Uint32(f.asked[4:])
	f.begun = code != pgSSLRequest && code != pgGSSRequest
	if f.begun && code != pgCancel {
		if with, ok := f.refusals.take(OnConnect); ok {
			f.refuseIn = &with
		}
	}
	out := f.asked[:size:size]
	f.asked = f.asked[size:]
	return out
}

// collect returns a unit once it is whole, or what is sent for it.
func (f *postgresFilter) collect(message []byte) []byte {
	body := message[pgHead:]
	switch message[0] {
	case 'Q':
		f.kind = kindOf(string(bytes.TrimRight(body, "\x00")))
	case 'P': // Parse: the statement's name and its text
		name, text, _ := bytes.Cut(body, []byte{0})
		text, _, _ = bytes.Cut(text, []byte{0})
		f.kinds[string(name)] = kindOf(string(text))
	case 'B': // Bind: the portal's name and the statement's
		_, name, _ := bytes.Cut(body, []byte{0})
		name, _, _ = bytes.Cut(name, []byte{0})
		f.kind = f.kinds[string(name)]
	case 'p', 'X', 'H': // a password, the end, and a flush belong to no unit
		return append(f.take(), message...)
	}
	f.unit = append(f.unit, message...)
	if message[0] != 'Q' && message[0] != 'S' {
		return nil
	}
	kind := f.kind
	unit := f.take()
	with, ok := f.refusals.take(kind)
	if !ok {
		f.refuse = append(f.refuse, nil)
		return unit
	}
	f.refuse = append(f.refuse, &with)
	switch {
	case kind == OnCommit && !with.Lies: // a commit that failed has kept nothing
		return pgQuery("ROLLBACK")
	case kind == OnRead || !with.Lies:
		return pgQuery("refused") // is wrong, and fails the transaction as the error would
	}
	return unit
}

// take empties the unit.
func (f *postgresFilter) take() []byte {
	unit := f.unit
	f.unit, f.kind = nil, ""
	return unit
}

// Reply implements Filter.
func (f *postgresFilter) Reply(data []byte) (out []byte, hangUp bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuseIn != nil {
		return f.refuseIn.pgMessage(), true
	}
	if !f.begun {
		return data, false // a single letter: whether it encrypts
	}
	f.answered = append(f.answered, data...)
	for {
		message, rest := pgMessage(f.answered)
		if message == nil {
			return out, false
		}
		f.answered = rest
		message, hangUp = f.answer(message)
		out = append(out, message...)
		if hangUp {
			return out, true
		}
	}
}

// answer returns what the client gets for one message of the server.
func (f *postgresFilter) answer(message []byte) (out []byte, hangUp bool) {
	ready := message[0] == 'Z'
	if len(f.refuse) == 0 {
		return message, false // it logs in, or is told something unasked
	}
	with := f.refuse[0]
	if ready {
		f.refuse = f.refuse[1:]
	}
	switch {
	case with == nil:
		return message, false
	case ready:
		sent := f.sent
		f.sent = false
		if !sent {
			out = with.pgMessage()
		}
		if with.HangUp {
			return out, true
		}
		return append(out, message...), false
	case f.sent:
		return nil, false
	}
	f.sent = true
	return with.pgMessage(), false
}

// pgMessage cuts the first whole message off data.
func pgMessage(data []byte) (message, rest []byte) {
	if len(data) < pgHead {
		return nil, data
	}
	size := 1 + int(binary.BigEndian.Uint32(data[1:]))
	if len(data) < size {
		return nil, data
	}
	return data[:size:size], data[size:]
}

func pgFrame(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...) // #nosec G115 -- short
}

func pgQuery(text string) []byte { return pgFrame('Q', append([]byte(text), 0)) }

// pgMessage writes the refusal as an ErrorResponse. One that ends the connection is fatal.
func (r Refusal) pgMessage() []byte {
	severity := "ERROR"
	if r.HangUp || r.On == OnConnect {
		severity = "FATAL"
	}
	var body []byte
	for _, field := range []string{"S" + severity, "V" + severity, "C" + r.Code, "M" + r.Text} {
		body = append(append(body, field...), 0)
	}
	return pgFrame('E', append(body, 0))
}
