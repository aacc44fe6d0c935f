package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/stack"
)

func TestTopicsThroughTheAdminAPI(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	const topics = "/admin/v1/topics"
	require.Equal(t, http.StatusUnauthorized, s.OpsAs("", http.MethodGet, topics, "").Status)

	made := s.Admin(http.MethodPost, topics,
		`{"name":"coupons","url":"https://points.example/hook","delay_ms":60000,"reason":"new"}`)
	require.Equal(t, http.StatusCreated, made.Status, made.Raw)
	require.True(t, strings.HasPrefix(made.Text("secret"), "whsec_"))
	require.Equal(t, "POST", made.Text("method"))
	require.Equal(t, http.StatusConflict, s.Admin(http.MethodPost, topics,
		`{"name":"coupons","url":"https://points.example/hook"}`).Status)
	bad := s.Admin(http.MethodPost, topics, `{"name":"x","url":"nowhere","retries":-1}`)
	require.Equal(t, http.StatusBadRequest, bad.Status)
	require.Contains(t, bad.Raw, `"url"`)
	require.Contains(t, bad.Raw, `"retries"`)
	require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodPost, topics,
		`{"name":"x","url":"https://a.example","colour":1}`).Status)

	shown := s.Admin(http.MethodGet, topics+"/coupons", "")
	require.Equal(t, http.StatusOK, shown.Status)
	require.NotContains(t, shown.Raw, "whsec_", "a secret is shown once")
	require.NotContains(t, s.Admin(http.MethodGet, topics, "").Raw, "whsec_")
	off := s.Admin(http.MethodPatch, topics+"/coupons", `{"enabled":false,"secret":"`+made.Text("secret")+
		`","reason":"moving"}`)
	require.Equal(t, http.StatusOK, off.Status, off.Raw)
	require.Equal(t, false, off.Body["enabled"])
	require.NotContains(t, off.Raw, "whsec_")
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPatch, topics+"/none", `{}`).Status)
	require.Equal(t, true, s.Admin(http.MethodPost, topics+"/coupons/on", "").Body["enabled"])
	require.Equal(t, false, s.Admin(http.MethodPost, topics+"/coupons/off", `{"reason":"moving again"}`).
		Body["enabled"])
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPost, topics+"/none/off", "").Status)
	require.Contains(t, s.Admin(http.MethodGet, topics+"/none", "").Text("detail"), "no such topic")

	var entries []struct{ Actor, Action, Reason, AfterValue string }
	require.NoError(t, s.DB.Read.Table("admin_log").Where("target = ?", "coupons").Order("id").Find(&entries).Error)
	require.Len(t, entries, 4)
	require.Equal(t, "moving again", entries[3].Reason)
	require.Equal(t, "root", entries[1].Actor)
	require.Equal(t, "moving", entries[1].Reason)
	require.NotContains(t, entries[0].AfterValue, "whsec_")
	require.Equal(t, http.StatusNoContent, s.Admin(http.MethodDelete, topics+"/coupons?reason=over", "").Status)
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodDelete, topics+"/coupons", "").Status)
}

func TestMessagesThroughTheAdminAPI(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	const topic = "/admin/v1/topics/t"
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPost, topic+"/messages",
		`{"messages":[{"id":"a","body":1}]}`).Status)
	require.Equal(t, http.StatusCreated, s.Admin(http.MethodPost, "/admin/v1/topics",
		`{"name":"t","url":"https://a.example","delay_ms":60000}`).Status)

	body :=
		`{"messages":[{"id":"a","body":{"n": 1}},{"id":"b","delay_ms":0,"body":null},{"id":"c",` +
			`"at":"2026-12-24T12:00:00+08:00","body":[]}]}`
	added := s.Admin(http.MethodPost, topic+"/messages", body)
	require.Equal(t, http.StatusOK, added.Status, added.Raw)
	require.Equal(t, added.Raw, s.Admin(http.MethodPost, topic+"/messages", body).
		Raw, "the same again, the same answer")
	conflict := s.Admin(http.MethodPost, topic+"/messages", `{"messages":[{"id":"a","body":{"n": 2}}]}`)
	require.Equal(t, http.StatusConflict, conflict.Status)
	require.Contains(t, conflict.Text("detail"), "message a of topic t")
	for _, wrong := range []string{`{}`, `{"messages":[]}`, `{"messages":[{"id":"/","body":1}]}`,
		`{"messages":[{"id":"x"}]}`, `{"messages":[{"id":"x","body":1,"delay_ms":-1}]}`,
		`{"messages":[{"id":"x","body":1,"delay_ms":9223372036854775807}]}`,
		`{"messages":[{"id":"x","body":"` + strings.Repeat("y", 17_000) + `"}]}`, `[`} {
		g := s.Admin(http.MethodPost, topic+"/messages", wrong)
		require.Equal(t, http.StatusBadRequest, g.Status, "%.60s: %s", wrong, g.Raw)
	}

	a := s.Admin(http.MethodGet, topic+"/messages/a", "")
	require.Equal(t, "pending", a.Text("state"))
	require.Equal(t, map[string]any{"n": 1.0}, a.Body["body"])
	require.Equal(t, "2026-12-24T04:00:00.000Z", s.Admin(http.MethodGet, topic+"/messages/c", "").Text("due_at"))
	require.Equal(t, http.StatusConflict, s.Admin(http.MethodDelete, "/admin/v1/topics/t", "").Status)
	for range 2 {
		require.Equal(t, http.StatusNoContent, s.Admin(http.MethodDelete, topic+"/messages/a", "").Status)
	}
	require.Equal(t, "cancelled", s.Admin(http.MethodGet, topic+"/messages/a", "").Text("state"))
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodDelete, topic+"/messages/never", "").Status)
	require.Equal(t, 2.0, s.Admin(http.MethodGet, topic, "").Body["messages"].(map[string]any)["pending"])

	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPost, topic+"/dead/b/retry", "").Status, "it is not dead")
	s.bury("t", "b", "c")
	list := s.Admin(http.MethodGet, topic+"/dead?limit=1", "")
	require.Equal(t, http.StatusOK, list.Status)
	require.Len(t, list.Body["dead"], 1)
	require.Equal(t, 1.0, list.Body["next"])
	require.Equal(t, http.StatusConflict, s.Admin(http.MethodDelete, topic+"/messages/b", "").Status)
	for _, reason := range []string{strings.Repeat("x", 201), `a\u0000b`, `a\nb`} {
		for _, action := range []string{"b/retry", "c/drop"} {
			require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodPost, topic+"/dead/"+action,
				`{"reason":"`+reason+`"}`).Status)
		}
	}
	require.Equal(t, "dead", s.Admin(http.MethodGet, topic+"/messages/b", "").Text("state"), "refused is not done")
	require.Equal(t, "dead", s.Admin(http.MethodGet, topic+"/messages/c", "").Text("state"))
	require.Equal(t, http.StatusNoContent, s.Admin(http.MethodPost, topic+"/dead/b/retry", `{"reason":"again"}`).Status)
	require.Equal(t, http.StatusNoContent, s.Admin(http.MethodPost, topic+"/dead/c/drop", "").Status)
	require.Equal(t, "pending", s.Admin(http.MethodGet, topic+"/messages/b", "").Text("state"))
	require.Equal(t, "dropped", s.Admin(http.MethodGet, topic+"/messages/c", "").Text("state"))
	var actions []string
	require.NoError(t, s.DB.Read.Table("admin_log").Where("action LIKE ?", "topic.message.%").Order("id").
		Pluck("action", &actions).Error)
	require.Equal(t, []string{"topic.message.cancel", "topic.message.cancel", "topic.message.retry",
		"topic.message.drop"}, actions)
	s.bury("t", "b")
	require.NoError(t, s.DB.Close())
	require.Equal(t, http.StatusServiceUnavailable, s.Admin(http.MethodPost, topic+"/dead/b/drop", "").Status)
	state, err := s.Redis.ZScore(t.Context(), "sluice:delay:{t}:dead", "b").Result()
	require.NoError(t, err, "what cannot be noted is not done")
	require.Equal(t, 1e12, state)
}

// bury makes dead letters of waiting messages, as a dispatcher would.
func (s *world) bury(topic string, ids ...string) {
	s.T.Helper()
	prefix := "sluice:delay:{" + topic + "}:"
	for _, id := range ids {
		require.NoError(s.T, s.Redis.ZRem(s.T.Context(), prefix+"due", id).Err())
		require.NoError(s.T, s.Redis.ZAdd(s.T.Context(), prefix+"dead", redis.Z{Score: 1e12, Member: id}).Err())
		require.NoError(s.T, s.Redis.HSet(s.T.Context(), prefix+"tries", id, "11\t\tthe receiver answered 500").Err())
	}
}

func TestAFullTopicRefusesForNow(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) { c.Still, c.Delay.MaxMessages = true, 1 })
	require.Equal(t, http.StatusCreated, s.Admin(http.MethodPost, "/admin/v1/topics",
		`{"name":"t","url":"https://a.example"}`).Status)
	g := s.Admin(http.MethodPost, "/admin/v1/topics/t/messages",
		`{"messages":[{"id":"a","body":1},{"id":"b","body":1}]}`)
	require.Equal(t, http.StatusServiceUnavailable, g.Status)
	require.Equal(t, "queue_full", g.Text("code"))
	require.NotEmpty(t, g.Header.Get("Retry-After"))
}

func TestAThousandMessagesInOneCall(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	require.Equal(t, http.StatusCreated, s.Admin(http.MethodPost, "/admin/v1/topics",
		`{"name":"t","url":"https://a.example"}`).Status)
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
	g := s.Admin(http.MethodPost, "/admin/v1/topics/t/messages", string(body))
	require.Equal(t, http.StatusOK, g.Status, g.Raw)
	require.Len(t, g.Body["messages"], 1000)
	many, err := json.Marshal(map[string]any{"messages": append(list, one{"more", "x"})})
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodPost, "/admin/v1/topics/t/messages",
		string(many)).Status)
	require.Equal(t, http.StatusRequestEntityTooLarge, s.Admin(http.MethodPost, "/admin/v1/topics/t/messages",
		strings.Repeat(" ", 8<<20+1)).Status)
}

// Messages of a shop's systems are traffic; what somebody adds by hand is a change with who and
// why, and without what it says.
func TestMessagesAddedByHandAreInTheLog(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	const topics = "/admin/v1/topics"
	require.Equal(t, http.StatusCreated, s.Admin(http.MethodPost, topics,
		`{"name":"t","url":"https://points.example/hook"}`).Status)
	for body, status := range map[string]int{
		`{"messages":[{"id":"a","body":"secret"}]}`:                           http.StatusOK,
		`{"messages":[{"id":"b","body":"secret"}],"reason":"ann asked"}`:      http.StatusOK,
		`{"messages":[{"id":"","body":"secret"}],"reason":"refused"}`:         http.StatusBadRequest,
		`{"messages":[{"id":"c","body":"secret"}],"reason":"two\nlines"}`:     http.StatusBadRequest,
		`{"messages":[{"id":"d","delay_ms":-5,"body":1}],"reason":"refused"}`: http.StatusBadRequest,
	} {
		g := s.Admin(http.MethodPost, topics+"/t/messages", body)
		require.Equal(t, status, g.Status, "%s: %s", body, g.Raw)
	}
	var entries []struct{ Actor, Reason, BeforeValue, AfterValue string }
	require.NoError(t, s.DB.Read.Table("admin_log").Where("action = ?", "topic.message.add").Find(&entries).Error)
	require.Len(t, entries, 1)
	require.Equal(t, []string{"root", "ann asked", "null"}, []string{entries[0].Actor, entries[0].Reason,
		entries[0].BeforeValue})
	require.JSONEq(t, `{"count":1,"messages":["b"],"state":"pending"}`, entries[0].AfterValue)
}
