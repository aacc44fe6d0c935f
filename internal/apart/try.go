package apart

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic in a turn.
type PanicError struct {
	Value any
	Stack string
}

// Error returns the panic's value as text, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Try calls f and returns its error. A panic becomes a *PanicError.
func Try(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: string(debug.Stack())}
		}
	}()
	return f()
}
