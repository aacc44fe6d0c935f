package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/apart"
	"sluice/internal/luascript"
)

const (
	beatEvery = time.Second
	beatLapse = 5 * time.Second // an instance unheard of for so long counts as gone
)

// Instance is one running process.
type Instance struct {
	ID            string   `json:"-"`
	Roles         []string `json:"roles"`
	Version       string   `json:"version"`
	ConfigVersion int64    `json:"config_version"`
	ConfigFile    string   `json:"config_file"` // digest of the hot keys in its file
	// the schema versions its build works with; 0: it does not say
	SchemaOldest int64     `json:"schema_oldest,omitempty"`
	SchemaNewest int64     `json:"schema_newest,omitempty"`
	Payments     bool      `json:"payments"` // whether the orders it makes or shows must be paid
	StartedAt    time.Time `json:"started_at"`
	// Refused is how many orders of a sale its gateway refuses a second; the busiest sales only.
	Refused  map[string]float64 `json:"refused,omitempty"`
	LastSeen time.Time          `json:"-"` // by Redis' clock
}

// Instances knows which processes run: each says so once a second, and one
// that is silent for five is gone. Safe for concurrent use.
type Instances struct {
	names
	rdb  redis.UniversalClient
	beat luascript.Script
	log  *slog.Logger
}

// NewInstances returns the instances that share a prefix, redis.prefix, of rdb.
func NewInstances(rdb redis.UniversalClient, prefix string, log *slog.Logger) *Instances {
	return &Instances{names: namesOf(prefix), rdb: rdb, beat: newLibrary().Load("heartbeat"), log: log}
}

// Run says that this process runs until ctx ends, and then that it does not;
// self is asked each time.
func (is *Instances) Run(ctx context.Context, self func() Instance) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	silent := false
	for {
		err := is.say(ctx, self(), beatLapse)
		if err != nil && !silent && ctx.Err() == nil {
			is.log.Warn("this instance cannot say that it runs", "error", err)
		}
		silent = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = is.say(context.WithoutCancel(ctx), self(), 0) // it lapses otherwise
			return
		}
	}
}

func (is *Instances) say(ctx context.Context, self Instance, lapse time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	card, err := json.Marshal(self)
	if err != nil {
		return err
	}
	_, err = is.beat.RunList(ctx, is.rdb, []string{is.instancesKey}, self.ID, card, lapse.Milliseconds())
	return err
}

// List returns the processes that run, by id.
func (is *Instances) List(ctx context.Context) ([]Instance, error) {
	reply, err := is.beat.RunList(ctx, is.rdb, []string{is.instancesKey}, "", "", 0)
	if err != nil {
		return nil, err
	}
	var found []Instance
	for i := 0; i+2 < len(reply); i += 3 {
		var one Instance
		card, _ := reply[i+2].(string)
		if json.Unmarshal([]byte(card), &one) != nil {
			continue // written by a version that says it differently
		}
		one.ID, _ = reply[i].(string)
		one.LastSeen = time.UnixMilli(toInt(reply[i+1])).UTC()
		found = append(found, one)
	}
	slices.SortFunc(found, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}

// Budgets keeps rates that several instances spend together: each leases
// tokens for a short while and spends them without asking. Over any time T at
// most rate × T + depth tokens are dealt, however many instances there are. What
// no instance wants lies in Redis, for whoever comes first.
// Safe for concurrent use.
type Budgets struct {
	names
	rdb   redis.UniversalClient
	share luascript.Script
}

// NewBudgets returns the budgets kept in rdb under a prefix, redis.prefix.
func NewBudgets(rdb redis.UniversalClient, prefix string) *Budgets {
	return &Budgets{names: namesOf(prefix), rdb: rdb, share: newLibrary().Load("budget")}
}

// Claim is what an instance says when it renews its share of a budget.
type Claim struct {
	Budget   string // its name, for the key
	Instance string
	Rate     float64       // tokens per second of all instances together; positive
	Depth    float64       // most tokens that may lie unspent, everywhere together; at least 1
	Demand   float64       // requests per second this instance sees, refused ones included
	Held     int64         // tokens it has not spent; negative when it owes some
	Wants    int64         // most tokens it wants to hold: what it leaves others find at once
	Lapse    time.Duration // after which it counts as gone, unless it renews
}

// Share is what the instance got.
type Share struct {
	Tokens    int64   // to add to those it holds; negative: it gave back
	Part      float64 // of the whole rate, 0 to 1
	Instances int     // that share the budget, this one included
	// why it got none. Tokens may have been dealt; they are then lost until the instance lapses or
	// renews
	Err error
}

// Renew deals an instance its shares of several budgets in one round trip, in the order of claims,
// each by itself: one after the other, sixty-four of them would outlast their own leases on a Redis
// that waits for its disk.
func (b *Budgets) Renew(ctx context.Context, claims []Claim) []Share {
	calls := make([]luascript.Call, len(claims))
	for i, c := range claims {
		calls[i] = b.call(c, c.Lapse)
	}
	shares := make([]Share, len(claims))
	for i, a := range b.share.RunEach(ctx, b.rdb, calls) {
		list, err := a.List()
		if err == nil && len(list) != 3 {
			err = fmt.Errorf("budget %s answered %d values, not 3", claims[i].Budget, len(list))
		}
		if err != nil {
			shares[i].Err = err
			continue
		}
		shares[i] = Share{Tokens: toInt(list[0]), Part: float64(toInt(list[1])) / 1e6, Instances: int(toInt(list[2]))}
	}
	return shares
}

// ByServer groups budgets by the server that holds them, as Lines.ByServer does for lines.
func (b *Budgets) ByServer(ctx context.Context, budgets []string) map[string][]string {
	return apart.ByServer(ctx, b.rdb, budgets, b.budgetKey)
}

// Leave gives everything held back and ends the instance's part.
func (b *Budgets) Leave(ctx context.Context, c Claim) error {
	end := b.call(c, 0)
	_, err := b.share.RunList(ctx, b.rdb, end.Keys, end.Args...)
	return err
}

func (b *Budgets) call(c Claim, lapse time.Duration) luascript.Call {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	return luascript.Call{Keys: []string{b.budgetKey(c.Budget)},
		Args: []any{c.Instance, number(c.Rate), number(c.Depth), number(c.Demand), c.Held, lapse.Milliseconds(),
			c.Wants}}
}

// Owner says which installation the keys behind a prefix belong to: whose
// database tells what they mean. Safe for concurrent use.
type Owner struct {
	names
	rdb redis.UniversalClient
}

// NewOwner returns the owner of a prefix, redis.prefix, of rdb.
func NewOwner(rdb redis.UniversalClient, prefix string) *Owner {
	return &Owner{names: namesOf(prefix), rdb: rdb}
}

// Prefix returns the prefix that is owned.
func (o *Owner) Prefix() string { return o.prefix }

// ID returns the id of the installation that owns the keys, empty when none
// does: Redis is new, was emptied, or is from before owners were noted.
func (o *Owner) ID(ctx context.Context) (string, error) {
	id, err := o.rdb.Get(ctx, o.ownerKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read which installation owns %s: %w", o.ownerKey, err)
	}
	return id, nil
}

// Claim makes an installation the owner unless there is one, and returns the
// owner's id.
func (o *Owner) Claim(ctx context.Context, id string) (string, error) {
	owner, err := o.ID(ctx)
	if err != nil || owner != "" {
		return owner, err
	}
	err = o.rdb.SetArgs(ctx, o.ownerKey, id, redis.SetArgs{Mode: "NX"}).Err()
	if err != nil && !errors.Is(err, redis.Nil) { // nil: another was first
		return "", fmt.Errorf("note that this installation owns %s: %w", o.ownerKey, err)
	}
	return o.ID(ctx)
}

// Take makes an installation the owner, whoever was it before.
func (o *Owner) Take(ctx context.Context, id string) error {
	if err := o.rdb.Set(ctx, o.ownerKey, id, 0).Err(); err != nil {
		return fmt.Errorf("note that this installation owns %s: %w", o.ownerKey, err)
	}
	return nil
}
