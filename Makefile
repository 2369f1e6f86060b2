# Milepost's commands. `make` alone lists them.

GO       ?= go
MODULES  := pkg/stage pkg services services/standalone test
PROGRAMS := $(wildcard services/*/cmd/*)
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD    := -ldflags "-s -w -X github.com/milepost/milepost/pkg/program.Version=$(VERSION)"
TARGETS  := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# Copies of the tree in other folders share the build cache. Without this each test that builds one
# added 200 MB, until a disk was full. The second build of a fresh copy took 10 s instead of 25.
export GOFLAGS := -trimpath $(GOFLAGS)

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## run the whole pipeline in one process, on embedded stores: the page, the log, the channels
	@[ -x bin/standalone ] || echo "make run: compiling; the first time takes two to five minutes on two cores"
	@(while sleep 60 >/dev/null 2>&1; do echo "make run: still compiling"; done) >&2 & p=$$!; \
	CGO_ENABLED=0 $(GO) build $(BUILD) -o bin/standalone ./services/standalone/cmd/standalone; s=$$?; \
	kill $$p 2>/dev/null; exit $$s
	@exec bin/standalone

.PHONY: build
build: ## build every program into bin/
	CGO_ENABLED=0 $(GO) build $(BUILD) -o bin/ $(addprefix ./,$(PROGRAMS))

.PHONY: tail
tail: ## follow the log of sent emails (SENT_EMAILS, default sent_emails)
	@exec tail -n 20 -F "$${SENT_EMAILS:-sent_emails}"

# What the tests need beside Go, one line each: the commands, of which any will do; the Debian package;
# what is not tested without it.
define NEEDS
redis-server|redis-server|everything that runs against a real Redis: the runtime's suite, the programs together
chromium chromium-browser google-chrome|chromium|the page in a browser
nginx /usr/sbin/nginx|nginx-light|the page behind a real proxy
gcc cc|gcc libc6-dev|pkg/stage and pkg/cache under the race detector, which needs a C compiler
endef
export NEEDS

# Prints the lines of NEEDS that this machine does not have.
MISSING = printf '%s\n' "$$NEEDS" | while IFS='|' read -r any package what; do \
	found=; for c in $$any; do if command -v $$c >/dev/null 2>&1; then found=$$c; fi; done; \
	if [ -z "$$found" ]; then printf '%s|%s|%s\n' "$$any" "$$package" "$$what"; fi; done

.PHONY: deps
deps: ## install what the tests need (as root on Debian or Ubuntu; elsewhere print what is missing)
	@packages=$$($(MISSING) | cut -d'|' -f2 | tr '\n' ' '); \
	if [ -z "$$packages" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null; then \
		echo "deps: apt-get install $$packages"; \
		apt-get update -q >/dev/null; \
		DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$packages >/dev/null || \
			{ echo "deps: apt-get could not install $$packages"; [ -z "$$CI" ]; }; \
	else \
		echo "deps: this machine has no $$packages(installed here only by root on Debian or Ubuntu)"; \
		fi

# The longest packages start first, and the short ones run beside them. Most tests wait, for a lease
# or a process, so more of them run at a time than there are cores.
LONGEST := ./test/e2e ./services/web-api ./test/deploy/compose

# Temporary files of a run that was killed are removed by one that starts an hour later or more.
.PHONY: test
test: deps alone ## run all tests, after make deps; what could not be tested is listed at the end
	@tmp=$${TMPDIR:-/tmp}; find "$$tmp" -maxdepth 1 -name 'milepost-test-*' -mmin +60 -exec rm -rf {} +; \
	TMPDIR=$$(mktemp -d "$$tmp/milepost-test-XXXXXX"); export TMPDIR; \
	trap 'rm -rf "$$TMPDIR"' EXIT; trap 'exit 130' INT TERM; \
	status=0; raced=none; \
	if [ "$$($(GO) env CGO_ENABLED)" = 1 ]; then raced='pkg/stage pkg/cache'; \
		echo "$(GO) test -race ./pkg/stage ./pkg/cache"; $(GO) test -race -count=1 -parallel 8 -timeout 30m ./pkg/stage ./pkg/cache || status=$$?; fi; \
	echo "$(GO) test ./..."; \
	all=$$($(GO) list $(LONGEST) $(patsubst %,./%/...,$(MODULES))) || status=$$?; \
	for p in $$raced; do all=$$(echo "$$all" | grep -v "/$$p$$"); done; \
	$(GO) test -count=1 -parallel 4 -timeout 30m $(TESTFLAGS) $$all || status=$$?; \
	$(MISSING) | { title='NOT TESTED HERE'; while IFS='|' read -r any package what; do \
		if [ -n "$$title" ]; then printf '\n%s\n' "$$title"; title=; fi; \
		printf '  %s\n    there is no %s; on Debian or Ubuntu: apt-get install %s\n' "$$what" "$${any%% *}" "$$package"; done; }; \
	exit $$status

.PHONY: race
race: ## run all tests under the race detector, except those that build programs
	$(GO) test -race -timeout 20m $(patsubst %,./%/...,$(filter-out services/standalone test,$(MODULES))) ./services/standalone/embedded/...

.PHONY: chaos
chaos: deps ## kill everything under load for CHAOS_SECONDS (default 300); ends with the ledgers
	CHAOS_SECONDS=$${CHAOS_SECONDS:-300} $(GO) test -count=1 -timeout 90m -p 1 -parallel 1 -v \
		-run 'TestPromise|TestClusterAdoption' ./pkg/stage ./test/e2e

# Other programs can depend on one of our modules, so each must build without the workspace.
.PHONY: alone
alone:
	@for m in $(MODULES) test/bench/peers/watermill; do (cd $$m && GOWORK=off $(GO) build -o /dev/null ./...) || exit 1; done

# Rules of staticcheck that are off, each with its reason. All others are on.
#   ST1000  one file of a package has the package comment; a main repeats its service's
#   ST1003  Lat, Long and Id come from the wire format; reviewers look at other initialisms
#   ST1005  an error may begin with an environment variable: `REDIS_PORT: "redis" is not a port`
#   ST1021, ST1022  a comment such as "ErrAlive: consumers are running" is clearer than a sentence that
#           must begin with the name and a verb
CHECKS := all,-ST1000,-ST1003,-ST1005,-ST1021,-ST1022

.PHONY: lint
lint: vet cross ## make vet and make cross

.PHONY: vet
vet: ## gofmt, go vet, staticcheck, actionlint
	@unformatted=$$(gofmt -l pkg services test); if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet $(patsubst %,./%/...,$(MODULES))
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 -checks '$(CHECKS)' $(patsubst %,./%/...,$(MODULES))
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

.PHONY: vuln
vuln: ## look for known vulnerabilities in the code that is called (govulncheck); needs vuln.go.dev
	@GOBIN=$(CURDIR)/bin $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.9.0
	@for m in $(MODULES); do \
		out=$$(cd $$m && GOWORK=off $(CURDIR)/bin/govulncheck ./... 2>&1) && { echo "vuln: $$m: none known"; continue; }; \
		case "$$out" in *"fetching vulnerabilities"*) echo "vuln: NOT CHECKED, vuln.go.dev cannot be reached"; exit 0;; esac; \
		echo "$$out"; exit 1; done

.PHONY: release-check
release-check: ## check what a release runs: goreleaser with a snapshot in dist/, helm lint and package
	$(GO) run github.com/goreleaser/goreleaser/v2@v2.12.0 check
	$(GO) run github.com/goreleaser/goreleaser/v2@v2.12.0 release --snapshot --clean --skip=publish,sbom
	$(GO) run helm.sh/helm/v3/cmd/helm@v3.18.6 lint charts/milepost
	$(GO) run helm.sh/helm/v3/cmd/helm@v3.18.6 package charts/milepost --destination dist

.PHONY: cross
cross: ## build for linux, darwin and windows on amd64 and arm64
	@for t in $(TARGETS); do echo "build $$t"; \
		CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build $(patsubst %,./%/...,$(MODULES)) || exit 1; done

.PHONY: bench
bench: build ## measure for 20 minutes on an idle Linux machine, into dist/bench for benchstat; MONGO_URL: the store
	@CGO_ENABLED=0 $(GO) build $(BUILD) -o bin/ ./test/bench/bare-echo
	@cd test/bench/peers/watermill && CGO_ENABLED=0 GOWORK=off $(GO) build $(BUILD) -o $(CURDIR)/bin/watermill .
	@mkdir -p dist/bench
	@$(GO) test ./test/bench -run '^$$' -bench Pipeline -benchtime 1x -count 3 -timeout 90m -args $(BENCHFLAGS) | tee dist/bench/pipeline.txt
	@grep -q '^PASS' dist/bench/pipeline.txt
	@$(MAKE) --no-print-directory bench-go
	@$(GO) run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da \
		-filter '.unit:(events/s OR of-bare OR of-edge-json OR of-json OR line-p50-ms OR line-p99-ms OR cpu-s/1000 OR redis-B-left/event)' dist/bench/pipeline.txt

.PHONY: bench-go
bench-go: ## run the Go benchmarks, into dist/bench/go.txt for benchstat
	@mkdir -p dist/bench && rm -f dist/bench/go.txt
	@set -e; run() { $(GO) test -run '^$$' -timeout 30m -benchtime $$1 -bench "$$2" $$3 >>dist/bench/go.txt; }; \
	run 1x '^Benchmark(Hop|Backlog|Replicas|Copied)$$' ./pkg/stage; run 2s '^BenchmarkPublish$$' ./pkg/stage; \
	run 1x '^BenchmarkHop$$' ./services/distance; run 1s '^BenchmarkStreams$$' ./services/web-api; cat dist/bench/go.txt

NEWSERVICE = [ -x bin/newservice ] || echo "make $@: compiling; the first time takes up to a minute"; \
	$(GO) build -o bin/newservice ./services/internal/newservice && bin/newservice

.PHONY: new-service
new-service: ## write a service that joins the pipeline: NAME=tide FROM=raw_input [TO=tides]
	@$(NEWSERVICE) -name "$(NAME)" -from "$(FROM)" -to "$(TO)"

.PHONY: remove-service
remove-service: ## remove a service that new-service wrote: NAME=tide; REDIS_URL names the Redis with its group
	@$(NEWSERVICE) -remove -name "$(NAME)"

.PHONY: tidy
tidy: ## go mod tidy in every module, and gofmt
	@for m in $(MODULES); do echo "tidy $$m"; (cd $$m && GOWORK=off $(GO) mod tidy) || exit 1; done
	gofmt -w pkg services test
