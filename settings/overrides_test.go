package settings

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEarlierFormsAreRead checks that old stored forms are read and that unreadable ones are refused.
func TestEarlierFormsAreRead(t *testing.T) {
	t.Parallel()
	o, err := ParseOverrides(`{"queue.cap":{"value":50,"until":5000,"then":500},"pool.size":{"value":3}}`)
	require.NoError(t, err)
	require.Equal(t, Overrides{{Key: "pool.size", Value: 3.0}, {Key: "queue.cap", Value: 500.0},
		{Key: "queue.cap", Value: 50.0, Until: 5000}}, o)
	o, err = ParseOverrides("{}")
	require.NoError(t, err)
	require.Empty(t, o)
	for _, text := range []string{"", "{", "[1]"} {
		_, err := ParseOverrides(text)
		require.ErrorIs(t, err, ErrUnreadable)
	}
}

// TestOverridesAreBounded checks that overrides that only remove something are dropped, oldest first, to make room.
func TestOverridesAreBounded(t *testing.T) {
	t.Parallel()
	o := Overrides{}.With(Override{Key: "queue.cap", Value: 5})
	for _, sale := range []string{"a", "b", "c"} {
		o = o.With(Override{Key: "queue.held", Sale: sale, Value: true}).With(Override{Key: "queue.held", Sale: sale})
	}
	require.Len(t, o, 4, "one entry for each")
	text, err := json.Marshal(o[:3])
	require.NoError(t, err)
	o, ok := o.Shorten(len(text))
	require.True(t, ok)
	require.Equal(t, []string{"", "b", "c"}, []string{o[0].Sale, o[1].Sale, o[2].Sale})
	_, ok = o.Shorten(10)
	require.False(t, ok)
}
