package rewrite

import (
	"encoding/binary"
	"strconv"
	"sync"
)

// The commands of MySQL's protocol that matter here.
const (
	mysqlQuery    = 0x03
	mysqlPing     = 0x0e
	mysqlPrepare  = 0x16
	mysqlExecute  = 0x17
	mysqlLongData = 0x18
	mysqlClose    = 0x19

	mysqlOK    = 0x00
	mysqlError = 0xff

	mysqlHead = 4 // bytes before each packet: three of length, one of sequence
)

// mysqlFilter rewrites one connection of MySQL's protocol. A client sends one
// command and waits for its answer, so one of them is under way at a time.
type mysqlFilter struct {
	refusals *Refusals

	mu       sync.Mutex
	asked    []byte // a packet of the client that is not whole yet
	answered []byte // the same of the server
	greeted  bool
	first    bool              // the next packet of the server begins an answer
	refuse   *Refusal          // what to answer the command under way
	prepared string            // the kind of the statement that is being prepared
	kinds    map[uint32]string // of prepared statements, by their number
}

func newMySQLFilter(refusals *Refusals) *mysqlFilter {
	return &mysqlFilter{refusals: refusals, kinds: map[uint32]string{}}
}

// Request implements Filter.
func (f *mysqlFilter) Request(data []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, data...)
	var out []byte
	for {
		packet, rest := mysqlPacket(f.asked)
		if packet == nil {
			return out
		}
		f.asked = rest
		// Each command begins a new count; what a client says while it logs in goes on counting.
		if packet[3] == 0 && len(packet) > mysqlHead {
			packet = f.command(packet)
		}
		out = append(out, packet...)
	}
}

// command decides what becomes of one command and returns what to send for it.
func (f *mysqlFilter) command(packet []byte) []byte {
	name, body := packet[mysqlHead], packet[mysqlHead+1:]
	if name == mysqlLongData || name == mysqlClose {
		return packet // it has no answer
	}
	f.first, f.prepared, f.refuse = true, "", nil
	kind := ""
	switch name {
	case mysqlQuery:
		kind = kindOf(string(body))
	case mysqlPrepare:
		f.prepared = kindOf(string(body))
	case mysqlExecute:
		if len(body) >= 4 {
			kind = f.kinds[binary.LittleEndian.Uint32(body)]
		}
	}
	with, ok := f.refusals.take(kind)
	if !ok {
		return packet
	}
	f.refuse = &with
	switch {
	case kind == OnCommit && !with.Lies: // a commit that failed has kept nothing
		return mysqlMessage(0, append([]byte{mysqlQuery}, "ROLLBACK"...))
	case kind == OnRead || !with.Lies:
		return mysqlMessage(0, []byte{mysqlPing}) // for an answer to replace
	}
	return packet
}

// Reply implements Filter.
func (f *mysqlFilter) Reply(data []byte) (out []byte, hangUp bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered = append(f.answered, data...)
	for {
		packet, rest := mysqlPacket(f.answered)
		if packet == nil {
			return out, false
		}
		f.answered = rest
		if !f.greeted {
			f.greeted = true
			if with, ok := f.refusals.take(OnConnect); ok {
				return append(out, with.mysqlPacket(packet[3])...), true
			}
		} else if f.first {
			f.first = false
			f.remember(packet)
			if with := f.refuse; with != nil && packet[mysqlHead] == mysqlOK {
				out, f.refuse = append(out, with.mysqlPacket(packet[3])...), nil
				if with.HangUp {
					return out, true
				}
				continue
			}
		}
		out = append(out, packet...)
	}
}

// remember keeps the kind of a statement under the number that the server gave it.
func (f *mysqlFilter) remember(packet []byte) {
	if f.prepared == "" || len(packet) < mysqlHead+5 || packet[mysqlHead] != mysqlOK {
		return
	}
	f.kinds[binary.LittleEndian.Uint32(packet[mysqlHead+1:])] = f.prepared
}

// mysqlPacket cuts the first whole packet off data, with its head.
func mysqlPacket(data []byte) (packet, rest []byte) {
	if len(data) < mysqlHead {
		return nil, data
	}
	size := mysqlHead + int(data[0]) + int(data[1])<<8 + int(data[2])<<16
	if len(data) < size {
		return nil, data
	}
	return data[:size:size], data[size:]
}

func mysqlMessage(sequence byte, payload []byte) []byte {
	size := len(payload)
	return append([]byte{byte(size), byte(size >> 8), byte(size >> 16), sequence}, payload...)
}

// mysqlPacket writes the refusal as an ERR packet.
func (r Refusal) mysqlPacket(sequence byte) []byte {
	code, _ := strconv.ParseUint(r.Code, 10, 16) // a wrong one reads as 0, which no test expects
	state := r.State
	if state == "" {
		state = "HY000"
	}
	payload := binary.LittleEndian.AppendUint16([]byte{mysqlError}, uint16(code))
	return mysqlMessage(sequence, append(payload, "#"+state+r.Text...))
}
