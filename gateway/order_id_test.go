package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/inventory"
)

// keyed is a sale whose orders have signed ids.
func keyed(id string) inventory.Sale { return inventory.Sale{ID: id, IDKey: "the key of " + id} }

func TestOrderID(t *testing.T) {
	t.Parallel()
	for _, sale := range []inventory.Sale{keyed("sale"), {ID: "sale"}} {
		first := new(orderIDs).next(sale, "ann", "key")
		require.Equal(t, first, new(orderIDs).next(sale, "ann", "key"))
		parsed, err := uuid.Parse(first)
		require.NoError(t, err)
		require.EqualValues(t, 8, parsed.Version())
		require.Equal(t, uuid.RFC4122, parsed.Variant())
		for _, other := range []string{
			new(orderIDs).next(sale, "ann", "key2"), new(orderIDs).next(sale, "bob", "key"), new(orderIDs).
				next(inventory.Sale{ID: "sale2"}, "ann", "key"),
			new(orderIDs).next(inventory.Sale{ID: "sal"}, "eann", "key"), new(orderIDs).next(sale, "annk", "ey"),
		} {
			require.NotEqual(t, first, other)
		}
		random, err := uuid.Parse(new(orderIDs).next(sale, "ann", ""))
		require.NoError(t, err)
		require.EqualValues(t, 7, random.Version())
		require.NotEqual(t, random.String(), new(orderIDs).next(sale, "ann", ""))
	}
}

// The id of a retried request must not change between releases: gateways of two versions run side by side.
func TestOrderIDIsStable(t *testing.T) {
	t.Parallel()
	require.Equal(t, "f071928d-1fbd-86e7-ad4f-13404f0fab51", new(orderIDs).
		next(inventory.Sale{ID: "phone-x"}, "ann", "k-1"))
	require.Equal(t, "f071928d-1fbd-86e7-ad4f-044c40be840e", new(orderIDs).next(keyed("phone-x"), "ann", "k-1"))
	require.Equal(t, "884ddc92", Fingerprint(api.OrderRequest{Quantity: 1, Email: "ann@example.com"}))
}

func TestIssuedIDsProveThemselvesToTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	sale := keyed("sale")
	for _, key := range []string{"", "key"} {
		id := new(orderIDs).next(sale, "ann", key)
		require.True(t, new(orderIDs).issued(sale, "ann", id))
		require.False(t, new(orderIDs).issued(sale, "bob", id), "another user")
		require.False(t, new(orderIDs).issued(sale, "annsale", id))
		require.False(t, new(orderIDs).issued(keyed("sale2"), "ann", id), "another sale")
		require.False(t, new(orderIDs).issued(inventory.Sale{ID: "sale", IDKey: "another"}, "ann", id), "another key")
		require.False(t, new(orderIDs).issued(inventory.Sale{ID: "sale"}, "ann", id),
			"a sale from before ids were signed")
		require.False(t, new(orderIDs).issued(sale, "ann", new(orderIDs).next(inventory.Sale{ID: "sale"}, "ann", key)),
			"an unsigned id")
		for i := range id {
			if id[i] != '-' {
				changed := id[:i] + string("0123456789abcdef"[(strings.IndexByte("0123456789abcdef", id[i])+1)%16]) +
					id[i+1:]
				require.False(t, new(orderIDs).issued(sale, "ann", changed), changed)
			}
		}
		for _, spelling := range []string{strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id,
			strings.ReplaceAll(id, "-", ""), "", id + " "} {
			require.False(t, new(orderIDs).issued(sale, "ann", spelling), spelling)
		}
	}
}

// Signing leaves the time of an id alone, and enough of what is random to tell orders apart.
func TestSignedIDsKeepTheirTimeAndDiffer(t *testing.T) {
	t.Parallel()
	sale, seen := keyed("sale"), map[string]bool{}
	before := time.Now().UnixMilli()
	for n := range 20_000 {
		id := new(orderIDs).next(sale, fmt.Sprintf("user-%d", n), "")
		require.False(t, seen[id])
		seen[id] = true
		require.GreaterOrEqual(t, mintedAt(id), before)
		require.LessOrEqual(t, mintedAt(id), time.Now().UnixMilli())
	}
	require.Zero(t, mintedAt(new(orderIDs).next(sale, "ann", "key")))
	require.Zero(t, mintedAt("no id"))
}

func BenchmarkOrderID(b *testing.B) {
	for name, sale := range map[string]inventory.Sale{"signed": keyed("sale"), "plain": {ID: "sale"}} {
		for _, key := range []string{"", "key"} {
			b.Run(name+"/"+key, func(b *testing.B) {
				b.ReportAllocs()
				var ids orderIDs
				for b.Loop() {
					ids.next(sale, "user-12345", key)
				}
			})
		}
	}
}

func TestFingerprintTellsPayloadsApart(t *testing.T) {
	t.Parallel()
	seen := map[string]api.OrderRequest{}
	for _, body := range []api.OrderRequest{
		{Quantity: 1}, {Quantity: 2}, {Quantity: 1, Email: "a@b.cc"}, {Quantity: 1, Phone: "a@b.cc"},
		{Quantity: 1, Email: "a@b.cc", Phone: "+12345678"}, {Quantity: 1, Email: "a@b.c", Phone: "c+12345678"},
		{Quantity: 1, Locale: "en"},
	} {
		print := Fingerprint(body)
		require.Regexp(t, `^[0-9a-f]{8}$`, print)
		require.NotContains(t, seen, print)
		seen[print] = body
		require.Equal(t, print, Fingerprint(body))
	}
}
