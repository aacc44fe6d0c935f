package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// mendMost is how often a line is rebuilt for a difference within mendWithin. What comes back so often has a cause that a rebuild
	// does not end, and each keeps shoppers out for a moment.
	mendMost   = 3
	mendWithin = 10 * time.Minute
)

// ErrMended says that a line was rebuilt for differences as often as it may be for now.
var ErrMended = errors.New("the line was rebuilt for differences too often")

// Mend rebuilds the line of a sale that an audit found to differ for some time: phantom units would be sold, fail, come back and be sold
// again. Over all instances it does so three times within ten minutes, and returns ErrMended after that. It returns ErrBusy when
// another instance is at it, or has rebuilt the line since the audit.
func (k *Keeper) Mend(ctx context.Context, s SaleAudit) error {
	n, err := k.rebuilds(ctx, s.Sale, causeDifference, k.now().Add(-mendWithin))
	if err != nil {
		return err
	}
	if n >= mendMost {
		return fmt.Errorf("%s differs by %d units and %d orders: %w", s.Sale, s.Difference, s.Missing, ErrMended)
	}
	return k.rebuildOf(ctx, s.Sale, finding{epoch: s.Epoch, line: s.Epoch, cause: causeDifference})
}
