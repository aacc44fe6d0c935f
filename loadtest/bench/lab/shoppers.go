package lab

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// OrdersRoute is the route for placing orders, as in metrics.
const OrdersRoute = "/v1/sales/:sale/orders"

// secret signs the tokens of the shoppers and of the administrator.
const secret = "a benchmark's secret of 32 bytes or more" // #nosec G101 -- of a system that exists for minutes

// Requests is a file of prepared HTTP requests of one size, each from another shopper.
type Requests struct {
	File        string
	Count, Size int
}

// At reads the n-th request.
func (r Requests) At(n int) ([]byte, error) {
	f, err := os.Open(r.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, r.Size)
	_, err = f.ReadAt(text, int64(n)*int64(r.Size))
	return text, err
}

// token returns a signed token that is valid for a day. Tokens of names of one length have one length.
func token(user, role string, now time.Time) string {
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, user, now.Unix(), now.Add(24*time.Hour).Unix())
	if role != "" {
		claims = fmt.Sprintf(`{"sub":%q,"role":%q,"iat":%d,"exp":%d}`, user, role, now.Unix(),
			now.Add(24*time.Hour).Unix())
	}
	return sign(claims)
}

// workToken returns the token of another system, for topic bench and subscription readers.
func workToken(now time.Time) string {
	return sign(fmt.Sprintf(`{"sub":"bench","publish":["bench"],"subscribe":["readers"],"iat":%d,"exp":%d}`, now.Unix(),
		now.Add(24*time.Hour).Unix()))
}

func sign(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	sum := hmac.New(sha256.New, []byte(secret))
	sum.Write([]byte(text))
	return text + "." + encode(sum.Sum(nil))
}

func shopper(n int) string { return fmt.Sprintf("shopper-%08d", n) }

// orderRequest returns the request of a shopper's order in a sale.
func orderRequest(sale string, n int, now time.Time) string {
	return fmt.Sprintf("POST /v1/sales/%s/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nIdempotency-Key: click-%08d\r\nContent-Length: 14\r\n\r\n{\"quantity\":1}",
		sale, token(shopper(n), "", now), n)
}

// PollRequest returns the request of an owner for an order.
func PollRequest(path string, n int, now time.Time) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n\r\n", path,
		token(shopper(n), "", now))
}

// Orders writes count orders; the n-th is shopper n's, in the sale that saleOf(n) names. All names must have one
// length.
func (l *Lab) Orders(name string, count int, saleOf func(n int) string) (Requests, error) {
	return l.Requests(name, count, func(n int, now time.Time) string { return orderRequest(saleOf(n), n, now) })
}

// OrdersIn writes count orders of one sale. Every round has a new system, which knows none of them.
func (l *Lab) OrdersIn(sale string, count int) (Requests, error) {
	if r := l.files[sale]; r.Count >= count {
		r.Count = count
		return r, nil
	}
	r, err := l.Orders("orders-"+sale, count, func(int) string { return sale })
	l.files[sale] = r
	return r, err
}

// Requests writes a file of count requests that text returns.
func (l *Lab) Requests(name string, count int, text func(n int, now time.Time) string) (Requests, error) {
	now := time.Now()
	r := Requests{File: filepath.Join(l.Dir, name+".requests"), Count: count, Size: len(text(0, now))}
	f, err := os.Create(r.File)
	if err != nil {
		return r, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for n := range count {
		one := text(n, now)
		if len(one) != r.Size {
			return r, fmt.Errorf("request %d of %s has %d bytes, the first has %d", n, name, len(one), r.Size)
		}
		if _, err := w.WriteString(one); err != nil {
			return r, err
		}
	}
	if err := w.Flush(); err != nil {
		return r, err
	}
	return r, f.Close()
}
