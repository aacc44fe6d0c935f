package queue

import (
	"sluice/store/redis"

	goflag "flag"
	"log/slog"
	"testing"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) {
	redis.LogClient(slog.New(slog.DiscardHandler))
	shortenWalks()
	testkit.VerifyMain(m)
}

// shortenWalks makes the random walks of every test run few: "make soak" asks for many.
func shortenWalks() {
	goflag.Parse()
	asked := false
	goflag.Visit(func(f *goflag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		_ = goflag.Set("rapid.checks", "20")
	}
}
