package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestTopicsThroughTheAdminAPI(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	const topics = "/admin/v1/topics"
	require.Equal(t, http.StatusUnauthorized, s.opsAs("", http.MethodGet, topics, "").status)

	made := s.admin(http.MethodPost, topics,
		`{"name":"coupons","url":"https://points.example/hook","delay_ms":60000,"reason":"new"}`)
	require.Equal(t, http.StatusCreated, made.status, made.raw)
	require.True(t, strings.HasPrefix(made.text("secret"), "whsec_"))
	require.Equal(t, "POST", made.text("method"))
	require.Equal(t, http.StatusConflict, s.admin(http.MethodPost, topics,
		`{"name":"coupons","url":"https://points.example/hook"}`).status)
	bad := s.admin(http.MethodPost, topics, `{"name":"x","url":"nowhere","retries":-1}`)
	require.Equal(t, http.StatusBadRequest, bad.status)
	require.Contains(t, bad.raw, `"url"`)
	require.Contains(t, bad.raw, `"retries"`)
	require.Equal(t, http.StatusBadRequest, s.admin(http.MethodPost, topics,
		`{"name":"x","url":"https://a.example","colour":1}`).status)

	shown := s.admin(http.MethodGet, topics+"/coupons", "")
	require.Equal(t, http.StatusOK, shown.status)
	require.NotContains(t, shown.raw, "whsec_", "a secret is shown once")
	require.NotContains(t, s.admin(http.MethodGet, topics, "").raw, "whsec_")
	off := s.admin(http.MethodPatch, topics+"/coupons", `{"enabled":false,"secret":"`+made.text("secret")+
		`","reason":"moving"}`)
	require.Equal(t, http.StatusOK, off.status, off.raw)
	require.Equal(t, false, off.body["enabled"])
	require.NotContains(t, off.raw, "whsec_")
	require.Equal(t, http.StatusNotFound, s.admin(http.MethodPatch, topics+"/none", `{}`).status)
	require.Equal(t, true, s.admin(http.MethodPost, topics+"/coupons/on", "").body["enabled"])
	require.Equal(t, false, s.admin(http.MethodPost, topics+"/coupons/off", `{"reason":"moving again"}`).
		body["enabled"])
	require.Equal(t, http.StatusNotFound, s.admin(http.MethodPost, topics+"/none/off", "").status)
	require.Contains(t, s.admin(http.MethodGet, topics+"/none", "").text("detail"), "no such topic")

	var entries []struct{ Actor, Action, Reason, AfterValue string }
	require.NoError(t, s.db.Read.Table("admin_log").Where("target = ?", "coupons").Order("id").Find(&entries).Error)
	require.Len(t, entries, 4)
	require.Equal(t, "moving again", entries[3].Reason)
	require.Equal(t, "root", entries[1].Actor)
	require.Equal(t, "moving", entries[1].Reason)
	require.NotContains(t, entries[0].AfterValue, "whsec_")
	require.Equal(t, http.StatusNoContent, s.admin(http.MethodDelete, topics+"/coupons?reason=over", "").status)
	require.Equal(t, http.StatusNotFound, s.admin(http.MethodDelete, topics+"/coupons", "").status)
}

func TestMessagesThroughTheAdminAPI(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	const topic = "/admin/v1/topics/t"
	require.Equal(t, http.StatusNotFound, s.admin(http.MethodPost, topic+"/messages",
		`{"messages":[{"id":"a","body":1}]}`).status)
	require.Equal(t, http.StatusCreated, s.admin(http.MethodPost, "/admin/v1/topics",
		`{"name":"t","url":"https://a.example","delay_ms":60000}`).status)

	body :=
		`{"messages":[{"id":"a","body":{"n": 1}},{"id":"b","delay_ms":0,"body":null},{"id":"c",` +
			`"at":"2026-12-24T12:00:00+08:00","body":[]}]}`
	added := s.admin(http.MethodPost, topic+"/messages", body)
	require.Equal(t, http.StatusOK, added.status, added.raw)
	require.Equal(t, added.raw, s.admin(http.MethodPost, topic+"/messages", body).
		raw, "the same again, the same answer")
	conflict := s.admin(http.MethodPost, topic+"/messages", `{"messages":[{"id":"a","body":{"n": 2}}]}`)
	require.Equal(t, http.StatusConflict, conflict.status)
	require.Contains(t, conflict.text("detail"), "message a of topic t")
	for _, wrong := range []string{`{}`, `{"messages":[]}`, `{"messages":[{"id":"/","body":1}]}`,
		`{"messages":[{"id":"x"}]}`, `{"messages":[{"id":"x","body":1,"delay_ms":-1}]}`,
		`{"messages":[{"id":"x","body":1,"delay_ms":9223372036854775807}]}`,
		`{"messages":[{"id":"x","body":"` + strings.Repeat("y", 17_000) + `"}]}`, `[`} {
		g := s.admin(http.MethodPost, topic+"/messages", wrong)
		require.Equal(t, http.StatusBadRequest, g.status, "%.60s: %s", wrong, g.raw)
	}

	a := s.admin(http.MethodGet, topic+"/messages/a", "")
	require.Equal(t, "pending", a.text("state"))
	require.Equal(t, map[string]any{"n": 1.0}, a.body["body"])
	require.Equal(t, "2026-12-24T04:00:00.000Z", s.admin(http.MethodGet, topic+"/messages/c", "").text("due_at"))
	require.Equal(t, http.StatusConflict, s.admin(http.MethodDelete, "/admin/v1/topics/t", "").status)
	for range 2 {
		require.Equal(t, http.StatusNoContent, s.admin(http.MethodDelete, topic+"/messages/a", "").status)
	}
	require.Equal(t, "cancelled", s.admin(http.MethodGet, topic+"/messages/a", "").text("state"))
	require.Equal(t, http.StatusNotFound, s.admin(http.MethodDelete, topic+"/messages/never", "").status)
	require.Equal(t, 2.0, s.admin(http.MethodGet, topic, "").body["messages"].(map[string]any)["pending"])

	require.Equal(t, http.StatusNotFound, s.admin(http.MethodPost, topic+"/dead/b/retry", "").status, "it is not dead")
	s.bury("t", "b", "c")
	list := s.admin(http.MethodGet, topic+"/dead?limit=1", "")
	require.Equal(t, http.StatusOK, list.status)
	require.Len(t, list.body["dead"], 1)
	require.Equal(t, 1.0, list.body["next"])
	require.Equal(t, http.StatusConflict, s.admin(http.MethodDelete, topic+"/messages/b", "").status)
	for _, reason := range []string{strings.Repeat("x", 201), `a\u0000b`, `a\nb`} {
		for _, action := range []string{"b/retry", "c/drop"} {
			require.Equal(t, http.StatusBadRequest, s.admin(http.MethodPost, topic+"/dead/"+action,
				`{"reason":"`+reason+`"}`).status)
		}
	}
	require.Equal(t, "dead", s.admin(http.MethodGet, topic+"/messages/b", "").text("state"), "refused is not done")
	require.Equal(t, "dead", s.admin(http.MethodGet, topic+"/messages/c", "").text("state"))
	require.Equal(t, http.StatusNoContent, s.admin(http.MethodPost, topic+"/dead/b/retry", `{"reason":"again"}`).status)
	require.Equal(t, http.StatusNoContent, s.admin(http.MethodPost, topic+"/dead/c/drop", "").status)
	require.Equal(t, "pending", s.admin(http.MethodGet, topic+"/messages/b", "").text("state"))
	require.Equal(t, "dropped", s.admin(http.MethodGet, topic+"/messages/c", "").text("state"))
	var actions []string
	require.NoError(t, s.db.Read.Table("admin_log").Where("action LIKE ?", "topic.message.%").Order("id").
		Pluck("action", &actions).Error)
	require.Equal(t, []string{"topic.message.cancel", "topic.message.cancel", "topic.message.retry",
		"topic.message.drop"}, actions)
	s.bury("t", "b")
	require.NoError(t, s.db.Close())
	require.Equal(t, http.StatusServiceUnavailable, s.admin(http.MethodPost, topic+"/dead/b/drop", "").status)
	state, err := s.rdb.ZScore(t.Context(), "sluice:delay:{t}:dead", "b").Result()
	require.NoError(t, err, "what cannot be noted is not done")
	require.Equal(t, 1e12, state)
}

// bury makes dead letters of waiting messages, as a dispatcher would.
func (s *stack) bury(topic string, ids ...string) {
	s.t.Helper()
	prefix := "sluice:delay:{" + topic + "}:"
	for _, id := range ids {
		require.NoError(s.t, s.rdb.ZRem(s.t.Context(), prefix+"due", id).Err())
		require.NoError(s.t, s.rdb.ZAdd(s.t.Context(), prefix+"dead", redis.Z{Score: 1e12, Member: id}).Err())
		require.NoError(s.t, s.rdb.HSet(s.t.Context(), prefix+"tries", id, "11\t\tthe receiver answered 500").Err())
	}
}

func TestAFullTopicRefusesForNow(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still, c.delay.MaxMessages = true, 1 })
	require.Equal(t, http.StatusCreated, s.admin(http.MethodPost, "/admin/v1/topics",
		`{"name":"t","url":"https://a.example"}`).status)
	g := s.admin(http.MethodPost, "/admin/v1/topics/t/messages",
		`{"messages":[{"id":"a","body":1},{"id":"b","body":1}]}`)
	require.Equal(t, http.StatusServiceUnavailable, g.status)
	require.Equal(t, "queue_full", g.text("code"))
	require.NotEmpty(t, g.header.Get("Retry-After"))
}

func TestAThousandMessagesInOneCall(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	require.Equal(t, http.StatusCreated, s.admin(http.MethodPost, "/admin/v1/topics",
		`{"name":"t","url":"https://a.example"}`).status)
	type one struct {
		ID   string `json:"id"`
		Body string `json:"body"`
	}
	list := make([]one, 1000)
	for i := range list {
		list[i] = one{fmt.Sprint("m", i), strings.Repeat("x", 1000)}
	}
	body, err := json.Marshal(map[string]any{"messages": list})
	require.NoError(t, err)
	g := s.admin(http.MethodPost, "/admin/v1/topics/t/messages", string(body))
	require.Equal(t, http.StatusOK, g.status, g.raw)
	require.Len(t, g.body["messages"], 1000)
	many, err := json.Marshal(map[string]any{"messages": append(list, one{"more", "x"})})
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, s.admin(http.MethodPost, "/admin/v1/topics/t/messages",
		string(many)).status)
	require.Equal(t, http.StatusRequestEntityTooLarge, s.admin(http.MethodPost, "/admin/v1/topics/t/messages",
		strings.Repeat(" ", 8<<20+1)).status)
}

// Messages of a shop's systems are traffic; what somebody adds by hand is a change with who and
// why, and without what it says.
func TestMessagesAddedByHandAreInTheLog(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	const topics = "/admin/v1/topics"
	require.Equal(t, http.StatusCreated, s.admin(http.MethodPost, topics,
		`{"name":"t","url":"https://points.example/hook"}`).status)
	for body, status := range map[string]int{
		`{"messages":[{"id":"a","body":"secret"}]}`:                           http.StatusOK,
		`{"messages":[{"id":"b","body":"secret"}],"reason":"ann asked"}`:      http.StatusOK,
		`{"messages":[{"id":"","body":"secret"}],"reason":"refused"}`:         http.StatusBadRequest,
		`{"messages":[{"id":"c","body":"secret"}],"reason":"two\nlines"}`:     http.StatusBadRequest,
		`{"messages":[{"id":"d","delay_ms":-5,"body":1}],"reason":"refused"}`: http.StatusBadRequest,
	} {
		g := s.admin(http.MethodPost, topics+"/t/messages", body)
		require.Equal(t, status, g.status, "%s: %s", body, g.raw)
	}
	var entries []struct{ Actor, Reason, BeforeValue, AfterValue string }
	require.NoError(t, s.db.Read.Table("admin_log").Where("action = ?", "topic.message.add").Find(&entries).Error)
	require.Len(t, entries, 1)
	require.Equal(t, []string{"root", "ann asked", "null"}, []string{entries[0].Actor, entries[0].Reason,
		entries[0].BeforeValue})
	require.JSONEq(t, `{"count":1,"messages":["b"],"state":"pending"}`, entries[0].AfterValue)
}
