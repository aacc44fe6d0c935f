package admin_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/delay"
	"sluice/delay/message"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/internal/testkit/tables"
	"sluice/store"
	"sluice/store/schema"
)

// BenchmarkAddMessages adds messages through the admin API over real connections, in calls of 1,000 from four clients,
// into a Redis that writes to disk before it answers. One operation is one message.
func BenchmarkAddMessages(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	rdb := testkit.Redis(b).Client()
	database := tables.New(b, "sqlite")
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = database.Driver, database.DSN
	db, err := store.Open(b.Context(), cfg, log)
	require.NoError(b, err)
	defer db.Close()
	_, err = schema.Of(db).Migrate(b.Context())
	require.NoError(b, err)
	messages := message.NewStore(message.StoreParts{Config: delay.DefaultConfig(),
		Places: message.Only(rdb, "sluice"), Now: time.Now})
	topics := delay.NewTopics(delay.TopicsParts{Config: delay.DefaultConfig(), DB: db, Messages: messages, Log: log,
		Now: time.Now})
	url := "https://points.example/hook"
	_, err = topics.Create(b.Context(), "bench", delay.Change{URL: &url}, "bench", "")
	require.NoError(b, err)
	authenticator, err := auth.NewAuthenticator(stack.Auth(), nil, time.Now)
	require.NoError(b, err)
	ops := admin.New(admin.Parts{Auth: authenticator, Topics: topics, Messages: messages,
		Gatherer: prometheus.NewRegistry(),
		Draining: func() bool { return false }}, log, time.Now)
	server := httptest.NewServer(ops)
	defer server.Close()
	token, err := auth.Mint(stack.Auth(), "bench", true, time.Hour, time.Now())
	require.NoError(b, err)

	post := func(from, n int) error {
		var body strings.Builder
		for i := range n {
			fmt.Fprintf(&body,
				`,{"id":"m-%d","delay_ms":3600000,"body":{"type":"coupon.expired","data":{"user":"u-123456",`+
					`"coupon":"c-%d","cents":500}}}`, from+i, from+i)
		}
		r, err := http.NewRequest(http.MethodPost, server.URL+"/admin/v1/topics/bench/messages",
			strings.NewReader(`{"messages":[`+body.String()[1:]+`]}`))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("answered %d %.200s", resp.StatusCode, answer)
		}
		return err
	}
	var next atomic.Int64
	var clients sync.WaitGroup
	b.ResetTimer()
	for range 4 {
		clients.Go(func() {
			for {
				from := int(next.Add(1000)) - 1000
				if from >= b.N {
					return
				}
				if err := post(from, min(1000, b.N-from)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	http.DefaultClient.CloseIdleConnections()
}
