package gateway

import (
	"fmt"
	"testing"
	"time"

	"sluice/api"

	"github.com/stretchr/testify/require"
)

func TestRefusalsASecond(t *testing.T) {
	t.Parallel()
	var m refusalMeter
	start := time.UnixMilli(1_000_000)
	at := func(second int, phone, tv float64) map[string]float64 {
		return m.observe(start.Add(time.Duration(second)*time.Second), map[string]float64{"phone": phone, "tv": tv})
	}
	require.Empty(t, at(0, 100, 7), "what was before the first look has no rate")
	require.Equal(t, map[string]float64{"phone": 50}, at(2, 200, 7), "sales without refusals are absent")
	require.Equal(t, map[string]float64{"phone": 120, "tv": 1}, at(5, 700, 12))
	require.Equal(t, map[string]float64{"phone": 100, "tv": 1}, at(7, 700, 12), "over the last five seconds")
	require.Empty(t, at(13, 700, 12), "and then it is over")
}

func TestRefusalsOfTheBusiestSales(t *testing.T) {
	t.Parallel()
	var m refusalMeter
	totals := map[string]float64{}
	m.observe(time.UnixMilli(1000), totals)
	totals = map[string]float64{}
	for i := range refusalSales + 10 {
		totals[fmt.Sprint(i)] = float64(i + 1)
	}
	rates := m.observe(time.UnixMilli(2000), totals)
	require.Len(t, rates, refusalSales)
	require.NotContains(t, rates, "9")
	require.Contains(t, rates, "10")
}

// Refusals count whether Redis made them or the gateway by itself.
func TestTheGatewayCountsItsRefusals(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1)
	s.place("ann", "phone")
	s.gateway.Refused()
	now := time.Now()
	const shoppers = 20
	for i := range shoppers {
		s.refused(api.CodeSoldOut, s.do(fmt.Sprint("late-", i), "POST", "/v1/sales/phone/orders", `{"quantity":1}`))
	}
	require.Eventually(t, func() bool {
		rate := s.gateway.Refused()["phone"]
		return rate > 0 && rate*time.Since(now).Seconds() > shoppers/2.0
	}, patience, time.Millisecond)
	require.Equal(t, map[string]float64{"phone": shoppers}, s.gateway.admission.metrics.refusals())
}
