package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// minRedis is the oldest major version the scripts run on.
const minRedis = 7

// resolveMode replaces auto by the mode that it means on this machine.
func resolveMode(ctx context.Context, cfg Config, log *slog.Logger) (Config, error) {
	if cfg.Mode != ModeAuto {
		return cfg, nil
	}
	if len(cfg.Addrs) > 0 {
		cfg.Mode = ModeSingle
		return cfg, nil
	}
	version, err := serverVersion(ctx)
	if ctx.Err() != nil {
		return cfg, ctx.Err()
	}
	if err != nil {
		cfg.Mode = ModeEmbedded
		log.WarnContext(ctx, "no usable redis-server: using an in-memory Redis inside this process", "reason", err)
		return cfg, nil
	}
	cfg.Mode = ModeManaged
	log.InfoContext(ctx, "starting the installed redis-server as a private child", "version", version, "dir", cfg.Dir)
	return cfg, nil
}

var versionPattern = regexp.MustCompile(`\bv=(\d+(?:\.\d+)*)`)

// serverVersion returns the version of the redis-server on PATH, or why it
// cannot be used.
func serverVersion(ctx context.Context) (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errors.New("redis-server is not on PATH: install version 7 or newer")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output() // #nosec G204 -- found on this machine
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%s --version printed no version: %q", path, out)
	}
	return string(match[1]), checkVersion(string(match[1]))
}

func checkVersion(version string) error {
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	if err != nil {
		return fmt.Errorf("cannot read the version %q", version)
	}
	if major < minRedis {
		return fmt.Errorf("version %s is too old: Redis %d or newer is needed", version, minRedis)
	}
	return nil
}
