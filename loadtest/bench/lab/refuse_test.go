package lab

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// wantRefusal fails unless err refuses and says the text; an empty text wants no error.
func wantRefusal(t *testing.T, err error, text string) {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	var r *Refusal
	if !errors.As(err, &r) || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want a refusal that says %q", err, text)
	}
}

func TestDriveIsRefusedWhenAnythingWasNotAsExpected(t *testing.T) {
	t.Parallel()
	good := Drive{Requests: 1000, Micros: 1e6, CPU: time.Second, Busy: 0.5}
	for name, c := range map[string]struct {
		change func(*Drive)
		status int
		want   string
	}{
		"all accepted":        {func(*Drive) {}, 202, ""},
		"all refused":         {func(d *Drive) { d.Refused = 1000 }, 409, ""},
		"one refused":         {func(d *Drive) { d.Refused = 1 }, 202, "1 of 1000 answers were refusals"},
		"one accepted":        {func(d *Drive) { d.Refused = 999 }, 409, "1 of 1000 answers were no refusals"},
		"a broken connection": {func(d *Drive) { d.Broken = 1 }, 202, "cut off"},
		"requests used up":    {func(d *Drive) { d.RanOut = 1 }, 202, "ran out"},
		"no answer":           {func(d *Drive) { d.Requests = 0 }, 202, "nothing was answered"},
		"threads always busy": {func(d *Drive) { d.Busy = 0.96 }, 202,
			"the generator was the bottleneck: its threads"},
		"more CPU than the app": {func(d *Drive) { d.CPU = 4 * time.Second }, 202,
			"the generator was the bottleneck: it spent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := good
			c.change(&d)
			wantRefusal(t, d.Check(c.status, 3*time.Second), c.want)
		})
	}
}

const answered = `http_server_request_duration_seconds_count{code="%",method="POST",route="/v1/sales/:sale/orders"}`

func counts(series map[string]float64) Metrics {
	m := Metrics{}
	for name, value := range series {
		if len(name) == 3 {
			name = strings.Replace(answered, "%", name, 1)
		}
		m[name] = value
	}
	return m
}

func TestCountsOfTheGatewayMustAgreeWithTheGenerator(t *testing.T) {
	t.Parallel()
	const admitted = `sluice_orders_admitted_total{sale="bench"}`
	const soldOut = `sluice_orders_rejected_total{code="sold_out",sale="bench"}`
	before := counts(map[string]float64{"202": 100, "409": 1, admitted: 100, soldOut: 1})
	for name, c := range map[string]struct {
		after  map[string]float64
		status int
		code   string
		want   string
	}{
		"accepted":           {map[string]float64{"202": 1100, "409": 1, admitted: 1100}, 202, "", ""},
		"the last under way": {map[string]float64{"202": 1104, "409": 1, admitted: 1104}, 202, "", ""},
		"some under way cut off": {map[string]float64{"202": 1100, "409": 1, "503": 4, admitted: 1100}, 202, "",
			""},
		"answers of another status": {map[string]float64{"202": 1100, "409": 1, "503": 9, admitted: 1100}, 202, "",
			"did not have the status 202"},
		"answers that admitted nothing": {map[string]float64{"202": 1100, "409": 1, admitted: 1050}, 202, "",
			"the gateway counted 950"},
		"orders nobody asked for": {map[string]float64{"202": 1300, "409": 1, admitted: 1300}, 202, "",
			"the gateway counted 1200"},
		"refused for the reason": {map[string]float64{"202": 100, "409": 1001, admitted: 100, soldOut: 1001},
			409, "sold_out", ""},
		"refused for another reason": {map[string]float64{"202": 100, "409": 1001, admitted: 100, soldOut: 501},
			409, "sold_out", "the gateway counted 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckCounts(before, counts(c.after), Expected{Route: OrdersRoute, Status: c.status, Code: c.code},
				1000, 5)
			wantRefusal(t, err, c.want)
		})
	}
}

func TestOpenLoadIsRefusedWhenTheGeneratorFellBehind(t *testing.T) {
	t.Parallel()
	a := Arrivals{Rate: 1000, Count: 1000}
	visits := func(sent, late time.Duration, crowded int) Visits {
		return Visits{Sent: sent, Late: []time.Duration{0, 0, late}, Crowded: crowded}
	}
	wantRefusal(t, visits(time.Second, time.Millisecond, 0).Check(a), "")
	wantRefusal(t, visits(2*time.Second, time.Millisecond, 0).Check(a),
		"it took 2s to send what its schedule has in 1s")
	wantRefusal(t, visits(time.Second, time.Second, 0).Check(a), "behind its schedule")
	wantRefusal(t, visits(time.Second, time.Millisecond, 1).Check(a), "1 of 1000 shoppers found all")
}

func TestARunWhoseAuditIsNotCleanIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer, refused string
	}{
		{`{"verdict":"clean","clean":true,"sales":[{"sale":"a","verdict":"clean"}]}`, ""},
		{`{"verdict":"different","clean":false,"sales":[{"sale":"a","verdict":"clean"},{"sale":"b",` +
			`"verdict":"different","problems":["one unit is missing"]}]}`,
			"different: b: one unit is missing"},
		{`{"verdict":"unknown","clean":null,"problems":["no database"],"sales":[{"sale":"b","verdict":"unknown",` +
			`"problems":["no redis"]}]}`,
			"unknown: no database; b: no redis"},
	} {
		addr := listen(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/admin/v1/audit" {
				_, _ = w.Write([]byte(c.answer))
			}
		})
		err := (&System{Nodes: []*Node{{Ops: addr}}}).audit(t.Context())
		wantRefusal(t, err, c.refused)
	}
}
