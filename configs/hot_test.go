package configs

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/ratelimit"
)

// TestEveryHotKeyIsChecked checks that the bounds of each hot key are checked when it changes.
func TestEveryHotKeyIsChecked(t *testing.T) {
	t.Parallel()
	impossible := map[reflect.Type]any{
		reflect.TypeFor[int](): -5, reflect.TypeFor[float64](): -5.0, reflect.TypeFor[time.Duration](): time.Nanosecond,
		reflect.TypeFor[string](): "?", reflect.TypeFor[[]string](): make([]string, 1001),
		reflect.TypeFor[map[string]ratelimit.SaleConfig](): map[string]ratelimit.SaleConfig{"no sale": {}},
	}
	standard := Fixed(Default())
	for _, k := range standard.Keys() {
		if !Hot(k.path) {
			continue
		}
		require.NoError(t, k.CheckAlone(standard.Value(k)))
		if k.typ.Kind() != reflect.Bool {
			require.ErrorContains(t, k.CheckAlone(impossible[k.typ]), k.path)
		}
	}
}
