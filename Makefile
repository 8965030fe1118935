# Everything is built and tested from here; .ci/run only calls these targets.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Static, so that one binary runs on every agent of a mixed cluster. Tests are
# built with cgo, which the race detector needs.
STATIC  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"
FUZZTIME ?= 20s

# TALK says every 30 s which test programs are at work, while the rest of its
# recipe line runs.
TALK = ( while sleep 30 >/dev/null 2>&1; do \
	echo "    ... at work: $$(ps -e -o args= | grep -oE '^/[^ ]*/[^ /]+\.test -test\.testlogfile' | grep -oE '[^/ ]+\.test' | sort -u | tr '\n' ' ')"; \
	done ) & trap "kill $$! 2>/dev/null" EXIT;

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: bin/pacer-executor bin/pacer-scheduler bin/pacer ## build the three static binaries into bin/

.PHONY: bin/pacer-executor bin/pacer-scheduler bin/pacer
bin/pacer-executor:
	@echo "build $@ $(VERSION)"
	@$(STATIC) -o $@ ./executor/cmd/pacer-executor
bin/pacer-scheduler:
	@echo "build $@ $(VERSION)"
	@$(STATIC) -o $@ ./scheduler/cmd/pacer-scheduler
bin/pacer:
	@echo "build $@ $(VERSION)"
	@$(STATIC) -o $@ ./scheduler/cmd/pacer

.PHONY: servers
servers: ## install or build the servers that tests talk to, where they are missing
	@./integration/install-servers
	@$(GO) run ./integration/cmd/servers

.PHONY: test
test: servers ## install what is missing, then run every test, real servers included
	@echo "run the tests of single packages; each prints as it finishes"
	@$(TALK) $(GO) test -timeout 20m $$($(GO) list ./... | grep -v /integration/)
	@echo "run the integration suites one after the other, because they share real time: about 12 minutes"
	@# Results are not cached: the suites run programs that go test does not know of.
	@$(TALK) $(GO) test -count=1 -p 1 -timeout 20m ./integration/...

.PHONY: race
race: servers ## run every test under the race detector
	@echo "run the tests of single packages under the race detector; each prints as it finishes"
	@$(TALK) $(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v /integration/)
	@echo "run the integration suites under the race detector, one after the other"
	@$(TALK) $(GO) test -race -count=1 -p 1 -timeout 40m ./integration/...

.PHONY: integration
integration: servers ## run the suites that need servers, the emulator or PACER_TEST_MASTER
	@echo "run the integration suites on $${PACER_TEST_MASTER:-the emulator}"
	@$(TALK) $(GO) test -count=1 -p 1 -timeout 20m ./integration/...

.PHONY: conformance
conformance: ## hold the emulator, or the cluster of PACER_TEST_MASTER, to Mesos' recorded behaviour
	@echo "run the conformance suites on $${PACER_TEST_MASTER:-the emulator}"
	@$(TALK) summary=$$(mktemp); status=0; \
		PACER_CONFORMANCE_SUMMARY=$$summary $(GO) test -count=1 -timeout 20m ./integration/mesos/conformance/... || status=$$?; \
		cat "$$summary"; rm -f "$$summary"; exit $$status

.PHONY: bench
bench: servers ## run every benchmark, then print a table beside budgets and peers
	@set -o pipefail; dirs=$$(grep -rlE --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u); \
		echo "run the benchmarks of" $$dirs; \
		$(GO) test -p 1 -run '^$$' -bench . -benchmem -timeout 60m $$dirs | $(GO) run ./integration/cmd/bench-table

.PHONY: fuzz
fuzz: ## fuzz every parser for FUZZTIME each
	@set -euo pipefail; grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
			echo "fuzz $$dir $$name for $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$dir; \
		done; \
	done

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@echo "gofmt"; files=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); test -z "$$files" || { echo "gofmt would change: $$files"; exit 1; }
	@echo "go vet"; $(GO) vet ./...
	@echo "staticcheck"; $(GO) tool staticcheck ./...

.PHONY: check
check: lint build ## lint, build, go.mod is tidy, the executor is static and small: no root, no servers
	@echo "go mod tidy"; $(GO) mod tidy -diff
	@echo "binaries are static and the executor has at most 32 MB"
	@for binary in bin/pacer-executor bin/pacer-scheduler bin/pacer; do \
		if readelf -l $$binary 2>/dev/null | grep -q INTERP; then echo "$$binary is not static"; exit 1; fi; done
	@size=$$(stat -c %s bin/pacer-executor); echo "bin/pacer-executor: $$size bytes"; test $$size -le 32000000

.PHONY: demo
demo: build ## show an app being deployed, rolled and healed on an emulated cluster (KEEP=1, REAL=1)
	@$(GO) build -trimpath -o bin/demo/ ./integration/demo ./integration/demo/service
	@bin/demo/demo

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
