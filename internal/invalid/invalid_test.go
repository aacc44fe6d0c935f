package invalid

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryFieldIsNamed(t *testing.T) {
	t.Parallel()
	require.EqualError(t, Error{{"cap", "must be at least 1"}, {"id", "is missing"}},
		"cap must be at least 1; id is missing")
}

func TestPlainText(t *testing.T) {
	t.Parallel()
	for text, plain := range map[string]bool{"": false, "手机": true, "手机!": false, "a\n": false, "\x7f": false,
		"\xff": false} {
		require.Equal(t, plain, PlainText(text, 2), "%q", text)
	}
}
