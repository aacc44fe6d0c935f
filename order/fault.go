package order

import "sluice/store"

// storeFault is an error of a batch that no ticket has caused.
type storeFault struct{ error }

// Unwrap returns the error itself.
func (f storeFault) Unwrap() error { return f.error }

// Cause implements queue.Causer: it says what the database said, without a row's values.
func (f storeFault) Cause() string { return store.Describe(f.error) }

// faultOf marks err, unless it is nil, as one that no ticket has caused.
func faultOf(err error) error {
	if err == nil {
		return nil
	}
	return storeFault{err}
}
