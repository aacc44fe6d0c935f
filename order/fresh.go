package order

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// fresh are the tickets of a batch that are to be confirmed orders, as the
// columns of their rows. What all rows share is sent once where the database
// can take it so; the columns that are not named have their defaults.
type fresh struct {
	tickets      []queue.Ticket // of one sale; those of a party are in its batches
	at, payBy    int64          // when they are confirmed and must be paid, unix ms
	contact      bool           // one of them has an e-mail address or a phone number
	shared, rows []store.Column
	bare         int // columns of a row without contact
}

// The places of columns that somebody asks for.
const (
	sharedTag, sharedAt, sharedPayBy, sharedSale = 0, 1, 2, 4
	ownID, ownUser, ownEmail                     = 0, 1, 11
)

// freshOf takes the queued tickets of a batch. The rows go in by id, so that
// two deliveries of the same tickets wait for each other and never deadlock,
// and the pages of the index are visited in their order.
func (f *Fulfiller) freshOf(sale inventory.Sale, epoch int64, queued []queue.Ticket) *fresh {
	made := &fresh{tickets: queued, shared: sharedColumns(sale, epoch), rows: ownColumns(len(queued)), bare: ownEmail}
	sorted := make([]*queue.Ticket, len(queued))
	for i := range queued {
		sorted[i] = &queued[i]
	}
	slices.SortFunc(sorted, func(a, b *queue.Ticket) int { return cmp.Compare(a.ID, b.ID) })
	for i, t := range sorted {
		made.put(i, t)
	}
	return made
}

// put fills what a row has from its ticket.
func (f *fresh) put(i int, t *queue.Ticket) {
	for c, n := range [...]int64{int64(t.Slot), int64(t.Units), t.Seq, t.Position, t.ETASeconds, t.AdmittedAt.UnixMilli(), t.By} {
		f.rows[ownTexts+c].Ints[i] = n
	}
	for c, text := range [...]string{t.ID, t.User, t.Fingerprint, t.Locale} {
		f.rows[c].Texts[i] = text
	}
	f.rows[f.bare].Texts[i], f.rows[f.bare+1].Texts[i] = t.Email, t.Phone
	f.contact = f.contact || t.Email+t.Phone != ""
}

// sharedColumns have the same value in all rows of a sale; those that come from the sale are the last.
func sharedColumns(sale inventory.Sale, epoch int64) []store.Column {
	text := func(name, value string) store.Column { return store.Column{Name: name, Texts: []string{value}} }
	number := func(name string, value int64) store.Column { return store.Column{Name: name, Ints: []int64{value}} }
	return []store.Column{text("batch_id", ""), number("confirmed_at", 0), number("pay_by", 0), text("status", Confirmed),
		text("sale_id", sale.ID), text("currency", sale.Currency), number("price_cents", sale.PriceCents), number("epoch", epoch)}
}

// ownTexts is how many of a row's own columns are texts that come first.
const ownTexts = 4

// ownColumns are a row's own: the contact comes last, because most often nobody gave one.
func ownColumns(rows int) []store.Column {
	names := [...]string{"id", "user_id", "fingerprint", "locale", "slot", "quantity", "seq", "position", "eta_seconds", "admitted_at", "admitted_by", "email", "phone"}
	columns := make([]store.Column, len(names))
	for i, name := range names {
		columns[i].Name = name
		if i < ownTexts || i >= ownEmail {
			columns[i].Texts = make([]string, rows)
		} else {
			columns[i].Ints = make([]int64, rows)
		}
	}
	return columns
}

// freshInsert are the statements for fresh orders, with and without contact.
type freshInsert struct{ full, bare *store.Bulk }

func newFreshInsert(db *store.DB) freshInsert {
	shared, own := sharedColumns(inventory.Sale{}, 0), ownColumns(1)
	return freshInsert{full: db.NewBulk("orders", shared, own), bare: db.NewBulk("orders", shared, own[:ownEmail])}
}

func (i freshInsert) prepare(ctx context.Context) error {
	return errors.Join(i.full.Prepare(ctx), i.bare.Prepare(ctx))
}

// stamp makes the rows those of one run of the transaction.
func (f *Fulfiller) stamp(fresh *fresh, tag string) {
	fresh.at, fresh.payBy = f.now().UnixMilli(), 0
	if f.deadline > 0 {
		// By the clock that ends it, which is not this host's.
		fresh.payBy = f.book.Now().Add(f.deadline).UnixMilli()
	}
	fresh.shared[sharedTag].Texts[0] = tag
	fresh.shared[sharedAt].Ints[0], fresh.shared[sharedPayBy].Ints[0] = fresh.at, fresh.payBy
}

// insert adds the rows and reports whether none was left out
// because it conflicts with one that was there.
func (f *fresh) insert(tx *gorm.DB, by freshInsert) (all bool, err error) {
	if f.size() == 0 {
		return true, nil
	}
	bulk, rows := by.full, f.rows
	if !f.contact {
		bulk, rows = by.bare, rows[:f.bare]
	}
	n, err := bulk.Insert(tx, f.shared, rows)
	return n == int64(f.size()), err
}

func (f *fresh) size() int { return len(f.rows[ownID].Texts) }

// result is that of a transaction that has inserted all of them.
func (f *fresh) result(sale string) batchResult {
	result := batchResult{sale: sale, inserted: f.tickets, outcomes: f.confirmed(f.tickets)}
	for i := range f.tickets {
		result.units += int64(f.tickets[i].Units)
	}
	return result
}

// confirmed are the outcomes of tickets whose rows are in.
func (f *fresh) confirmed(tickets []queue.Ticket) []queue.Outcome {
	outcomes := make([]queue.Outcome, len(tickets))
	at, payBy := atMS(f.at), atMS(f.payBy)
	for i := range tickets {
		outcomes[i] = queue.Outcome{ID: tickets[i].ID, Op: queue.OpConfirm, At: at, Pay: payBy}
	}
	return outcomes
}

// announce queues the news of all of them, for each channel.
func (f *fresh) announce(tx *gorm.DB, by *store.Bulk, channels []string) error {
	if f.size() == 0 {
		return nil
	}
	news := notify.News{Event: notify.EventConfirmed, At: f.at, Orders: f.rows[ownID].Texts, Users: f.rows[ownUser].Texts}
	if len(f.shared) > sharedSale {
		news.Sale = f.shared[sharedSale].Texts[0]
	} else {
		news.Sales = f.rows[ownSale].Texts
	}
	for _, channel := range channels {
		if err := news.Insert(tx, by, channel); err != nil {
			return err
		}
	}
	return nil
}
