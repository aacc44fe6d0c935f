package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/fleet"
	"sluice/internal/pattern"
)

// attendEvery is how often a process looks what nobody takes.
const attendEvery = 5 * time.Second

// unattended tells of sales that no worker takes, and of topics that no notifier takes.
type unattended struct {
	count *prometheus.GaugeVec
	known map[string]bool // that the log has named
}

func newUnattended(reg prometheus.Registerer) *unattended {
	u := &unattended{known: map[string]bool{}, count: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_unattended",
		Help: "Sales that no running worker takes, and topics that no running notifier takes: they wait.",
	}, []string{"kind"})}
	reg.MustRegister(u.count)
	return u
}

// watchUnattended looks what nobody takes until ctx ends. What cannot be looked up stays as it was.
func (a *App) watchUnattended(ctx context.Context) {
	tick := time.NewTicker(attendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C: // the first look comes when this process and others have said what they take
		}
		running, err := a.beats.List(ctx)
		if err != nil {
			continue // it is said by those who say that they run
		}
		a.unattended.note(ctx, a, fleet.TakenBy(running, a.saleCache.Active(), a.topics.ToDeliver()))
	}
}

func (u *unattended) note(ctx context.Context, a *App, taken []fleet.Taken) {
	counts, now := map[string]int{fleet.TakenSale: 0, fleet.TakenTopic: 0}, map[string]bool{}
	for _, one := range taken {
		if len(one.By) > 0 {
			continue
		}
		counts[one.Kind]++
		key := one.Kind + " " + one.Name
		if now[key] = true; !u.known[key] {
			a.logFor("fleet").WarnContext(ctx, "no running process takes it: it waits", "kind", one.Kind, "name",
				one.Name)
		}
	}
	u.known = now
	for kind, n := range counts {
		u.count.WithLabelValues(kind).Set(float64(n))
	}
}

// takenSales returns the active sales whose lines the workers of this process drain.
func (a *App) takenSales() (sales []string) {
	for _, sale := range a.saleCache.Active() {
		if pattern.Match(a.cfg.Queue.Sales, sale) {
			sales = append(sales, sale)
		}
	}
	return sales
}
