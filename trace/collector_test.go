package trace

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// answering returns a collector whose server answers with each status in turn, and repeats the last.
func answering(t *testing.T, statuses ...int) (*collector, *int) {
	t.Helper()
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statuses[min(calls, len(statuses)-1)])
		calls++
	}))
	t.Cleanup(server.Close)
	c := newCollector(server.URL + "/")
	c.pause = time.Millisecond
	t.Cleanup(func() { _ = c.Stop(t.Context()) })
	return c, &calls
}

func TestABusyCollectorIsAskedAgain(t *testing.T) {
	t.Parallel()
	spans := []*otlp.ResourceSpans{{SchemaUrl: "x"}}
	c, calls := answering(t, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusOK)
	require.NoError(t, c.UploadTraces(t.Context(), spans))
	require.Equal(t, 3, *calls)

	c, calls = answering(t, http.StatusBadGateway)
	require.ErrorContains(t, c.UploadTraces(t.Context(), spans), "502")
	require.Equal(t, exportAttempts, *calls, "then the batch is dropped")

	c, calls = answering(t, http.StatusBadRequest, http.StatusOK)
	require.ErrorContains(t, c.UploadTraces(t.Context(), spans), "400")
	require.Equal(t, 1, *calls, "what the collector does not understand is not said twice")
}
