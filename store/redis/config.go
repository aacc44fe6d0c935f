package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The ways to reach Redis: the values of redis.mode.
const (
	// single when an address is given, else managed when redis-server is installed, else embedded
	ModeAuto     = "auto"
	ModeEmbedded = "embedded" // in memory inside this process; waiting orders are lost with it
	ModeManaged  = "managed"  // a private child redis-server with an append-only file
	ModeSingle   = "single"   // one server
	ModeSentinel = "sentinel" // the master the sentinels name
	ModeCluster  = "cluster"  // a Redis Cluster
)

func redisModes() []string {
	return []string{ModeAuto, ModeEmbedded, ModeManaged, ModeSingle, ModeSentinel, ModeCluster}
}

// DefaultPrefix begins every key and channel where redis.prefix is not set.
const DefaultPrefix = "sluice"

// Config says which Redis to use and how to reach it.
type Config struct {
	Mode string `koanf:"mode"` // one of the Mode constants
	// host:port of the server, the sentinels or seed nodes of the cluster; a socket path is allowed in
	// single mode
	Addrs    []string `koanf:"addrs"`
	Username string   `koanf:"username"`               // ACL user; empty means the default user
	Password string   `koanf:"password" secret:"true"` // of that user
	// the master's name at the sentinels
	MasterName       string `koanf:"master_name"`
	SentinelUsername string `koanf:"sentinel_username"`               // ACL user at the sentinels
	SentinelPassword string `koanf:"sentinel_password" secret:"true"` // of that user
	DB               int    `koanf:"db"`                              // 0 to 15; a cluster has only 0
	TLS              TLS    `koanf:"tls"`
	// begins every key and channel; 1 to 32 letters, digits, dots, hyphens and underscores
	Prefix string `koanf:"prefix"`
	// state folder of the managed server; one process at a time
	Dir         string        `koanf:"dir"`
	DialTimeout time.Duration `koanf:"dial_timeout"` // to open one connection; 10ms to 1m
	// for one command, and for a free connection to send it on; 10ms to 1m
	Timeout time.Duration `koanf:"timeout"`
	// what an admitted order must survive: memory, everysec, always or replicated; auto accepts Redis as it is
	Durability string `koanf:"durability"`
	// replicas that must acknowledge where durability is replicated; 1 to 10
	Replicas int `koanf:"replicas"`
	// how long to wait for them; 10ms to 10s, less than timeout
	ReplicaTimeout time.Duration `koanf:"replica_timeout"`
	// most connections to one server; 0 means ten for each CPU, five in a cluster
	PoolSize int `koanf:"pool_size"`
}

// TLS says how to encrypt the connections to Redis and its sentinels.
type TLS struct {
	Enabled    bool   `koanf:"enabled"`
	CAFile     string `koanf:"ca_file"`     // PEM certificates to trust; empty means the system's
	CertFile   string `koanf:"cert_file"`   // PEM certificate to present; with key_file
	KeyFile    string `koanf:"key_file"`    // its PEM private key
	ServerName string `koanf:"server_name"` // name expected in the server's certificate; empty means the address's host
}

// DefaultConfig returns the configuration used where nothing is set.
func DefaultConfig() Config {
	return Config{
		Mode: ModeAuto, Addrs: []string{}, Prefix: DefaultPrefix, Dir: "data/redis",
		DialTimeout: 2 * time.Second, Timeout: 2 * time.Second,
		Durability: DurabilityAuto, Replicas: 1, ReplicaTimeout: 500 * time.Millisecond,
	}
}

// Validate reports every key whose value is not allowed. It never repeats a
// password.
func (c Config) Validate() error {
	errs := []error{
		c.validateMode(),
		checkBounds("redis.db", c.DB, 0, 15),
		checkBounds("redis.dial_timeout", c.DialTimeout, 10*time.Millisecond, time.Minute),
		checkBounds("redis.timeout", c.Timeout, 10*time.Millisecond, time.Minute),
		checkBounds("redis.pool_size", c.PoolSize, 0, 10_000),
		c.validateTLS(),
		c.validateDurability(),
		validatePrefix(c.Prefix),
	}
	for _, addr := range c.Addrs {
		errs = append(errs, c.validateAddr(addr))
	}
	if c.Username != "" && c.Password == "" {
		errs = append(errs, errors.New("redis.password must be set when redis.username is"))
	}
	if c.SentinelUsername != "" && c.SentinelPassword == "" {
		errs = append(errs, errors.New("redis.sentinel_password must be set when redis.sentinel_username is"))
	}
	return errors.Join(errs...)
}

// validatePrefix refuses braces, which would move every key into one slot of a cluster. It also refuses colons, which
// would let one prefix be part of another.
func validatePrefix(prefix string) error {
	if !prefixPattern.MatchString(prefix) {
		return fmt.Errorf("redis.prefix must be 1 to 32 letters, digits, dots, hyphens or underscores, got %q", prefix)
	}
	return nil
}

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

func (c Config) validateDurability() error {
	allowed := []string{DurabilityAuto, DurabilityMemory, DurabilityEverySec, DurabilityAlways, DurabilityReplicated}
	if !slices.Contains(allowed, c.Durability) {
		return fmt.Errorf("redis.durability must be one of %s, got %q", strings.Join(allowed, ", "), c.Durability)
	}
	if c.Durability != DurabilityReplicated {
		return nil
	}
	errs := []error{
		checkBounds("redis.replicas", c.Replicas, 1, 10),
		checkBounds("redis.replica_timeout", c.ReplicaTimeout, 10*time.Millisecond, 10*time.Second),
	}
	if c.ReplicaTimeout >= c.Timeout {
		errs = append(errs, fmt.Errorf("redis.replica_timeout must be shorter than redis.timeout (%s), got %s",
			c.Timeout, c.ReplicaTimeout))
	}
	if c.Mode == ModeEmbedded || c.Mode == ModeManaged {
		errs = append(errs, fmt.Errorf("redis.durability replicated needs replicas, which redis.mode %s has not",
			c.Mode))
	}
	return errors.Join(errs...)
}

func (c Config) validateMode() error {
	if !slices.Contains(redisModes(), c.Mode) {
		return fmt.Errorf("redis.mode must be one of %s, got %q", strings.Join(redisModes(), ", "), c.Mode)
	}
	var errs []error
	switch n := len(c.Addrs); c.Mode {
	case ModeAuto:
		if n > 1 {
			errs = append(errs,
				errors.New("redis.mode must be sentinel or cluster when redis.addrs holds more than one address"))
		}
	case ModeSingle:
		if n != 1 {
			errs = append(errs, fmt.Errorf("redis.addrs must hold exactly one address in redis.mode single, got %d", n))
		}
	case ModeSentinel, ModeCluster:
		if n == 0 {
			errs = append(errs, fmt.Errorf("redis.addrs must hold at least one address in redis.mode %s", c.Mode))
		}
	case ModeEmbedded, ModeManaged:
		if n > 0 {
			errs = append(errs, fmt.Errorf("redis.addrs must be empty in redis.mode %s: it starts its own Redis",
				c.Mode))
		}
	}
	if (c.Mode == ModeSentinel) != (c.MasterName != "") {
		errs = append(errs, errors.New("redis.master_name must be set in redis.mode sentinel, and only there"))
	}
	if c.Mode == ModeCluster && c.DB != 0 {
		errs = append(errs, errors.New("redis.db must be 0 in redis.mode cluster"))
	}
	if c.Dir == "" && (c.Mode == ModeManaged || c.Mode == ModeAuto && len(c.Addrs) == 0) {
		errs = append(errs, fmt.Errorf("redis.dir must name a folder in redis.mode %s", c.Mode))
	}
	return errors.Join(errs...)
}

func (c Config) validateAddr(addr string) error {
	if strings.HasPrefix(addr, "/") && (c.Mode == ModeSingle || c.Mode == ModeAuto) {
		return nil
	}
	if strings.ContainsAny(addr, "/@") { // a URL may contain a password: not repeated
		return errors.New("redis.addrs must hold host:port, not a URL; " +
			"give the rest in redis.username, redis.password, redis.db and redis.tls")
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return fmt.Errorf("redis.addrs must hold host:port, for example 127.0.0.1:6379, got %q", addr)
	}
	return nil
}

func (c Config) validateTLS() error {
	t := c.TLS
	if !t.Enabled {
		if t != (TLS{}) {
			return errors.New("redis.tls.enabled must be true when another redis.tls key is set")
		}
		return nil
	}
	if len(c.Addrs) == 0 {
		return errors.New("redis.tls.enabled must be false unless redis.addrs names a server")
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("redis.tls.cert_file and redis.tls.key_file must be set together")
	}
	return nil
}

// load reads the files and returns the TLS configuration, or nil when TLS is off.
func (t TLS) load() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis.tls.ca_file %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.cert_file %s with redis.tls.key_file %s: %w", t.CertFile, t.KeyFile, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// checkBounds returns an error for a value that is out of its bounds.
func checkBounds[T int | time.Duration](key string, got, low, high T) error {
	if got < low || got > high {
		return fmt.Errorf("%s must be between %v and %v, got %v", key, low, high, got)
	}
	return nil
}
