package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// token returns the token that a shop's login would give a user.
func token(user string, admin bool) (string, error) {
	claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}
	if admin {
		claims["role"] = "admin"
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
}

// reply is an answer of either listener.
type reply struct {
	Status   int
	Replayed bool
	Code     string // of a refusal
	OrderID  string
	State    string // the order's status
	Reason   string
	Refund   string // of a payment: required
	Receipt  string // of an accepted order
	Raw      []byte
}

// call makes one HTTP request. An error means that no answer came.
func call(ctx context.Context, client *http.Client, method, url, bearer string, headers map[string]string,
	body any) (reply, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return reply{}, err
	}
	return readReply(response, raw)
}

func readReply(response *http.Response, raw []byte) (reply, error) {
	var body struct {
		Code    string `json:"code"`
		OrderID string `json:"order_id"`
		Reason  string `json:"reason"`
		Receipt string `json:"receipt"`
		Refund  string `json:"refund"`
		Status  any    `json:"status"` // a number in a problem document
	}
	a := reply{Status: response.StatusCode, Raw: raw, Replayed: response.Header.Get("Idempotency-Replayed") == "true"}
	if err := json.Unmarshal(raw, &body); err != nil {
		return a, fmt.Errorf("%s answered %q, which is no JSON: %w", response.Status, raw, err)
	}
	a.Code, a.OrderID, a.Reason, a.Receipt, a.Refund = body.Code, body.OrderID, body.Reason, body.Receipt, body.Refund
	a.State, _ = body.Status.(string)
	return a, nil
}

// admin calls the operations listener of a node.
func (c *cluster) admin(ctx context.Context, n *node, method, path string, body any) (reply, error) {
	_, ops := n.addresses()
	if ops == "" {
		return reply{}, fmt.Errorf("%s does not run", n.name)
	}
	bearer, err := token("checker", true)
	if err != nil {
		return reply{}, err
	}
	return call(ctx, c.client, method, "http://"+ops+"/admin/v1"+path, bearer, nil, body)
}

// openSale creates an open sale and returns when every gateway sells it.
func (c *cluster) openSale(t testing.TB, id string, stock, limit, lineCap int) {
	t.Helper()
	var created reply
	asked := 0
	require.Eventually(t, func() (answered bool) { // a machine that stands still may let the client give up
		var err error
		asked++
		created, err = c.admin(t.Context(), c.nodes[0], http.MethodPost, "/sales", map[string]any{
			"id": id, "title": "Phone", "sku": "P", "stock": stock, "price_cents": 9900, "per_user_limit": limit,
			"cap": lineCap, "open": true,
		})
		return err == nil
	}, loadPatience, time.Millisecond)
	if asked == 1 || created.Status != http.StatusConflict {
		require.Equal(t, http.StatusCreated, created.Status, "%s", created.Raw)
	}
	bearer, err := token("visitor", false)
	require.NoError(t, err)
	for _, n := range c.gateways() {
		require.Eventually(t, func() bool {
			url, _ := n.addresses()
			shown, err := call(t.Context(), c.client, http.MethodGet, "http://"+url+"/v1/sales/"+id, bearer, nil, nil)
			return err == nil && shown.Status == http.StatusOK
		}, startPatience, 10*time.Millisecond, "%s does not sell %s", n.name, id)
	}
}

// auditResult is what an audit says.
type auditResult struct {
	Verdict string `json:"verdict"` // clean, different or unknown
	Sales   []struct {
		Sale       string   `json:"sale"`
		Difference int64    `json:"difference"`
		Problems   []string `json:"problems"`
		Verdict    string   `json:"verdict"`
	} `json:"sales"`
}
