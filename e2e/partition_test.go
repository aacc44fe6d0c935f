package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/hosts"
	"sluice/internal/testkit/servers"
)

// The hosts of the partitions: on shopHost, this test itself runs.
const (
	shopHost = "shop"
	gatewayA = "gate-a"
	gatewayB = "gate-b"
	workHost = "work"
	redisA   = "redis-a"
	redisB   = "redis-b"
	redisC   = "redis-c"
	dataHost = "data"
)

const (
	networkVariable = "SLUICE_E2E_NETWORK" // set for the part that runs inside
	binaryVariable  = "SLUICE_E2E_BINARY"
	masterName      = "line"

	partitionPatience = 6 * time.Minute
	partedFor         = 4 * time.Second // longer than a lease, a transaction and a failover
	differsAtMost     = 10 * time.Second
	splitStock        = 500
)

// TestPartitionsBetweenHosts gives each process and each store a network namespace of its own. Links between them are
// cut and healed. The test runs itself again on one of the hosts; whatever becomes of that, the hosts go.
func TestPartitionsBetweenHosts(t *testing.T) {
	if why := hosts.Obstacle(); why != "" {
		t.Skip("not here: ", why)
	}
	if text := os.Getenv(networkVariable); text != "" {
		network := hosts.Join(text)
		for _, durability := range []string{"always", "replicated"} {
			t.Run(durability, func(t *testing.T) { partitions(t, network, durability) })
		}
		return
	}
	t.Parallel()
	network := hosts.New(t, shopHost, gatewayA, gatewayB, workHost, redisA, redisB, redisC, dataHost)
	ctx, cancel := context.WithTimeout(t.Context(), partitionPatience)
	defer cancel()
	command := network.Command(shopHost, os.Args[0], "-test.run=^TestPartitionsBetweenHosts$", "-test.v",
		"-test.timeout="+partitionPatience.String())
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) // #nosec G204 -- this program
	cmd.Env = append(os.Environ(), networkVariable+"="+network.String(), binaryVariable+"="+binary(t, ""))
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	servers.DieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err, "the partitions failed, see above")
}

// parted is a system whose parts live on hosts of their own.
type parted struct {
	*cluster
	network   *hosts.Network
	sentinels []string
}

// partitions goes through every partition on one system.
func partitions(t *testing.T, network *hosts.Network, durability string) {
	p := startParted(t, network, durability)
	t.Run("slow links", p.slowLinks)
	t.Run("a gateway without Redis", p.gatewayWithoutRedis)
	t.Run("a worker without the database", p.workerWithoutDatabase)
	t.Run("split brain", func(t *testing.T) { p.splitBrain(t, durability == "replicated") })
}

// settle waits until every accepted order is confirmed and the audit is clean,
// and says how long that took.
func (p *parted) settle(t *testing.T, b *buyers, since time.Time) {
	t.Helper()
	require.Eventually(t, func() bool { return b.unconfirmed(t.Context()) == "" }, mendPatience, 20*time.Millisecond,
		"healed, and %s; logs in %s", b.sale, p.logs)
	confirmed := time.Since(since)
	p.agree(t, since)
	t.Logf("%d orders accepted, all confirmed %s after the links were whole, audit clean after %s",
		len(b.orders()), rounded(confirmed), rounded(time.Since(since)))
	b.abandoned(t, b.sale)
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// agree requires a clean audit in time.
func (p *parted) agree(t *testing.T, since time.Time) {
	t.Helper()
	requireClean(t, p.cluster)
	require.Less(t, time.Since(since), differsAtMost, "a difference stood for longer")
}

func (p *parted) slowLinks(t *testing.T) {
	b := openBuyers(t, p.cluster, "slow", hostileStock)
	pairs := [][2]string{{gatewayA, redisA}, {redisA, gatewayA}, {workHost, dataHost}, {dataHost, workHost}}
	for _, pair := range pairs {
		err := p.network.Delay(pair[0], pair[1], "40ms")
		if errors.Is(err, hosts.ErrNoNetem) {
			t.Log("links are as quick as ever: ", err)
			break
		}
		require.NoError(t, err)
		defer func() { require.NoError(t, p.network.Hasten(pair[0], pair[1])) }()
	}
	require.NoError(t, b.during(t.Context(), func() error { return pause(t.Context(), partedFor/2) }))
	p.settle(t, b, time.Now())
}

func (p *parted) gatewayWithoutRedis(t *testing.T) {
	b := openBuyers(t, p.cluster, "cut-off", hostileStock)
	left, right := []string{gatewayA}, []string{redisA, redisB, redisC}
	var cutOff, other int
	require.NoError(t, b.during(t.Context(), func() error {
		if err := errors.Join(pause(t.Context(), partedFor/4), p.network.Part(left, right)); err != nil {
			return err
		}
		cutOff, other = b.acceptedBy(p.nodes[0]), b.acceptedBy(p.nodes[1])
		err := pause(t.Context(), partedFor)
		cutOff, other = b.acceptedBy(p.nodes[0])-cutOff, b.acceptedBy(p.nodes[1])-other
		return errors.Join(err, p.network.Unite(left, right), b.untilSells(t.Context(), p.nodes[0]))
	}))
	t.Logf("meanwhile the gateway without Redis accepted %d orders, the other %d", cutOff, other)
	require.LessOrEqual(t, cutOff, buyersAtOnce, "beyond those on their way")
	require.Greater(t, other, buyersAtOnce)
	p.settle(t, b, time.Now())
}

func (p *parted) workerWithoutDatabase(t *testing.T) {
	b := openBuyers(t, p.cluster, "no-ledger", hostileStock)
	left, right := []string{workHost}, []string{dataHost}
	waiting := ""
	require.NoError(t, b.during(t.Context(), func() error {
		err := errors.Join(p.network.Part(left, right), pause(t.Context(), partedFor))
		waiting = b.unconfirmed(t.Context())
		return errors.Join(err, p.network.Unite(left, right))
	}))
	require.NotEmpty(t, waiting, "the worker was cut off")
	p.settle(t, b, time.Now())
}

// splitBrain leaves the master alone with one gateway. What that gateway
// accepts meanwhile is on no other Redis: with durability always it may be
// lost, and is told then; with replicated nothing is accepted that could be.
func (p *parted) splitBrain(t *testing.T, replicated bool) {
	stock := hostileStock
	if !replicated {
		stock = splitStock // so that some of what comes back finds its unit sold
	}
	b := openBuyers(t, p.cluster, "split", stock)
	master, others := p.master(t)
	left, right := []string{gatewayA, master}, append(others, gatewayB, workHost)
	var alone int
	require.NoError(t, b.during(t.Context(), func() error {
		if err := errors.Join(pause(t.Context(), partedFor/4), p.network.Part(left, right)); err != nil {
			return err
		}
		before := b.acceptedBy(p.nodes[0])
		if err := b.untilSells(t.Context(), p.nodes[1]); err != nil {
			return fmt.Errorf("the side with two of three sentinels: %w", err)
		}
		err := pause(t.Context(), partedFor)
		alone = b.acceptedBy(p.nodes[0]) - before // links come back one by one, and what is taken then is not at stake
		return errors.Join(err, p.network.Unite(left, right), b.untilSells(t.Context(), p.nodes[0]))
	}))
	healed := time.Now()
	p.awaitRunning()
	t.Logf("%d orders accepted, %d of them by the gateway that was alone with the old master", len(b.orders()), alone)
	if replicated {
		require.LessOrEqual(t, alone, buyersAtOnce,
			"beyond those on their way, nothing can be acknowledged by a replica")
		p.settle(t, b, healed)
		return
	}
	require.Greater(t, alone, buyersAtOnce, "nothing was at stake")
	lost, back := b.tellLost(t)
	p.agree(t, healed)
	t.Logf("%d orders came back on their receipts, %d were told lost, audit clean after %s",
		back, lost, rounded(time.Since(healed)))
}

// tellLost shows the receipts of orders that no store has, and waits until
// each accepted order is confirmed, or is told to have been lost.
func (b *buyers) tellLost(t *testing.T) (lost, back int) {
	t.Helper()
	rows, err := b.cluster.stores.orders(t.Context(), b.sale)
	require.NoError(t, err)
	for id, user := range b.orders() {
		if _, there := rows[id]; !there {
			b.shown(t, id, user, map[string]string{"Sluice-Receipt": b.receipts[id]})
			back++
		}
	}
	require.Eventually(t, func() bool {
		rows, err := b.cluster.stores.orders(t.Context(), b.sale)
		if err != nil {
			return false
		}
		lost = 0
		for id := range b.orders() {
			row, there := rows[id]
			if !there || row.Status != "confirmed" && (row.Status != "failed" || row.Reason != "lost") {
				return false
			}
			if row.Status == "failed" {
				lost++
			}
		}
		return true
	}, mendPatience, 50*time.Millisecond, "%s; logs in %s", b.unconfirmed(t.Context()), b.cluster.logs)
	rows, err = b.cluster.stores.orders(t.Context(), b.sale)
	require.NoError(t, err)
	for id, user := range b.orders() {
		require.Equal(t, rows[id].Status, b.state(t, id, user), "what the owner of %s reads", id)
	}
	return lost, back - lost
}
