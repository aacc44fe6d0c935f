package figures

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

// slowShop returns the setup of a shop whose database is the limit. It has one order in a transaction, one transaction
// at a time, and a short line. A generator on the same two cores could not send ten times what a normal Sluice
// sustains. There are no artificial waits.
func slowShop() lab.Setup {
	return lab.Setup{Driver: "mysql", Env: []string{"SLUICE_QUEUE__BATCH=1", "SLUICE_POOL__SIZE=1"}}
}

const (
	overloadFactor = 10
	fullFactor     = 1.5
	openLoad       = 2000 // connections, of which one must always be idle
	shortLine      = 500
)

// slowDrain measures what the slow shop confirms without new orders. The loads are multiples of it.
func slowDrain(ctx context.Context, l *lab.Lab) (report.Reading, error) {
	s, size, err := startFilled(ctx, l, slowShop(), max(l.Opt.Scaled(4_000), 250))
	if err != nil {
		return report.Reading{}, err
	}
	r, err := drainLine(ctx, s, size, allRoles)
	if err != nil {
		return r, errors.Join(err, s.Close())
	}
	return r, s.Finish(ctx)
}

// openRush sends shoppers to a slow shop at a rate. It returns their outcomes and how many orders/s were confirmed
// meanwhile.
func openRush(ctx context.Context, l *lab.Lab, rate float64) (lab.Visits, float64, error) {
	length := 2 * l.Opt.Length
	count := int(rate * length.Seconds())
	orders, err := l.OrdersIn(benchSale.ID, max(l.Opt.PerRun(), count))
	if err != nil {
		return lab.Visits{}, 0, err
	}
	sale := benchSale
	sale.Cap = shortLine
	s, err := startOn(ctx, l, slowShop(), allRoles, sale)
	if err != nil {
		return lab.Visits{}, 0, err
	}
	a := lab.Arrivals{Addr: s.Nodes[0].HTTP, Requests: orders, Rate: rate, Count: count, Connections: openLoad}
	v, goodput, err := rush(ctx, s, a)
	if err != nil {
		return v, goodput, errors.Join(err, s.Close())
	}
	return v, goodput, s.Finish(ctx)
}

func rush(ctx context.Context, s *lab.System, a lab.Arrivals) (lab.Visits, float64, error) {
	v, err := lab.Arrive(ctx, a)
	if err == nil {
		err = v.Check(a)
	}
	if err != nil {
		return v, 0, err
	}
	answered := time.Now()
	if other := a.Count - v.Status[202] - v.Status[503]; other != 0 {
		return v, 0, lab.Refuse("%d shoppers were neither accepted nor told that the line is full: %v", other, v.Status)
	}
	m, err := s.Nodes[0].Metrics(ctx)
	counted := time.Now()
	if err != nil {
		return v, 0, err
	}
	if full := m.Sum("sluice_orders_rejected_total", `code="queue_full"`); int(full) != v.Status[503] {
		return v, 0, lab.Refuse("%d shoppers were refused, %.0f of them because the line was full", v.Status[503], full)
	}
	goodput := m.Sum("sluice_orders_finished_total", `status="confirmed"`) / (v.Took + counted.Sub(answered)).Seconds()
	_, err = watchDrain(ctx, s.Nodes[0], float64(v.Status[202]))
	return v, goodput, err
}

// goodput compares the confirmed orders under ten times the load with the peak. At the peak just enough come to fill
// the line. Both admit what they confirm. The rate without new orders is only a note.
func goodput(_ context.Context, l *lab.Lab) (Trial, error) {
	var drained report.Reading // of the same round
	return Trial{
		Yardstick: func(ctx context.Context) (r report.Reading, err error) {
			if drained, err = slowDrain(ctx, l); err != nil {
				return r, err
			}
			_, rate, err := openRush(ctx, l, fullFactor*drained.Value)
			return report.Reading{Value: rate}, err
		},
		Sluice: func(ctx context.Context) (report.Reading, error) {
			v, rate, err := openRush(ctx, l, overloadFactor*drained.Value)
			if err != nil {
				return report.Reading{}, err
			}
			shoppers := float64(v.Status[202] + v.Status[503])
			return report.Reading{Value: rate,
				Note: fmt.Sprintf(
					"one order in a transaction; in the first round it drained %s orders/s while nobody came; then "+
						"%s shoppers/s came and %s/s were answered, %.0f%% of them that the line is full",
					report.Number(drained.Value), report.Number(shoppers/v.Sent.Seconds()),
					report.Number(shoppers/v.Took.Seconds()), 100*float64(v.Status[503])/shoppers)}, nil
		},
	}, nil
}

// overloadLatency compares the 99th percentile of accepted answers at ten times the load with that at half.
func overloadLatency(_ context.Context, l *lab.Lab) (Trial, error) {
	var drained report.Reading // of the same round
	at := func(factor float64) func(context.Context) (report.Reading, error) {
		return func(ctx context.Context) (report.Reading, error) {
			v, _, err := openRush(ctx, l, factor*drained.Value)
			if err != nil {
				return report.Reading{}, err
			}
			return report.Reading{Value: float64(lab.Percentile(v.Accepted, 99)) / float64(time.Millisecond)}, nil
		}
	}
	half := at(0.5)
	return Trial{
		Yardstick: func(ctx context.Context) (r report.Reading, err error) {
			if drained, err = slowDrain(ctx, l); err != nil {
				return r, err
			}
			return half(ctx)
		},
		Sluice: at(overloadFactor),
	}, nil
}
