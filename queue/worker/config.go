package worker

import "fmt"

// PoolConfig sizes the ants pool that runs claimed batches.
type PoolConfig struct {
	Size int `koanf:"size"` // most batches run at the same time in this process; 1 to 1024
}

// DefaultPoolConfig returns the configuration used where nothing is set.
func DefaultPoolConfig() PoolConfig { return PoolConfig{Size: 8} }

// Validate reports a size out of its bounds.
func (c PoolConfig) Validate() error {
	if c.Size < 1 || c.Size > 1024 {
		return fmt.Errorf("pool.size must be between 1 and 1024, got %d", c.Size)
	}
	return nil
}
