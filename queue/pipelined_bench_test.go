package queue_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// redisCPU is the CPU time that a Redis has used.
func redisCPU(b *testing.B, rdb *redis.Client) time.Duration {
	b.Helper()
	info, err := rdb.Info(b.Context(), "cpu").Result()
	require.NoError(b, err)
	var used float64
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			used += seconds
		}
	}
	return time.Duration(used * float64(time.Second))
}

// BenchmarkManySales measures what each line costs Redis when sixty of them are asked in one round
// trip: redis-µs is its CPU time for one line.
func BenchmarkManySales(b *testing.B) {
	const sales = 60
	rdb := testkit.ProductClient(b, testkit.Redis(b).Addr())
	s := queues.OpenSale()
	s.Cap, s.Total = queue.MaxCap, 1_000_000_000
	lines, names, asks := queue.NewLines(rdb, queue.DefaultPrefix), make([]string, sales), make([]queue.Ask, sales)
	for i := range names {
		names[i] = fmt.Sprint("sale-", i)
		asks[i] = queue.Ask{Line: boxOn(b, rdb, names[i], s).Line, Epoch: 1, Rate: queues.Rate}
	}
	n := 0
	admit := func(b *testing.B) {
		for i := range asks {
			n++
			asks[i].Requests = []queue.Request{queues.Ask(fmt.Sprintf("0197c7a0-0000-7000-8000-%012d", n),
				fmt.Sprint("user-", n))}
		}
		for _, result := range lines.Admit(b.Context(), asks) {
			require.NoError(b, result.Err)
		}
	}
	const repeats = 20
	run := func(name string, call func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			before := redisCPU(b, rdb)
			for b.Loop() {
				for range repeats {
					call(b)
				}
			}
			used := redisCPU(b, rdb) - before
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N*sales*repeats), "redis-µs")
		})
	}
	run("admit", admit)
	run("view", func(b *testing.B) {
		_, err := lines.Views(b.Context(), names)
		require.NoError(b, err[0])
	})
}
