package trace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// exportTimeout bounds one request to the collector.
	exportTimeout = 5 * time.Second
	// exportAttempts bounds the requests for one batch. After the last its spans are dropped. At most 2,048 spans wait
	// meanwhile.
	exportAttempts = 3
	// maxAnswer is how much of a collector's answer is read.
	maxAnswer = 64 << 10
)

// collector sends spans to an OTLP collector over HTTP. It implements the client of the SDK's exporter. The SDK's own
// client would add all of gRPC to the binary.
type collector struct {
	url    string
	client *http.Client
	pause  time.Duration // before the second attempt; twice that before the third
}

var _ otlptrace.Client = (*collector)(nil)

func newCollector(endpoint string) *collector {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &collector{url: strings.TrimRight(endpoint, "/") + "/v1/traces", pause: time.Second,
		client: &http.Client{Transport: transport, Timeout: exportTimeout}}
}

// Start does nothing: the first batch opens a connection.
func (c *collector) Start(context.Context) error { return nil }

// Stop closes the idle connections.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces sends one batch. It tries again when the collector is busy or away.
func (c *collector) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	// TracesData has the same encoding as OTLP's export request.
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	for attempt := 1; ; attempt++ {
		again, err := c.post(ctx, body)
		if !again || attempt == exportAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(c.pause << (attempt - 1)):
		}
	}
}

// post makes one request. again reports whether a failure may go away by itself.
func (c *collector) post(ctx context.Context, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("send spans: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := c.client.Do(req)
	if err != nil {
		return true, fmt.Errorf("send spans: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // or the connection would not be reused
	switch {
	case resp.StatusCode < http.StatusMultipleChoices:
		return false, nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusBadGateway,
		resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusGatewayTimeout:
		again = true
	}
	return again, fmt.Errorf("send spans: the collector answered %s", resp.Status)
}
