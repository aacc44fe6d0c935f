# Everything here runs on a machine that has Go and make; "make test" brings in the rest.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Nothing needs C but the race detector. One setting for all: what one target has compiled the next finds.
export CGO_ENABLED := 0

# Pinned: a check that changes by itself is no check. .golangci.yml says what is checked.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

# Modules of their own; loadtest/vegeta only pins a tool and holds no Go.
MODULES := loadtest/bench deploy/check

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9/-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

# The race detector watches all but what plays SQLite and Lua in Go: translated C and an interpreter, which take most of the
# machine with it and have no goroutines of their own.
UNWATCHED := modernc.org/sqlite/lib modernc.org/libc modernc.org/memory github.com/yuin/gopher-lua
RACE := -race $(UNWATCHED:%=-gcflags="%=-race=false -d=checkptr=0")

# The processes of e2e mostly wait for each other. They run beside all other packages, of which each processor has one:
# what one side leaves idle the other takes. Packages throw little away: a collector that comes less often saves one
# second of fifteen.
PACKAGES := $(shell getconf _NPROCESSORS_ONLN)
LANES := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

TEST := go test $(RACE) -shuffle=on -timeout 40m

.PHONY: test
test: ## run every test with the race detector on real Redis, MariaDB and PostgreSQL
	go run -buildvcs=false ./internal/testkit/withstores -- \
		sh -c 'export CGO_ENABLED=1; all=$$(go list ./...) && go build $(RACE) ./... || exit; \
			$(TEST) -parallel $(LANES) ./e2e & processes=$$!; \
			$(TEST) -exec "env GOGC=400" -p $(PACKAGES) $$(echo "$$all" | grep -v /e2e$$); rest=$$?; \
			wait $$processes && exit $$rest'
	go test -C deploy/check -count=1 ./...
	CGO_ENABLED=1 go test -C loadtest/bench $(RACE) -shuffle=on -timeout 5m ./...

# Waits follow what happens, not the clock: what passes on a quiet machine passes on a busy one.
.PHONY: test-slow
test-slow: ## the same beside eight busy loops
	@loops=; for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & loops="$$loops $$!"; done; \
		trap 'kill $$loops' EXIT; trap 'exit 1' INT TERM; $(MAKE) test

RUNS ?= 500
SEED ?= 0
ENGINES ?=
FAULT ?=

.PHONY: kill-matrix
kill-matrix: ## let processes and stores die while they sell: RUNS=500 (or each) SEED=0 ENGINES=single,cluster FAULT=failover
	go run -buildvcs=false ./internal/testkit/withstores -- \
		env KILL_RUNS=$(RUNS) KILL_SEED=$(SEED) KILL_ENGINES=$(ENGINES) KILL_FAULT=$(FAULT) KILL_LOGS=$(CURDIR)/data/kill-matrix \
		go test -count=1 -v -timeout 3h -run 'TestKillMatrix$$' ./e2e

.PHONY: failovers
failovers: ## let a Redis take over that lacks the newest orders, ten times on each engine
	$(MAKE) kill-matrix RUNS=10 FAULT=lagged-failover ENGINES=cluster
	$(MAKE) kill-matrix RUNS=10 FAULT=there-and-back ENGINES=sentinel

STORM ?= 10m

.PHONY: storm
storm: ## let everything happen to an order at once while an audit looks on: STORM=10m, on each database
	go run -buildvcs=false ./internal/testkit/withstores -- \
		env STORM=$(STORM) go test -count=1 -v -timeout 2h -parallel 3 -run 'TestStorm$$' ./order

WALKS ?= 3000
PLAYS ?= 400
RUSH ?= 100000

.PHONY: soak
soak: ## walk at random through the life of a line, play the model on real stores, change everything in a rush: WALKS=3000 PLAYS=400 RUSH=100000
	go run -buildvcs=false ./internal/testkit/withstores --redis -- \
		go test -count=1 -v -timeout 2h -run 'TestLineAgreesWithTheModel$$' ./queue -rapid.checks=$(WALKS)
	$(MAKE) --no-print-directory spin
	go run -buildvcs=false ./internal/testkit/withstores -- \
		env SOAK_PLAYS=$(PLAYS) SOAK_RUSH=$(RUSH) go test -count=1 -v -timeout 2h \
		-run 'TestStepsOfTheModelOnTheRealLine$$|TestASaleWhileEverythingChanges$$' ./model ./e2e

# The benchmark starts its own databases, which keep what they commit: withstores installs them and clears up.
BENCH = SLUICE_TEST_MYSQL_DSN=unused SLUICE_TEST_POSTGRES_DSN=unused \
	go run -buildvcs=false ./internal/testkit/withstores -- go run -C loadtest/bench -buildvcs=false .

.PHONY: bench
bench: wrk ## measure Sluice against its yardsticks: BENCH_ARGS="--only NAME,NAME --rounds N"
	$(BENCH) $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: wrk ## the same in less than three minutes, as a first look
	$(BENCH) --quick $(BENCH_ARGS)

.PHONY: wrk
wrk:
	@command -v wrk >/dev/null || { [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && \
		apt-get --quiet=2 update && apt-get --quiet=2 install --yes --no-install-recommends wrk; } || \
		{ echo "not installed: wrk. On Debian or Ubuntu, as root: apt-get install wrk. On macOS: brew install wrk" >&2; exit 1; }

.PHONY: model
model: spin ## walk through every state of the model of the line, and see that each planted fault is found
	go run -buildvcs=false ./model/check

.PHONY: spin
spin:
	@command -v spin >/dev/null || { [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && \
		apt-get --quiet=2 update && apt-get --quiet=2 install --yes --no-install-recommends spin; } || \
		{ echo "not installed: spin. On Debian or Ubuntu, as root: apt-get install spin. On macOS: brew install spin" >&2; exit 1; }

.PHONY: check
check: ## check formatting, suspicious code, imports and the downloaded modules
	go mod verify
	go run $(GOLANGCI) run ./...
	@set -e; for module in $(MODULES); do echo "in $$module: golangci-lint"; \
		go -C $$module run $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...; done
	go test -count=1 -run 'TestImports|TestNoGlobals|TestEveryPackage|TestDocuments' .
	@$(MAKE) --no-print-directory vulncheck

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities that the code reaches; skipped where the database is out of reach
	@if command -v curl >/dev/null && ! curl --silent --fail --output /dev/null --max-time 20 https://vuln.go.dev/index/db.json; \
		then echo "govulncheck: SKIPPED, https://vuln.go.dev cannot be reached"; exit 0; fi; \
	report=$$(go run $(GOVULNCHECK) ./... 2>&1) && echo "govulncheck: nothing found" || \
		case "$$report" in \
		*"fetching vulnerabilities"*) echo "govulncheck: SKIPPED, https://vuln.go.dev cannot be reached";; \
		*) echo "$$report"; exit 1;; \
		esac

.PHONY: build
build: ## build bin/sluice, one static binary
	go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/sluice .

.PHONY: release
release: ## check, build the archives and tag: VERSION=1.2.3; DRY=--dry-run neither checks nor tags
	.ci/release $(VERSION) $(DRY)

K6_VERSION := v1.8.1

.PHONY: bin/k6
bin/k6: ## install k6 into bin/, unless this version is there
	@bin/k6 version 2>/dev/null | grep -q '^k6 $(K6_VERSION) ' || \
		{ echo "installing k6 $(K6_VERSION), a few minutes the first time"; GOBIN=$(CURDIR)/bin go install go.k6.io/k6@$(K6_VERSION); }

.PHONY: bin/vegeta
bin/vegeta: ## build the pinned vegeta into bin/
	go -C loadtest/vegeta build -buildvcs=false -o $(CURDIR)/bin/vegeta github.com/tsenart/vegeta/v12

# The load test starts its own Sluice with empty stores, and stops it.
LOADTEST := go run -buildvcs=false ./internal/testkit/withstores --redis -- go run -buildvcs=false ./loadtest/run

.PHONY: loadtest
loadtest: bin/k6 ## send a crowd at Sluice on this machine: one page, data/loadtest/report.html
	$(LOADTEST)

.PHONY: loadtest-ci
loadtest-ci: bin/k6 ## the short load test of every submission
	@for script in loadtest/k6/*.js; do bin/k6 inspect $$script >/dev/null || { echo "$$script cannot be run"; exit 1; }; done
	$(LOADTEST) -ci
