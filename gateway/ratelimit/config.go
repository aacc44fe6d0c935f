package ratelimit

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"sluice/queue"
)

// maxSaleLimits bounds the sales with limits of their own, because each has a budget that is renewed often.
const maxSaleLimits = 64

// Config has requests per second and bursts. A rate of 0 switches that limit off. A burst of 0 means the requests of
// one second.
type Config struct {
	GlobalRPS    float64 `koanf:"global_rps"` // of all gateways together
	GlobalBurst  int     `koanf:"global_burst"`
	PerUserRPS   float64 `koanf:"per_user_rps"`
	PerUserBurst int     `koanf:"per_user_burst"`
	// Requests of one user about earlier orders: polls, opening event streams, lists and cancellations.
	PerUserReadsRPS   float64               `koanf:"per_user_reads_rps"`
	PerUserReadsBurst int                   `koanf:"per_user_reads_burst"`
	PerIPRPS          float64               `koanf:"per_ip_rps"`
	PerIPBurst        int                   `koanf:"per_ip_burst"`
	Sales             map[string]SaleConfig `koanf:"sales"` // by sale id, at most 64
}

// SaleConfig replaces the general limits for requests of one sale, which then do not count there. An absent rate is not
// replaced; 0 switches that limit off for the sale.
type SaleConfig struct {
	// Of all users and all gateways together; the configuration keys call it global.
	TotalRPS          *float64 `koanf:"global_rps" json:"global_rps,omitempty"`
	TotalBurst        int      `koanf:"global_burst" json:"global_burst,omitempty"`
	PerUserRPS        *float64 `koanf:"per_user_rps" json:"per_user_rps,omitempty"`
	PerUserBurst      int      `koanf:"per_user_burst" json:"per_user_burst,omitempty"`
	PerUserReadsRPS   *float64 `koanf:"per_user_reads_rps" json:"per_user_reads_rps,omitempty"`
	PerUserReadsBurst int      `koanf:"per_user_reads_burst" json:"per_user_reads_burst,omitempty"`
	PerIPRPS          *float64 `koanf:"per_ip_rps" json:"per_ip_rps,omitempty"`
	PerIPBurst        int      `koanf:"per_ip_burst" json:"per_ip_burst,omitempty"`
}

// saleLimit is one of a sale's own limits.
type saleLimit struct {
	kind  string
	rps   *float64 // nil: the general limit applies
	burst int
}

func (s SaleConfig) limits() [4]saleLimit {
	return [...]saleLimit{{"global", s.TotalRPS, s.TotalBurst}, {"per_user", s.PerUserRPS, s.PerUserBurst},
		{"per_user_reads", s.PerUserReadsRPS, s.PerUserReadsBurst}, {"per_ip", s.PerIPRPS, s.PerIPBurst}}
}

// DefaultConfig returns a configuration without limits, because they depend on the shop. configs/limits.yaml is a
// start.
func DefaultConfig() Config { return Config{} }

// Validate returns every bad value, each with its key and the allowed values.
func (c Config) Validate() error {
	errs := []error{
		CheckRate("limits.global", c.GlobalRPS, c.GlobalBurst),
		CheckRate("limits.per_user", c.PerUserRPS, c.PerUserBurst),
		CheckRate("limits.per_user_reads", c.PerUserReadsRPS, c.PerUserReadsBurst),
		CheckRate("limits.per_ip", c.PerIPRPS, c.PerIPBurst),
	}
	if len(c.Sales) > maxSaleLimits {
		errs = append(errs, fmt.Errorf("limits.sales may name at most %d sales, got %d", maxSaleLimits, len(c.Sales)))
	}
	for _, sale := range slices.Sorted(maps.Keys(c.Sales)) {
		own := c.Sales[sale]
		if !queue.ValidSaleID(sale) {
			errs = append(errs, fmt.Errorf("limits.sales must name sales by their id, got %q", sale))
			continue
		}
		for _, limit := range own.limits() {
			errs = append(errs, limit.check(sale))
		}
	}
	return errors.Join(errs...)
}

func (l saleLimit) check(sale string) error {
	if l.rps == nil {
		if l.burst != 0 {
			return fmt.Errorf("limits.sales: %s has %s_burst without %s_rps", sale, l.kind, l.kind)
		}
		return nil
	}
	return CheckRate("limits.sales: "+sale+"."+l.kind, *l.rps, l.burst)
}

// CheckRate names the keys of a rate or burst that is out of bounds, which begin with prefix.
func CheckRate(prefix string, rps float64, burst int) error {
	if math.IsNaN(rps) || rps < 0 || rps > 1e7 || (rps > 0 && rps < 0.001) {
		return fmt.Errorf("%s_rps must be 0 (off) or between 0.001 and 10000000 requests per second, got %v", prefix,
			rps)
	}
	if burst < 0 || burst > 1e7 {
		return fmt.Errorf("%s_burst must be between 1 and 10000000, or 0 for what one second allows, got %d",
			prefix, burst)
	}
	return nil
}
