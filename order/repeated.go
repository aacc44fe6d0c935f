package order

import (
	"context"
	"fmt"

	"sluice/queue"
)

// Placed returns those of the orders of a sale that the database knows, as
// they were answered when they were placed: with their owner, the fingerprint of
// the request, and the place and wait that were told.
func (f *Finder) Placed(ctx context.Context, sale string, ids []string) (map[string]queue.Ticket, error) {
	var rows []Row
	err := f.db.Read.WithContext(ctx).Where("id IN ? AND sale_id = ?", ids, sale).
		Select("id", "user_id", "seq", "quantity", "fingerprint", "position", "eta_seconds", "admitted_at").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look for %d repeated orders of %s: %w", len(ids), sale, err)
	}
	placed := make(map[string]queue.Ticket, len(rows))
	for _, r := range rows {
		placed[r.ID] = queue.Ticket{ID: r.ID, User: r.UserID, Seq: r.Seq, Units: r.Quantity, Fingerprint: r.Fingerprint,
			Position: r.Position, ETASeconds: r.ETASeconds, AdmittedAt: atMS(r.AdmittedAt)}
	}
	return placed, nil
}
