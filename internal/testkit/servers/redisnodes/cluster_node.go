package redisnodes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit/servers"
)

// node is what a node says of itself.
type node struct {
	Server *servers.Server
	ID     string
	Master string // the id of its master, "-" of a master
	Epoch  int
	Slots  []string // "from-to", and "[slot->-id" while one moves
}

// clusterNodes asks one node for CLUSTER NODES.
func clusterNodes(ctx context.Context, s *servers.Server) (text string, err error) {
	err = Ask(s, func(c *redis.Client) error {
		text, err = c.ClusterNodes(ctx).Result()
		return err
	})
	return text, err
}

// nodes asks every node about itself and leaves out those that do not answer.
func (c *Cluster) nodes(ctx context.Context) ([]node, error) {
	var found []node
	var errs []error
	for _, s := range c.Nodes {
		if s.PID() == 0 {
			continue
		}
		n, err := c.self(ctx, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, n)
	}
	if len(found) == 0 {
		return nil, errors.Join(append(errs, errors.New("no node of the cluster answers"))...)
	}
	return found, nil
}

// self asks one node about itself.
func (c *Cluster) self(ctx context.Context, s *servers.Server) (node, error) {
	text, err := clusterNodes(ctx, s)
	if err != nil {
		return node{}, err
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 || !strings.Contains(fields[2], "myself") {
			continue
		}
		epoch, err := strconv.Atoi(fields[6])
		return node{Server: s, ID: fields[0], Master: fields[3], Epoch: epoch, Slots: fields[8:]}, err
	}
	return node{}, fmt.Errorf("%s does not name itself:\n%s", s.Addr(), text)
}

// has reports whether a node says that it owns a slot.
func (n node) has(slot int) bool {
	for _, field := range n.Slots {
		first, last, ranged := strings.Cut(field, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			continue // a slot on its way
		}
		to := from
		if ranged {
			if to, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		if from <= slot && slot <= to {
			return true
		}
	}
	return false
}

// whole returns nil when a node is in order; ports are those of the masters.
func (n node) whole(ctx context.Context, ports map[string]int) error {
	var state, text string
	err := Ask(n.Server, func(c *redis.Client) (err error) {
		if state, err = c.ClusterInfo(ctx).Result(); err == nil {
			text, err = c.ClusterNodes(ctx).Result()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !strings.Contains(state, "cluster_state:ok"), strings.Contains(text, "fail"), strings.Contains(text,
		"disconnected"):
		return fmt.Errorf("%s says: %s\n%s", n.Server.Addr(), state, text)
	case ports[n.ID] != 0:
		return nil
	case ports[n.Master] == 0:
		return fmt.Errorf("%s is neither a master with slots nor the replica of one: %s", n.Server.Addr(), text)
	}
	return follows(ctx, n.Server, ports[n.Master])
}
