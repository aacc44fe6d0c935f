package fleet

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/luascript"
	"sluice/store/schema"
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
	// Sales are patterns of the only sales that its workers take, Topics of the only topics that its notifiers do;
	// none: all.
	Sales  []string `json:"sales,omitempty"`
	Topics []string `json:"topics,omitempty"`
	// Refused is how many orders of a sale its gateway refuses a second; the busiest sales only.
	Refused  map[string]float64 `json:"refused,omitempty"`
	LastSeen time.Time          `json:"-"` // by Redis' clock
}

//go:embed heartbeat.lua
var heartbeat string

// Instances lists the processes that run. Each says so once a second, and one that is silent for five is gone.
// Safe for concurrent use.
type Instances struct {
	key  string // a hash: see heartbeat.lua
	rdb  redis.UniversalClient
	beat luascript.Script
	log  *slog.Logger
}

// NewInstances returns the instances that share a prefix, redis.prefix, of rdb.
func NewInstances(rdb redis.UniversalClient, prefix string, log *slog.Logger) *Instances {
	return &Instances{key: prefix + ":{instances}", rdb: rdb, beat: luascript.New("heartbeat", heartbeat), log: log}
}

// Run says that this process runs until ctx ends, and then that it does not. It asks self each time.
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
	_, err = is.beat.RunList(ctx, is.rdb, []string{is.key}, self.ID, card, lapse.Milliseconds())
	return err
}

// List returns the processes that run, by id.
func (is *Instances) List(ctx context.Context) ([]Instance, error) {
	reply, err := is.beat.RunList(ctx, is.rdb, []string{is.key}, "", "", 0)
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
		seen, _ := reply[i+1].(string)
		ms, _ := strconv.ParseInt(seen, 10, 64)
		one.LastSeen = time.UnixMilli(ms).UTC()
		found = append(found, one)
	}
	slices.SortFunc(found, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}

// Processes returns the processes that run, with the schemas that they work with.
func (is *Instances) Processes(ctx context.Context) ([]schema.Process, error) {
	found, err := is.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask redis which processes run: %w", err)
	}
	running := make([]schema.Process, len(found))
	for i, one := range found {
		running[i] = schema.Process{Name: one.ID, Version: one.Version, Seen: one.LastSeen,
			Schema: schema.Range{Oldest: one.SchemaOldest, Newest: one.SchemaNewest}}
	}
	return running, nil
}
