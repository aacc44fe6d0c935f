package order

import (
	"errors"
	"fmt"

	"sluice/inventory"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

// storeFault is an error of a batch that no ticket has caused.
type storeFault struct{ error }

// Unwrap returns the error itself.
func (f storeFault) Unwrap() error { return f.error }

// Is makes a sale without a row a fault of its line alone.
func (f storeFault) Is(target error) bool {
	return target == worker.ErrOfLine && errors.Is(f.error, inventory.ErrNoSale)
}

// Cause implements worker.Causer: it says what the database said, without a row's values.
func (f storeFault) Cause() string { return store.Describe(f.error) }

// faultOf marks err, unless it is nil, as one that no ticket has caused. That the line was loaded anew is no store's fault.
func faultOf(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, inventory.ErrStale) {
		err = fmt.Errorf("%w: %w", queue.ErrOutdated, err)
	}
	return storeFault{err}
}
