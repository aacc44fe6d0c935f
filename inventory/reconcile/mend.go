package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/inventory/audit"
)

const (
	// mendMost is how often a line is rebuilt for a difference within mendWithin. What comes back so often has a
	// cause that a rebuild does not end. Each keeps shoppers out for a moment.
	mendMost   = 3
	mendWithin = 10 * time.Minute
)

// ErrMended says that a line was rebuilt for differences as often as it may be for now.
var ErrMended = errors.New("the line was rebuilt for differences too often")

// Mend rebuilds the line of a sale that an audit found to differ for some time. Phantom units would be sold, fail,
// come back and be sold again. Over all instances it does so three times within ten minutes, and returns ErrMended
// after that. It returns ErrBusy when another instance is at it, or has rebuilt the line since the audit.
func (k *Reconciler) Mend(ctx context.Context, s audit.Sale) error {
	n, err := k.rebuilds(ctx, s.Sale, causeDifference, k.now().Add(-mendWithin))
	if err != nil {
		return err
	}
	if n >= mendMost {
		return fmt.Errorf("%s differs by %d units and %d orders: %w", s.Sale, s.Difference, s.Missing, ErrMended)
	}
	return k.rebuildOf(ctx, s.Sale, finding{epoch: s.Epoch, line: s.Epoch, cause: causeDifference})
}

// rebuilds counts how often a line was rebuilt for a cause since a moment.
func (k *Reconciler) rebuilds(ctx context.Context, sale, cause string, since time.Time) (n int64, err error) {
	err = k.db.Read.WithContext(ctx).Table("eras").Where("sale_id = ? AND cause = ? AND began_at > ?", sale, cause,
		since.UnixMilli()).Count(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count the rebuilds of %s: %w", sale, err)
	}
	return n, nil
}
