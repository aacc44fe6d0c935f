package order_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit/orders"
)

// A commit whose reply is lost makes the transaction run again within the same
// call: the rows it finds are its own and must not take stock again.
func TestLostCommitReplyTakesNothingTwice(t *testing.T) {
	orders.EachDatabase(t, 1000, 1, func(w *orders.World) {
		w.AdmitMany(10)
		b := w.Claim(10)
		wire := &lossyPool{ConnPool: w.DB.Write.Statement.ConnPool, lose: 1}
		w.DB.Write.Statement.ConnPool = wire
		require.Equal(w.T, map[string]int{"c": 10}, orders.Ops(w.Handle(b)))
		require.Equal(w.T, 2, wire.begun, "the transaction ran twice")
		require.EqualValues(w.T, 990, w.Available())
		require.Equal(w.T, map[string]int{"confirmed": 10}, w.Count())
		w.Settle(b, w.Handle(b))
		w.Clean()
	})
}

// lossyPool commits, but answers the first commits as a database does that
// asks for the transaction to be run again.
type lossyPool struct {
	gorm.ConnPool
	lose, begun int
}

func (p *lossyPool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	p.begun++
	beginner, ok := p.ConnPool.(gorm.TxBeginner)
	if !ok {
		return nil, sql.ErrConnDone
	}
	tx, err := beginner.BeginTx(ctx, opts)
	return &lossyTx{Tx: tx, pool: p}, err
}

type lossyTx struct {
	*sql.Tx
	pool *lossyPool
}

func (t *lossyTx) Commit() error {
	err := t.Tx.Commit()
	if err == nil && t.pool.lose > 0 {
		t.pool.lose--
		return &pgconn.PgError{Code: "40001"}
	}
	return err
}

// A commit whose reply is lost makes the transaction run again, and that run finds orders there already: the batches
// are then handled one by one and take no unit twice.
func TestMultiSaleBatchWhoseCommitReplyIsLost(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		batches := admitTwoEach(w, 1)
		wire := &lossyPool{ConnPool: w.DB.Write.Statement.ConnPool, lose: 1}
		w.DB.Write.Statement.ConnPool = wire
		_, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
		require.Error(w.T, err)
		require.Equal(w.T, 2, wire.begun, "the transaction ran twice")
		require.Equal(w.T, map[string]int{"c": 8}, handleEach(w, batches))
		require.Equal(w.T, map[string]int{"confirmed": 8}, w.Count())
		require.EqualValues(w.T, 98, w.Available())
		auditAll(w)
	})
}
