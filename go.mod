module sluice

go 1.26.0

require (
	github.com/alicebob/miniredis/v2 v2.40.0 // the in-process Redis of redis.mode embedded, and of tests
	github.com/getkin/kin-openapi v0.152.0 // tests: holds every answer against the OpenAPI documents
	github.com/gin-gonic/gin v1.12.0 // HTTP routing of both listeners
	github.com/go-json-experiment/json v0.0.0-20260820222146-c27c302e5fc3 // strict JSON: duplicate members and invalid UTF-8 are errors
	github.com/go-sql-driver/mysql v1.10.1 // MySQL errors and DSNs, which GORM's driver does not show
	github.com/golang-jwt/jwt/v5 v5.3.1 // verifies and signs tokens
	github.com/google/uuid v1.6.0 // order and batch ids
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL errors and URLs, which GORM's driver does not show
	github.com/knadh/koanf/providers/confmap v1.0.1 // flags and defaults as configuration
	github.com/knadh/koanf/v2 v2.4.1 // merges the layers of the configuration
	github.com/panjf2000/ants/v2 v2.12.1 // the worker pool whose size bounds what runs
	github.com/pressly/goose/v3 v3.29.0 // versioned migrations
	github.com/prometheus/client_golang v1.25.0 // metrics
	github.com/prometheus/client_model v0.6.3 // reads counters back
	github.com/redis/go-redis/v9 v9.23.0 // every call to Redis
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // tests: holds the load targets against vegeta's schema
	github.com/sony/gobreaker/v2 v2.4.0 // circuit breakers of the notification channels
	github.com/spf13/cobra v1.10.2 // the command line
	github.com/stretchr/testify v1.12.1 // tests: assertions
	github.com/wneessen/go-mail v0.8.1 // e-mails: MIME, SMTP with TLS and login
	go.opentelemetry.io/otel v1.47.0 // traces: attributes and propagation
	go.opentelemetry.io/otel/exporters/otlp/otlptrace v1.47.0 // traces: the form that collectors read
	go.opentelemetry.io/otel/sdk v1.47.0 // traces: batches spans in the background
	go.opentelemetry.io/otel/trace v1.47.0 // traces: spans
	go.opentelemetry.io/proto/otlp v1.11.0 // traces: their form on the wire
	go.uber.org/goleak v1.3.0 // tests: no goroutine is left behind
	go.yaml.in/yaml/v3 v3.0.5 // configuration files
	golang.org/x/net v0.61.0 // bounds the connections of a listener
	golang.org/x/time v0.14.0 // token buckets
	google.golang.org/protobuf v1.36.12 // traces: as above
	gorm.io/driver/mysql v1.6.0 // GORM on MySQL and MariaDB
	gorm.io/driver/postgres v1.6.3 // GORM on PostgreSQL
	gorm.io/driver/sqlite v1.6.0 // GORM on SQLite
	gorm.io/gorm v1.31.2 // every statement to the database
	modernc.org/sqlite v1.61.1 // SQLite without cgo
	pgregory.net/rapid v1.3.0 // tests: random walks against a model
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/bytedance/gopkg v0.1.3 // indirect
	github.com/bytedance/sonic v1.15.0 // indirect
	github.com/bytedance/sonic/loader v0.5.0 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cloudwego/base64x v0.1.6 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/gin-contrib/sse v1.1.0 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/go-openapi/jsonpointer v1.0.0 // indirect
	github.com/go-playground/validator/v10 v10.30.1 // indirect
	github.com/go-viper/mapstructure/v2 v2.5.0 // indirect
	github.com/goccy/go-json v0.10.5 // indirect
	github.com/goccy/go-yaml v1.19.2 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	github.com/json-iterator/go v1.1.12 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/knadh/koanf/maps v0.1.2 // indirect
	github.com/kylelemons/godebug v1.1.0 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mattn/go-sqlite3 v1.14.22 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/mitchellh/copystructure v1.2.0 // indirect
	github.com/mitchellh/reflectwalk v1.0.2 // indirect
	github.com/modern-go/concurrent v0.0.0-20180306012644-bacd9c7ef1dd // indirect
	github.com/modern-go/reflect2 v1.0.2 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/oasdiff/yaml v0.1.1 // indirect
	github.com/oasdiff/yaml3 v0.0.14 // indirect
	github.com/pelletier/go-toml/v2 v2.2.4 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/quic-go/quic-go v0.59.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/twitchyliquid64/golang-asm v0.15.1 // indirect
	github.com/ugorji/go/codec v1.3.1 // indirect
	github.com/yuin/gopher-lua v1.1.1 // indirect
	go.mongodb.org/mongo-driver/v2 v2.5.0 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel/log v1.47.0 // indirect
	go.opentelemetry.io/otel/metric v1.47.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/arch v0.22.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)

// What a dependency names and nothing here uses is not compiled: see internal/unbuilt/README.md.
replace (
	github.com/go-playground/validator/v10 => ./internal/unbuilt/validator
	github.com/goccy/go-yaml => ./internal/unbuilt/yaml
	github.com/mattn/go-sqlite3 => ./internal/unbuilt/sqlite
	github.com/pelletier/go-toml/v2 => ./internal/unbuilt/toml
	github.com/quic-go/quic-go => ./internal/unbuilt/quic
	github.com/ugorji/go/codec => ./internal/unbuilt/msgpack
	go.mongodb.org/mongo-driver/v2 => ./internal/unbuilt/bson
)
