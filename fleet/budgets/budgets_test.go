package budgets_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/fleet/budgets"
	"sluice/internal/testkit"
)

// eachBudget runs a test with the budgets of each kind of Redis.
func eachBudget(t *testing.T, test func(t *testing.T, rdb *redis.Client, b *budgets.Store)) {
	t.Helper()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			rdb := testkit.RedisClient(t, kind.Addr)
			test(t, rdb, budgets.New(rdb, "sluice"))
		})
	}
}

// still is a claim on a budget of 100 tokens into which next to nothing comes.
func still(instance string, demand float64, held, wants int64) budgets.Claim {
	return budgets.Claim{Budget: "b", Instance: instance, Rate: 0.001, Depth: 100, Demand: demand, Held: held,
		Wants: wants, Lapse: time.Minute}
}

func deal(t *testing.T, b *budgets.Store, c budgets.Claim) int64 {
	t.Helper()
	share := b.Renew(t.Context(), []budgets.Claim{c})[0]
	require.NoError(t, share.Err)
	return share.Tokens
}

// An instance gets what it wants, the rest lies in Redis for the others.
func TestBudgetDealsWhatIsWanted(t *testing.T) {
	t.Parallel()
	eachBudget(t, func(t *testing.T, _ *redis.Client, b *budgets.Store) {
		require.Zero(t, deal(t, b, still("idle", 0, 0, 0)))
		require.EqualValues(t, 30, deal(t, b, still("a", 10, 0, 30)))
		require.EqualValues(t, -20, deal(t, b, still("a", 10, 30, 10)), "it gives back what it no longer wants")
		require.EqualValues(t, 60, deal(t, b, still("b", 30, 0, 60)))
		require.EqualValues(t, 15, deal(t, b, still("a", 10, 10, 100)), "a quarter of all, for a quarter of the demand")
		require.EqualValues(t, 15, deal(t, b, still("b", 30, 60, 100)), "no more than there is")
		require.EqualValues(t, -25, deal(t, b, still("a", 0, 25, 0)))
		require.NoError(t, b.Leave(t.Context(), still("b", 30, 75, 0)))
		require.EqualValues(t, 100, deal(t, b, still("c", 1, 0, 1000)), "all of it is back")
	})
}

// Whoever comes with a little demand is not left with nothing.
func TestBudgetDealsAtLeastOne(t *testing.T) {
	t.Parallel()
	eachBudget(t, func(t *testing.T, _ *redis.Client, b *budgets.Store) {
		require.EqualValues(t, 90, deal(t, b, still("busy", 10_000, 0, 90)))
		require.EqualValues(t, 1, deal(t, b, still("quiet", 1, 0, 5)))
	})
}

// After the rate was lowered no more lies anywhere than it allows, whatever had been dealt.
func TestBudgetFollowsALoweredRate(t *testing.T) {
	t.Parallel()
	eachBudget(t, func(t *testing.T, _ *redis.Client, b *budgets.Store) {
		require.EqualValues(t, 50, deal(t, b, still("a", 10, 0, 50)))
		low := still("a", 10, 2, 50) // what is left of 50 in a twenty-fifth of the rate
		low.Depth = 4
		require.LessOrEqual(t, deal(t, b, low), int64(2))
		other := still("b", 10, 0, 50)
		other.Depth = 4
		require.LessOrEqual(t, deal(t, b, other), int64(2))
	})
}

// A budget is forgotten when it has filled up again, and not before.
func TestBudgetIsForgottenWhenItIsFull(t *testing.T) {
	t.Parallel()
	eachBudget(t, func(t *testing.T, rdb *redis.Client, b *budgets.Store) {
		c := still("a", 1, 0, 10)
		c.Rate, c.Depth = 2, 600
		deal(t, b, c)
		left := rdb.PTTL(t.Context(), "sluice:{budget/b}").Val()
		require.Greater(t, left, 5*time.Minute)
		require.LessOrEqual(t, left, 6*time.Minute)
	})
}

// A lease that ends later than anybody asks for was given before the clock was set back.
func TestBudgetAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	eachBudget(t, func(t *testing.T, _ *redis.Client, b *budgets.Store) {
		gone := still("gone", 10, 0, 90)
		gone.Lapse = time.Hour
		require.EqualValues(t, 90, deal(t, b, gone))
		require.EqualValues(t, 10, deal(t, b, still("a", 10, 0, 50)))
		share := b.Renew(t.Context(), []budgets.Claim{still("a", 10, 10, 50)})[0]
		require.Equal(t, 1, share.Instances)
	})
}

// One budget that cannot be dealt is that one's trouble.
func TestBudgetsAreDealtEachByItself(t *testing.T) {
	t.Parallel()
	eachBudget(t, func(t *testing.T, rdb *redis.Client, b *budgets.Store) {
		require.NoError(t, rdb.Set(t.Context(), "sluice:{budget/broken}", "no hash", 0).Err())
		broken := still("a", 1, 0, 5)
		broken.Budget = "broken"
		shares := b.Renew(t.Context(), []budgets.Claim{still("a", 1, 0, 5), broken, still("a", 1, 5, 5)})
		require.NoError(t, shares[0].Err)
		require.ErrorContains(t, shares[1].Err, "budget/broken")
		require.ErrorContains(t, shares[1].Err, "WRONGTYPE")
		require.NoError(t, shares[2].Err)
		require.EqualValues(t, 5, shares[0].Tokens)
	})
}
