package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"sluice/api"

	"github.com/stretchr/testify/require"
)

// orderPages answers with total orders of the sale s, page by page.
func orderPages(total int, user func(int) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(strings.TrimSuffix(r.URL.Query().Get("cursor"), "_x"))
		size, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || size < 1 || size > 100 || r.URL.Path != "/admin/v1/sales/s/orders" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"code":"invalid_request","detail":"bad page"}`)
			return
		}
		page := map[string]any{}
		orders := []any{}
		for n := from; n < min(from+size, total); n++ {
			orders = append(orders, map[string]any{"order_id": "o" + strconv.Itoa(n), "sale_id": "s", "user": user(n),
				"status": "confirmed", "quantity": 1,
				"price_cents": 9900, "currency": "CNY", "admitted_at": "2027-06-01T12:00:00.000Z"})
		}
		page["orders"] = orders
		if from+size < total {
			page["next_cursor"] = strconv.Itoa(from+size) + "_x"
		}
		_ = json.NewEncoder(w).Encode(page)
	}
}

func plainUser(n int) string { return "user" + strconv.Itoa(n) }

func TestExportCSV(t *testing.T) {
	t.Parallel()
	names := []string{`=HYPERLINK("http://x")`, "+1", "-1", "@cmd", "a,b", `say "hi"`, "ann", "\tx"}
	env, ops := operations(t, orderPages(250, func(n int) string { return names[n%len(names)] }))
	got := sluice(t, env, "order", "export", "--sale", "s", "--format", "csv", ops)
	require.Equal(t, exitSuccess, got.code, got.err)
	rows, err := csv.NewReader(strings.NewReader(got.out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 251)
	require.Equal(t, []string{"order_id", "sale_id", "user", "status", "reason", "quantity", "price_cents", "currency",
		"admitted_at", "confirmed_at", "ended_at"}, rows[0])
	for n, row := range rows[1:] {
		want := names[n%len(names)]
		if strings.ContainsAny(want[:1], "=+-@\t") {
			want = "'" + want
		}
		require.Equal(t, []string{"o" + strconv.Itoa(n), "s", want, "confirmed", "", "1", "9900", "CNY",
			"2027-06-01T12:00:00.000Z", "", ""}, row)
	}
}

func TestExportJSON(t *testing.T) {
	t.Parallel()
	for _, total := range []int{0, 1, 100, 201} {
		env, ops := operations(t, orderPages(total, plainUser))
		got := sluice(t, env, "order", "export", "--sale", "s", "--format", "json", ops)
		require.Equal(t, exitSuccess, got.code, got.err)
		var orders []api.AdminOrder
		require.NoError(t, json.Unmarshal([]byte(got.out), &orders))
		require.Len(t, orders, total)
		for n, o := range orders {
			require.Equal(t, plainUser(n), o.User)
		}
	}
}

// TestExportBreaksOff checks that a broken export fails and leaves no valid JSON.
func TestExportBreaksOff(t *testing.T) {
	t.Parallel()
	pages := orderPages(250, plainUser)
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Query().Get("cursor"), "200") {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"code":"unavailable","detail":"no database"}`)
			return
		}
		pages(w, r)
	})
	got := sluice(t, env, "order", "export", "--sale", "s", "--format", "json", ops)
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, "sluice: sale s: unavailable: no database\n", got.err)
	require.False(t, json.Valid([]byte(got.out)))
}

func TestExportDoesNotGoInCircles(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"orders":[{"order_id":"o"}],"next_cursor":"again"}`)
	})
	got := sluice(t, env, "order", "export", "--sale", "s", "--format", "csv", ops)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, `do not go on at cursor "again"`)
}

func TestOrderList(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, orderPages(250, plainUser))
	for _, c := range []struct{ limit, want int }{{1, 1}, {20, 20}, {150, 150}, {250, 250}, {1000, 250}} {
		limit := fmt.Sprintf("--limit=%d", c.limit)
		got := sluice(t, env, "order", "list", "--sale", "s", limit, ops)
		require.Equal(t, exitSuccess, got.code, got.err)
		require.Equal(t, c.want < 250, strings.Contains(got.out, "\nmore with --cursor "))
		require.Equal(t, c.want, strings.Count(got.out, "\no"))
		require.Regexp(t, `(?m)^o0 +user0 +confirmed +- +1 +2027-06-01T12:00:00.000Z +-$`, got.out)

		var list struct {
			Orders []api.AdminOrder
			Next   string `json:"next_cursor"`
		}
		require.NoError(t, json.Unmarshal([]byte(sluice(t, env, "order", "list", "--sale", "s", limit, "--json",
			ops).out), &list))
		require.Len(t, list.Orders, c.want)
		require.Equal(t, c.want < 250, list.Next != "")
	}
}

func TestOrderShow(t *testing.T) {
	t.Parallel()
	const order = `{"order_id":"o1","sale_id":"s","user":"ann\u0007","status":"queued","quantity":2,` +
		`"price_cents":9905,"currency":"CNY","position":4}`
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/admin/v1/orders/o1" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"code":"not_found","detail":"no such order"}`)
			return
		}
		_, _ = io.WriteString(w, order)
	})
	got := sluice(t, env, "order", "show", "o1", ops)
	require.Equal(t, exitSuccess, got.code, got.err)
	for _, want := range []string{`user +ann `, `price +99\.05 CNY`, `position +4`, `confirmed +-`} {
		require.Regexp(t, `(?m)^`+want+`$`, got.out)
	}
	require.Equal(t, order+"\n", sluice(t, env, "order", "show", "o1", "--json", ops).out)
	got = sluice(t, env, "order", "show", "o2", ops)
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, "sluice: order o2: not_found: no such order\n", got.err)
}
