package payment

import (
	"context"
	"time"

	"sluice/order"
	"sluice/queue"
)

const (
	showWait = 2 * time.Second // for a line that is being rebuilt
	showPoll = 50 * time.Millisecond
)

// show makes the line show what the database knows. The payment stands without it. What is missed here is shown by the
// expirer at the deadline, a refund by the next rebuild.
func (p *Payer) show(ctx context.Context, row order.Row) {
	ctx, cancel := context.WithTimeout(ctx, showWait)
	defer cancel()
	line := p.lines.Of(row.SaleID)
	for {
		err := p.showOnce(ctx, line, row)
		if err == nil {
			return
		}
		timer := time.NewTimer(showPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			p.log.Warn("the line does not show a payment yet", "sale", row.SaleID, "order", row.ID, "error", err)
			return
		}
	}
}

func (p *Payer) showOnce(ctx context.Context, line *queue.Line, row order.Row) error {
	if row.Status == order.Paid {
		if err := line.Pay(ctx, row.ID, order.Time(row.ConfirmedAt), order.Time(row.PaidAt)); err != nil {
			return err
		}
	}
	if row.Refund == "" {
		return nil
	}
	return line.Refund(ctx, row.ID)
}
