package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"abc"`:                          "abc",
		`abc`:                            "abc",
		`"a b,c"`:                        "a b,c",
		`"a\"b\\c"`:                      `a"b\c`,
		`a;b=c`:                          "a;b=c",
		`8e03978e-40d5-43e8-bc93-6894a5`: "8e03978e-40d5-43e8-bc93-6894a5",
		strings.Repeat("k", 255):         strings.Repeat("k", 255),
	} {
		got, problem := IdempotencyKey(http.Header{"Idempotency-Key": {text}})
		require.Nil(t, problem, text)
		require.Equal(t, want, got)
	}
	for _, values := range [][]string{
		{""}, {`""`}, {`"`}, {`"a`}, {`a"`}, {`"a"b"`}, {`"a\x"`}, {`"a\"`}, {"a b"}, {"a,b"}, {"a\tb"}, {"\"a\x7f\""},
		{"é"}, {`"é"`},
		{`"a";x=1`}, {strings.Repeat("k", 256)}, {"a", "a"},
	} {
		_, problem := IdempotencyKey(http.Header{"Idempotency-Key": values})
		require.NotNil(t, problem, values)
		require.Equal(t, CodeInvalidRequest, problem.Code)
		require.Equal(t, "Idempotency-Key", problem.Errors[0].Field)
	}
	key, problem := IdempotencyKey(http.Header{})
	require.Nil(t, problem)
	require.Empty(t, key)
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", `"a"`, "a", `"\\\""`, `"`, `"\`, "a,b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, problem := IdempotencyKey(http.Header{"Idempotency-Key": {text}})
		if problem != nil {
			require.Empty(t, key)
			return
		}
		require.True(t, len(key) >= 1 && len(key) <= 255)
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		again, problem := IdempotencyKey(http.Header{"Idempotency-Key": {quoted}})
		require.Nil(t, problem)
		require.Equal(t, key, again, "the quoted form names the same key")
	})
}
