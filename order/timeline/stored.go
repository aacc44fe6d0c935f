package timeline

import (
	"context"
	"strings"
	"time"

	"sluice/internal/money"
	"sluice/notify"
	"sluice/order"
)

// statesOf returns the events that an order's row holds. The tag of its transaction says when a worker began and which.
func statesOf(r order.Row) []Event {
	var events []Event
	began, instance := order.ReadTag(r.BatchID)
	admitted := order.Time(r.AdmittedAt)
	if !began.IsZero() {
		events = append(events, Event{At: began, Step: "claimed", Took: max(began.Sub(admitted), 0),
			Instance: instance})
	}
	if confirmed := order.Time(r.ConfirmedAt); !confirmed.IsZero() {
		events = append(events, Event{At: confirmed, Step: order.Confirmed, Took: max(confirmed.Sub(admitted), 0),
			Instance: instance})
	}
	if paid := order.Time(r.PaidAt); !paid.IsZero() {
		// payments know who took it
		events = append(events, Event{At: paid, Step: order.Paid, Took: max(paid.Sub(order.Time(r.ConfirmedAt)), 0)})
	}
	if ended := order.Time(r.EndedAt); !ended.IsZero() {
		e := Event{At: ended, Step: r.Status, Took: max(ended.Sub(admitted), 0), Reason: r.Reason, by: r.EndedBy}
		if r.Status == order.Failed { // by whoever wrote that
			e.Instance = instance
		}
		events = append(events, e)
	}
	return events
}

// payments returns the payments of an order, newest first.
func (t *Timelines) payments(ctx context.Context, id string) ([]order.PaymentRow, error) {
	var rows []order.PaymentRow
	err := t.db.Read.WithContext(ctx).Where("order_id = ?", id).Order("received_at DESC").Limit(100).Find(&rows).Error
	return rows, err
}

// addPayments adds what payments say to an order's events. One that was simply accepted is the step paid of the order
// itself. A late one knows when the order had expired before.
func addPayments(events []Event, rows []order.PaymentRow, admitted time.Time) []Event {
	for _, r := range rows {
		if r.Outcome == order.PaymentAccepted || r.Outcome == order.PaymentLate {
			for i := range events {
				if events[i].Step == order.Paid {
					events[i].by = r.TakenBy
				}
			}
		}
		if r.ExpiredAt > 0 {
			events = append(events, Event{At: order.Time(r.ExpiredAt), Step: order.Expired,
				Took: max(order.Time(r.ExpiredAt).Sub(admitted), 0), by: r.ExpiredBy})
		}
		if r.Outcome != order.PaymentAccepted {
			events = append(events, Event{At: order.Time(r.ReceivedAt), Step: "payment " + r.Outcome, by: r.TakenBy,
				Reason: r.PaymentID + ": " + money.Format(r.AmountCents, r.Currency)})
		}
	}
	return events
}

// operators returns what operators did to an order.
func (t *Timelines) operators(ctx context.Context, id string) ([]Event, error) {
	var entries []struct {
		At                    int64
		Actor, Action, Reason string
		Instance              int64
	}
	err := t.db.Read.WithContext(ctx).Table("admin_log").Select("at", "actor", "action", "reason", "instance").
		Where("target = ?", id).Order("id DESC").Limit(100).Find(&entries).Error
	events := make([]Event, len(entries))
	for i, e := range entries {
		events[i] = Event{At: order.Time(e.At), Step: e.Action, Actor: e.Actor, Reason: e.Reason, by: e.Instance}
	}
	return events, err
}

// deliveries returns what became of the notifications of an order.
func (t *Timelines) deliveries(ctx context.Context, id string) ([]Event, error) {
	var rows []notify.Row
	if err := t.db.Read.WithContext(ctx).Where("order_id = ?", id).Limit(100).Find(&rows).Error; err != nil {
		return nil, err
	}
	events := make([]Event, len(rows))
	for i, r := range rows {
		e := Event{At: order.Time(r.CreatedAt), Step: "notify " + r.Channel + " " + r.Event, Attempt: r.Attempts,
			Reason: r.LastError, by: r.DeliveredBy}
		switch r.State {
		case notify.StateDelivered:
			e.At, e.Took = order.Time(r.DeliveredAt), order.Time(r.DeliveredAt).Sub(e.At)
		case notify.StateOvertaken:
			e.At = order.Time(r.DeliveredAt)
		case notify.StateDead:
			e.At, e.Reason = order.Time(r.NextAt), "given up: "+r.LastError
		default:
			e.Reason = "next try at " + order.Time(r.Due()).Format(time.RFC3339) +
				strings.TrimRight(": "+r.LastError, ": ")
		}
		events[i] = e
	}
	return events, nil
}
