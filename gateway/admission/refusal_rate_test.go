package admission

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRefusalsASecond(t *testing.T) {
	t.Parallel()
	var m rateMeter
	start := time.UnixMilli(1_000_000)
	at := func(second int, phone, tv float64) map[string]float64 {
		return m.observe(start.Add(time.Duration(second)*time.Second), map[string]float64{"phone": phone, "tv": tv})
	}
	require.Empty(t, at(0, 100, 7), "what was before the first sample has no rate")
	require.Equal(t, map[string]float64{"phone": 50}, at(2, 200, 7), "sales without refusals are absent")
	require.Equal(t, map[string]float64{"phone": 120, "tv": 1}, at(5, 700, 12))
	require.Equal(t, map[string]float64{"phone": 100, "tv": 1}, at(7, 700, 12), "over the last five seconds")
	require.Empty(t, at(13, 700, 12), "and then it is over")
}

func TestRefusalsOfTheBusiestSales(t *testing.T) {
	t.Parallel()
	var m rateMeter
	totals := map[string]float64{}
	m.observe(time.UnixMilli(1000), totals)
	totals = map[string]float64{}
	for i := range rateSales + 10 {
		totals[fmt.Sprint(i)] = float64(i + 1)
	}
	rates := m.observe(time.UnixMilli(2000), totals)
	require.Len(t, rates, rateSales)
	require.NotContains(t, rates, "9")
	require.Contains(t, rates, "10")
}
