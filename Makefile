# Everything here runs on a machine that has Go and make; "make test" brings in the rest.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Pinned: a check that changes by itself is no check. Of gosec's rules two are out: files are named by the operator who owns the
# configuration (G304), and what is random without crypto/rand is jitter (G404).
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOSEC := github.com/securego/gosec/v2/cmd/gosec@v2.22.7 -quiet -exclude=G304,G404 -exclude-dir=internal/testkit -exclude-dir=deploy/check -exclude-dir=loadtest
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: test
test: ## run every test with the race detector on real Redis, MariaDB and PostgreSQL
	go run -buildvcs=false ./internal/testkit/withstores -- \
		sh -c 'CGO_ENABLED=1 go test -race -shuffle=on -timeout 9m ./... && cd deploy/check && go test -count=1 ./...'

RUNS ?= 500
SEED ?= 0

.PHONY: kill-matrix
kill-matrix: ## let real processes die at random while they sell: RUNS=500 SEED=0
	go run -buildvcs=false ./internal/testkit/withstores -- \
		env KILL_RUNS=$(RUNS) KILL_SEED=$(SEED) KILL_LOGS=$(CURDIR)/data/kill-matrix \
		go test -count=1 -v -timeout 3h -run 'TestKillMatrix$$' ./e2e

.PHONY: check
check: ## check formatting, suspicious code and the downloaded modules
	@unformatted=$$(find . -name '*.go' -not -path './data/*' -exec gofmt -l {} +) || exit 1; \
		if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	cd deploy/check && go vet ./...
	go mod verify
	go run $(STATICCHECK) ./...
	go run $(GOSEC) ./...
	@$(MAKE) --no-print-directory vulncheck

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities that the code reaches; skipped where the database is out of reach
	@report=$$(go run $(GOVULNCHECK) ./... 2>&1) && echo "govulncheck: nothing found" || \
		case "$$report" in \
		*"fetching vulnerabilities"*) echo "govulncheck: SKIPPED, https://vuln.go.dev cannot be reached";; \
		*) echo "$$report"; exit 1;; \
		esac

.PHONY: build
build: ## build bin/sluice, one static binary
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/sluice .
