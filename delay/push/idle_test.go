package push_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/tables"
	"sluice/internal/testkit/topics"
)

var callsPattern = regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=(\d+)`)

// commands returns how many commands a server has run, those of scripts included.
func commands(t *testing.T, w *topics.World) (sum int) {
	t.Helper()
	text, err := w.Redis.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	for _, found := range callsPattern.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(found[2])
		require.NoError(t, err)
		sum += n
	}
	return sum
}

// manyTopics makes n topics in one transaction's worth of time, all with the same receiver.
func manyTopics(t *testing.T, w *topics.World, n int, url string) {
	t.Helper()
	now := time.Now().UnixMilli()
	rows := make([]delay.Topic, n)
	for i := range rows {
		rows[i] = delay.Topic{Name: fmt.Sprint("topic-", i), URL: url, Method: "POST", TimeoutMS: 5000, Retries: 1,
			RetryUnitMS: 10, Enabled: 1, CreatedAt: now, UpdatedAt: now, Version: now,
			Secret: "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	}
	require.NoError(t, w.DB.Write.WithContext(t.Context()).CreateInBatches(&rows, 50).Error)
	require.NoError(t, w.Topics.Refresh(t.Context()))
	for _, topic := range rows {
		require.NoError(t, w.Messages.Raise(t.Context(), delay.Topic{Name: topic.Name, Version: topic.Version}))
	}
}

// TestIdleTopicsCostLittle counts what a notifier asks Redis of 200 topics that have nothing to do. They asked 4,550
// commands a second once.
func TestIdleTopicsCostLittle(t *testing.T) {
	t.Parallel()
	cfg := topics.Config()
	cfg.Poll = delay.DefaultConfig().Poll
	w := topics.New(t, testkit.Redis(t).Addr(), tables.New(t, "sqlite"), cfg)
	r := providers.NewReceiver(t, providers.AcceptAll)
	manyTopics(t, w, 200, r.URL)
	w.Add("topic-7", topics.Message("far", time.Hour))
	w.Dispatch()
	window := time.NewTicker(5 * time.Second)
	defer window.Stop()
	before, began := 0, time.Time{}
	for range 2 { // the second is without the first looks
		before, began = commands(t, w), time.Now()
		<-window.C
	}
	perSecond := float64(commands(t, w)-before) / time.Since(began).Seconds()
	t.Logf("%.0f commands a second", perSecond)
	require.Less(t, perSecond, 600.0)
}

// TestAnIdleTopicIsOnTime adds messages by another process to topics that are looked at once a second. Each comes in
// time all the same.
func TestAnIdleTopicIsOnTime(t *testing.T) {
	t.Parallel()
	w := topics.Real(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	manyTopics(t, w, 50, r.URL)
	w.Dispatch()
	require.Eventually(t, func() bool { // until it listens
		w.Add("topic-0", topics.Message(fmt.Sprint("begin-", time.Now().UnixNano()), 0))
		return len(r.Calls()) > 0
	}, topics.Patience, 50*time.Millisecond)
	other, pace := w.OtherProcess(), time.NewTicker(60*time.Millisecond) // at every phase of a look
	defer pace.Stop()
	due := map[string]time.Time{}
	for i := range 50 {
		<-pace.C
		id, topic := fmt.Sprint("m-", i), fmt.Sprint("topic-", i)
		at, err := other.Publisher().Add(t.Context(), topic,
			[]delay.New{topics.Message(id, time.Duration(i)*2*time.Millisecond)})
		require.NoError(t, err)
		due[topic+":"+id] = at[0]
	}
	var late []time.Duration
	for id, at := range due {
		require.Eventually(t, func() bool { return len(r.CallsWith(id)) > 0 }, topics.Patience, 10*time.Millisecond)
		late = append(late, r.CallsWith(id)[0].At.Sub(at))
	}
	slices.Sort(late)
	t.Logf("late by %s, at most %s", late[len(late)/2], late[len(late)-1])
	require.Less(t, late[len(late)/2], 250*time.Millisecond, "without being told it would be twice that")
}
