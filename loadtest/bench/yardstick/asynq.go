package yardstick

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// task is a waiting order in asynq.
type task struct {
	ID, User string
	Seq      int64
}

// orderRow and outboxRow are Sluice's tables, as a GORM program would declare them.
type orderRow struct {
	ID                                     string `gorm:"primaryKey"`
	SaleID, UserID                         string
	Slot, Quantity                         int
	PriceCents                             int64
	Currency, Status, Reason, Email, Phone string
	Seq, Epoch                             int64
	BatchID, Fingerprint                   string
	Position                               int64
	ETASeconds                             int64 `gorm:"column:eta_seconds"`
	Released                               int
	AdmittedAt, ConfirmedAt, EndedAt       int64
	PayBy, PaidAt, LateSeq                 int64
	Locale                                 string
}

func (orderRow) TableName() string { return "orders" }

type outboxRow struct {
	ID          int64
	OrderID     string
	Event       string
	Channel     string
	SaleID      string
	UserID      string
	State       int
	Attempts    int
	NextAt      int64
	Lease       int64
	LeasedUntil int64
	LastError   string
	CreatedAt   int64 `gorm:"autoCreateTime:false"`
	DeliveredAt int64
}

func (outboxRow) TableName() string { return "outbox" }

var errSoldOut = errors.New("sold out")

// Asynq does the job as most programs would: a queue of tasks and one transaction for each order, on MariaDB. The time
// counts from the start of the worker to the last commit, without enqueueing and the last acknowledgement.
func (j Job) Asynq(ctx context.Context, redis string) (Spent, error) {
	rows, err := j.open(ctx)
	if err != nil {
		return Spent{}, err
	}
	defer rows.Close()
	db, err := gorm.Open(mysql.New(mysql.Config{Conn: rows}),
		&gorm.Config{PrepareStmt: true, SkipDefaultTransaction: true, Logger: logger.Discard})
	if err != nil {
		return Spent{}, err
	}
	opt := asynq.RedisClientOpt{Addr: redis}
	if err := enqueue(ctx, opt, j.Orders); err != nil {
		return Spent{}, err
	}
	run := &asynqRun{db: db, left: int64(j.Orders), done: make(chan struct{})}
	log.SetOutput(io.Discard)
	server := asynq.NewServer(opt, asynq.Config{Concurrency: j.Workers, LogLevel: asynq.FatalLevel})
	running := j.start()
	if err := server.Start(asynq.HandlerFunc(run.handle)); err != nil {
		return Spent{}, err
	}
	defer server.Shutdown()
	select {
	case <-run.done:
		return running.stop(), nil
	case <-ctx.Done():
		return Spent{}, ctx.Err()
	}
}

func enqueue(ctx context.Context, opt asynq.RedisClientOpt, orders int) error {
	client := asynq.NewClient(opt)
	defer client.Close()
	const producers = 32
	var next atomic.Int64
	var workers sync.WaitGroup
	errs := make(chan error, producers)
	for range producers {
		workers.Go(func() {
			for seq := next.Add(1); seq <= int64(orders); seq = next.Add(1) {
				payload, err := json.Marshal(task{ID: randomID(), User: fmt.Sprintf("shopper-%08d", seq), Seq: seq})
				if err == nil {
					_, err = client.EnqueueContext(ctx, asynq.NewTask("order", payload))
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	return <-errs
}

// asynqRun counts down the remaining orders.
type asynqRun struct {
	db   *gorm.DB
	left int64
	done chan struct{}
}

func (r *asynqRun) handle(ctx context.Context, t *asynq.Task) error {
	var order task
	if err := json.Unmarshal(t.Payload(), &order); err != nil {
		return err
	}
	if err := r.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return fulfil(tx, order) }); err != nil {
		return err
	}
	if atomic.AddInt64(&r.left, -1) == 0 {
		close(r.done)
	}
	return nil
}

func fulfil(tx *gorm.DB, t task) error {
	now := time.Now().UnixMilli()
	if err := tx.Create(&orderRow{ID: t.ID, SaleID: sale, UserID: t.User, Quantity: 1, PriceCents: 9900,
		Currency: "CNY", Status: "confirmed",
		Seq: t.Seq, Epoch: 1, BatchID: t.ID, Fingerprint: "a1b2c3d4e5f60718", Position: t.Seq,
		ETASeconds: t.Seq, Released: 1,
		AdmittedAt: now, ConfirmedAt: now, Locale: "zh-CN"}).Error; err != nil {
		return err
	}
	if err := tx.Create(&outboxRow{OrderID: t.ID, Event: "order.confirmed", Channel: "stream", SaleID: sale,
		UserID: t.User, CreatedAt: now}).Error; err != nil {
		return err
	}
	done := tx.Exec("UPDATE stock SET available = available - 1 WHERE sale_id = ? AND available >= 1", sale)
	if done.Error == nil && done.RowsAffected != 1 {
		return errSoldOut
	}
	return done.Error
}
