package inventory

import (
	"context"

	"sluice/internal/apart"
)

// Look reads the numbers of the lines that may hold tickets once, and waits for the answers.
func (b *SaleCache) Look(ctx context.Context) { b.lookIn(ctx, apart.New(lookServers, 0)) }
