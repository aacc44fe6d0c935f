package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// providerKey is what the payment provider signs with.
const providerKey = "the key of the payment provider!"

// unpaidFor is how long orders may stay unpaid in a plan with payments.
const unpaidFor = 1500 * time.Millisecond

// mustPay returns the environment of a system whose orders must be paid.
func mustPay(timeout time.Duration) []string {
	return []string{"SLUICE_PAYMENT__SECRET=whsec_" + base64.StdEncoding.EncodeToString([]byte(providerKey)),
		"SLUICE_PAYMENT__TIMEOUT=" + timeout.String()}
}

// methodPay is a payment in the history of answers.
const methodPay = "PAY"

func payment(id string, units int) map[string]any {
	return map[string]any{"payment_id": id, "amount_cents": 9900 * units, "currency": "CNY"}
}

// signature signs a payload as the provider does.
func signature(id string, body any) map[string]string {
	text, err := json.Marshal(body)
	if err != nil {
		return nil
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(providerKey))
	mac.Write([]byte(id + "." + stamp + "." + string(text)))
	return map[string]string{"webhook-id": id, "webhook-timestamp": stamp,
		"webhook-signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

// pay waits until the order has a status, or has ended otherwise, and then
// sends the payment until it is told what became of it.
func (v *visit) pay(ctx context.Context, r *request, id, when string) {
	for state, try := "", 1; state != when; try++ {
		if state == "paid" || state == "failed" || state == "cancelled" || state == "expired" || ctx.Err() != nil {
			break
		}
		a := v.send(ctx, r, http.MethodGet, "/orders/"+id, nil, nil)
		if a.err == nil && a.reply.Status == http.StatusNotFound {
			return // gone with a Redis that lost its data
		}
		state = a.reply.State
		_ = v.rest(ctx, try)
	}
	body := payment("pay-"+id, r.units)
	for try := 1; ; try++ {
		a := v.exchange(ctx, r, methodPay, http.MethodPost, "/orders/"+id+"/payment", signature("msg-"+id, body), body)
		if a.err == nil && a.reply.Status != http.StatusTooEarly && !comeBack(a.reply) ||
			v.rest(ctx, try) != nil {
			return
		}
	}
}

// inNoStore reports a payment that the database has lost and the line does not know. The line was away
// for as long as whoever took the payment waited for it, or it lost what it was told then.
func (k *checker) inNoStore(r *request) bool {
	if !k.plan.has(func(f fault) bool { return f.kind == dbPromote }) {
		return false
	}
	for _, a := range r.by(methodPay) {
		if a.err != nil || a.reply.Status != http.StatusOK {
			continue
		}
		if may, _ := k.breaker.mayLose(a); may || a.got.Sub(a.sent) > showPatience {
			return true
		}
	}
	return false
}

// showPatience is a little less than how long a payment waits for the line to show it.
const showPatience = 1900 * time.Millisecond

// checkPayments holds every payment's answer against what became of its order.
func (k *checker) checkPayments(rows map[string]orderRow) {
	for id, r := range k.history.accepted() {
		row, recorded := rows[id]
		told := ""
		for _, a := range r.by(methodPay) {
			if a.err != nil || a.reply.Status != http.StatusOK {
				continue
			}
			now := a.reply.State + " " + a.reply.Refund
			k.findings.addIf(told != "" && told != now, "the payment of %s was answered %q and then %q", id, told, now)
			told = now
		}
		paid := told == "paid "
		k.findings.addIf(told != "" && !recorded,
			"the payment of %s was answered %q and the database has no such order", id, told)
		k.findings.addIf(paid && row.Status != "paid" && !k.inNoStore(r),
			"the payment of %s was taken and the order is %s", id, row.Status)
		k.findings.addIf(!paid && row.Status == "paid", "order %s is paid, its payment was answered %q", id, told)
		if paid {
			k.findings.paid++
		}
	}
	for _, row := range rows {
		k.findings.addIf(k.plan.pays && row.Status == "confirmed", "order %s is confirmed at rest and has not expired",
			row.ID)
		if row.Status == "expired" {
			k.findings.expired++
		}
	}
}

// TestFromAcceptedToPaidAndFromExpiredToResold follows one unit: its first
// shopper does not pay, its second does, and the first one's payment comes late.
func TestFromAcceptedToPaidAndFromExpiredToResold(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"sqlite", "mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, openStores(t, testkit.NewDatabase(t, driver), nil),
				system{layout: layout{allRoles}, logs: t.TempDir(), env: mustPay(2 * time.Second)})
			c.openSale(t, "phone", 1, 1, 100)
			ann, bob := c.shopper(t, "ann"), c.shopper(t, "bob")
			first := ann.must(http.MethodPost, "/orders", http.StatusAccepted, nil).OrderID
			require.Equal(t, "confirmed", ann.until(first, "confirmed").State)
			require.Equal(t, "sold_out", bob.must(http.MethodPost, "/orders", http.StatusConflict, nil).Code)
			require.Equal(t, "expired", ann.until(first, "expired").State)

			expired := time.Now()
			var second reply
			for second.Status != http.StatusAccepted {
				asked := time.Since(expired)
				second = bob.must(http.MethodPost, "/orders", 0, nil)
				require.False(t, second.Code == "sold_out" && asked > 200*time.Millisecond,
					"still sold out %s after the unit came back", asked)
			}
			bob.until(second.OrderID, "confirmed")
			paid := bob.must(http.MethodPost, "/orders/"+second.OrderID+"/payment", http.StatusOK,
				payment("pay-bob", 1))
			require.Equal(t, "paid", paid.State, "%s", paid.Raw)
			require.Empty(t, paid.Refund)
			require.Equal(t, "paid", bob.until(second.OrderID, "paid").State)
			require.Equal(t, "not_cancellable", bob.must(http.MethodDelete, "/orders/"+second.OrderID,
				http.StatusConflict, nil).Code)

			late := ann.must(http.MethodPost, "/orders/"+first+"/payment", http.StatusOK, payment("pay-ann", 1))
			require.Equal(t, "expired", late.State)
			require.Equal(t, "required", late.Refund)
			again := ann.must(http.MethodPost, "/orders/"+first+"/payment", http.StatusOK, payment("pay-ann", 1))
			require.Equal(t, late.Refund, again.Refund, "repeated")
			rows, err := c.stores.orders(t.Context(), "phone")
			require.NoError(t, err)
			require.Equal(t, "expired", rows[first].Status)
			require.Equal(t, "paid", rows[second.OrderID].Status)
			for event, id := range map[string]string{"order.confirmed": first, "order.expired": first,
				"order.refund_required": first, "order.paid": second.OrderID} {
				require.Eventually(t, func() bool {
					events, err := c.stores.events(t.Context())
					return err == nil && events[event+" "+id] == 1
				}, 10*time.Second, 20*time.Millisecond, "%s %s", event, id)
			}
			k := &checker{cluster: c, sale: "phone", findings: &findings{}}
			k.checkAudit(t.Context())
			require.Empty(t, k.findings.wrong)
		})
	}
}

// shopper is one user of a sale called phone at the first gateway.
type shopper struct {
	t      *testing.T
	c      *cluster
	bearer string
}

func (c *cluster) shopper(t *testing.T, user string) *shopper {
	t.Helper()
	bearer, err := token(user, false)
	require.NoError(t, err)
	return &shopper{t: t, c: c, bearer: bearer}
}

// must asks and requires a status, any with 0; a body is signed as the provider does.
func (s *shopper) must(method, path string, status int, body map[string]any) reply {
	s.t.Helper()
	var headers map[string]string
	var sent any
	if body != nil {
		sent, headers = body, signature("msg", body)
	}
	url, _ := s.c.nodes[0].addresses()
	a, err := call(s.t.Context(), s.c.client, method, "http://"+url+"/v1/sales/phone"+path, s.bearer, headers, sent)
	require.NoError(s.t, err)
	require.True(s.t, status == 0 || status == a.Status, "%s %s: %d %s", method, path, a.Status, a.Raw)
	return a
}

// until polls an order until it has a status.
func (s *shopper) until(id, state string) reply {
	s.t.Helper()
	var a reply
	require.Eventually(s.t, func() bool {
		a = s.must(http.MethodGet, "/orders/"+id, http.StatusOK, nil)
		return a.State == state
	}, 20*time.Second, 10*time.Millisecond, "never became %s", state)
	return a
}
