package trace

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"sluice/internal/testkit"
	"sluice/notify"
	"sluice/queue"
	"sluice/queue/worker"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

func tracer(t *testing.T, sample float64) *Tracer {
	t.Helper()
	traced, err := Open(t.Context(), Config{Endpoint: "http://127.0.0.1:1", Sample: sample}, "test",
		slog.New(slog.DiscardHandler), time.Now)
	require.NoError(t, err)
	t.Cleanup(func() { _ = traced.Close(context.Background()) }) // no collector listens there
	return traced
}

// TestSampling checks that sampling depends on the id alone and matches the configured fraction.
func TestSampling(t *testing.T) {
	quarter, again, none, all := tracer(t, 0.25), tracer(t, 0.25), tracer(t, 0), tracer(t, 1)
	for version, fresh := range map[int]func() uuid.UUID{4: uuid.New, 7: func() uuid.UUID {
		return uuid.Must(uuid.NewV7())
	}} {
		hits := 0
		for range 4000 {
			order := fresh().String()
			_, sampled := quarter.sampled(order)
			_, other := again.sampled(order)
			require.Equal(t, sampled, other, "two processes decide alike")
			_, never := none.sampled(order)
			id, always := all.sampled(order)
			require.False(t, never)
			require.True(t, always)
			require.True(t, id.root().IsValid())
			if sampled {
				hits++
			}
		}
		require.InDelta(t, 1000, hits, 200, "version %d", version)
	}
	for _, odd := range []string{"", "x", strings.Repeat("a", 36), uuid.New().URN()} {
		_, sampled := all.sampled(odd)
		require.False(t, sampled, odd)
	}
}

func TestLogLinesNameTheTrace(t *testing.T) {
	var out bytes.Buffer
	order := uuid.NewString()
	log := slog.New(tracer(t, 1).Log(slog.NewJSONHandler(&out, nil))).With("part", "test")
	log.Info("about it", "order", order)
	log.Info("about another thing", "sale", "s")
	log.WithGroup("g").Info("no order", "order", 7)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Contains(t, lines[0], `"trace_id":"`+strings.ReplaceAll(order, "-", "")+`"`)
	require.Contains(t, lines[0], `"part":"test"`)
	require.NotContains(t, lines[1]+lines[2], "trace_id")

	out.Reset()
	slog.New(tracer(t, 0).Log(slog.NewJSONHandler(&out, nil))).Info("not sampled", "order", order)
	require.NotContains(t, out.String(), "trace_id")
}

func TestFailureOf(t *testing.T) {
	t.Parallel()
	outcomes := []queue.Outcome{{ID: "ok", Op: queue.OpConfirm}, {ID: "no", Op: queue.OpFail, Reason: "sold_out"},
		{ID: "again", Op: queue.OpRetry}}
	require.Empty(t, failureText("ok", outcomes, nil))
	require.Equal(t, "sold_out", failureText("no", outcomes, nil))
	require.Equal(t, "to be tried again", failureText("again", outcomes, nil))
	require.Equal(t, "given back", failureText("missing", outcomes, nil))
	require.Equal(t, "no database", failureText("missing", nil, errText("no database")))
}

// away is a wide channel whose receiver is down.
type away struct{ notify.Channel }

func (away) Width() int           { return 10 }
func (away) Pause() time.Duration { return time.Second }

func TestATracedChannelIsAsWideAndPausesAsItWas(t *testing.T) {
	t.Parallel()
	traced, plain := tracer(t, 1).Channel(away{}), tracer(t, 1).Channel(struct{ notify.Channel }{})
	require.Equal(t, 10, traced.(notify.Wide).Width())
	require.Equal(t, time.Second, traced.(notify.Pausing).Pause())
	require.Equal(t, 1, plain.(notify.Wide).Width())
	require.Zero(t, plain.(notify.Pausing).Pause())
}

type errText string

func (e errText) Error() string { return string(e) }

func TestConfigNamesTheKey(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	for _, bad := range []string{"collector:4318", "ftp://collector", "http://"} {
		require.ErrorContains(t, Config{Endpoint: bad}.Validate(), "trace.endpoint")
	}
	for _, bad := range []float64{-0.1, 1.1, math.NaN()} {
		require.ErrorContains(t, Config{Sample: bad}.Validate(), "trace.sample")
	}
}

// fulfils is a handler that confirms every ticket, or fails for multi-sale batches.
type fulfils struct {
	worker.MultiSaleHandler
	err error
}

func (f fulfils) HandleMultiSale(_ context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
	answers := make([][]queue.Outcome, len(batches))
	for i, b := range batches {
		for _, ticket := range b.Tickets {
			answers[i] = append(answers[i], queue.Outcome{ID: ticket.ID, Op: queue.OpConfirm})
		}
	}
	return answers, f.err
}

// TestOrdersOfAMultiSaleBatchAreTraced checks that orders of a multi-sale batch have the same spans as others. After a
// failure of the batch they are recorded when they are handled again.
func TestOrdersOfAMultiSaleBatchAreTraced(t *testing.T) {
	traced, kept := tracer(t, 1), tracetest.NewSpanRecorder()
	traced.provider.RegisterSpanProcessor(kept)
	batches := []queue.Batch{{ID: "b", Sale: "phone", Tickets: []queue.Ticket{{ID: uuid.NewString(), Seq: 1},
		{ID: uuid.NewString(), Seq: 2}}},
		{ID: "b", Sale: "tv", Tickets: []queue.Ticket{{ID: uuid.NewString(), Seq: 1}}}}
	_, err := traced.Handler(fulfils{err: errText("not together")}).HandleMultiSale(t.Context(), batches)
	require.Error(t, err)
	require.Empty(t, kept.Ended())
	answers, err := traced.Handler(fulfils{}).HandleMultiSale(t.Context(), batches)
	require.NoError(t, err)
	require.Len(t, answers, 2)
	names := map[string]int{}
	for _, s := range kept.Ended() {
		names[s.Name()]++
		for _, a := range s.Attributes() {
			if a.Key == "sluice.sale" {
				names[a.Value.AsString()]++
			}
		}
	}
	require.Equal(t, map[string]int{"order.wait": 3, "order.fulfil": 3, "phone": 4, "tv": 2}, names)
}
