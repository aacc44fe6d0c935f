package gateway

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/queue"
)

// receiptHeader is the request header with a receipt; the query ?receipt= is an alternative.
const receiptHeader = "Sluice-Receipt"

// ErrReceipt says that a receipt is not valid for this order and user.
var ErrReceipt = errors.New("the receipt is not valid for this order")

// Receipts signs and reads receipts. A receipt has everything that the line needs to readmit an order whose ticket
// Redis lost. Only the order's owner can use it.
type Receipts struct{ signer *signer }

// NewReceipts returns Receipts with a key derived from a secret that all gateways share.
func NewReceipts(secret string) (*Receipts, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "sluice receipt v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the receipts' key: %w", err)
	}
	return &Receipts{signer: newSigner(key)}, nil
}

const (
	receiptVersion = "1"
	receiptMAC     = 16 // bytes of the HMAC-SHA256 that a receipt has
	receiptFields  = 7
	receiptEpoch   = 0 // unused, was the epoch: a repeated answer must not differ after a rebuild
	maxReceipt     = 256
)

// Sign returns the receipt of a ticket in a sale, always the same for the same ticket.
func (r *Receipts) Sign(sale string, t queue.Ticket) string {
	var room [maxReceipt]byte
	text := append(room[:0], receiptVersion...)
	for _, n := range [...]int64{t.Seq, receiptEpoch, int64(t.Units), t.AdmittedAt.UnixMilli()} {
		text = strconv.AppendInt(append(text, '.'), n, 36)
	}
	text = append(append(text, '.'), t.Fingerprint...)
	mac := r.mac(sale, t.ID, t.User, string(text))
	return string(base64.RawURLEncoding.AppendEncode(append(text, '.'), mac[:]))
}

// Read returns the ticket of a receipt, or ErrReceipt. It is safe for any text.
func (r *Receipts) Read(sale, id, user, receipt string) (queue.Ticket, error) {
	cut := strings.LastIndexByte(receipt, '.')
	if cut < 0 || len(receipt) > maxReceipt {
		return queue.Ticket{}, ErrReceipt
	}
	body := receipt[:cut]
	mac, err := base64.RawURLEncoding.Strict().DecodeString(receipt[cut+1:])
	if err != nil || !r.signed(mac, sale, id, user, body) {
		return queue.Ticket{}, ErrReceipt
	}
	f := strings.Split(receipt, ".")
	if len(f) != receiptFields || f[0] != receiptVersion {
		return queue.Ticket{}, ErrReceipt
	}
	var n [4]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(f[i+1], 36, 64); err != nil || n[i] < 0 {
			return queue.Ticket{}, ErrReceipt
		}
	}
	return queue.Ticket{ID: id, User: user, State: queue.Queued, Seq: n[0], Units: int(n[2]),
		AdmittedAt: time.UnixMilli(n[3]).UTC(), Fingerprint: f[5]}, nil
}

func (r *Receipts) signed(mac []byte, parts ...string) bool {
	want := r.mac(parts...)
	return subtle.ConstantTimeCompare(mac, want[:]) == 1
}

func (r *Receipts) mac(parts ...string) (short [receiptMAC]byte) {
	sum := r.signer.sign(parts...)
	copy(short[:], sum[:])
	return short
}
