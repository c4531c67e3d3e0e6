# culvert: build, check, test. "make" lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # two cores: the steps are parallel inside, and their output stays readable

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
FUZZTIME ?= 30s
SOAKTIME ?= 10m
SEQUENCES ?= 300000
ATTACK ?= .
IMAGE ?= culvert

BEGAN := $(shell date +%s)

# The race detector doubles the time of "make test". CI sets RACE=-race;
# "make test-long" has it on in any case.
RACE ?=

# The tools, the tests and the program are compiled in one way, so that a package is
# compiled once, and not again in another checkout. Only the race detector wants cgo.
# Without what debuggers want (-w) linking takes half the time.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -trimpath -ldflags=-w)
export CGO_ENABLED := 0
cgo = $(if $(findstring -race,$(1)),CGO_ENABLED=1)

# No cgo and no paths of this machine: the file is the same wherever it is built.
# The version is handed in, so nothing depends on what Go finds out about git.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)"

# The tests with real clients have a network of their own, with a loopback and
# nothing else. They make network namespaces, which takes root, so who isn't root
# is root in there. And a host's addresses may change while the tests run:
# Chromium then gives up its HTTP/2 connections, also those to the loopback. Some
# tests need readers that hold up their senders, so kernels buffer what Linux lets
# them by default, and not the 32 MiB of some hosts.
ALONE := unshare $(if $(filter-out 0,$(shell id -u)),--map-root-user) --mount --net -- sh -c 'mount -t tmpfs tmpfs /run && ip link set lo up && { \
	echo 4096 131072 6291456 >/proc/sys/net/ipv4/tcp_rmem || \
	echo "e2e: the kernel buffers of readers have no bound: TestPausedReaders may fail" >&2; } && exec "$$@"' sh

# "go test" that says where it is, shows what failed, and ends with a sum. Without its
# vet: "make lint" has that.
TESTSUM = "$$(go -C "$(CURDIR)/tools" tool -n gotestsum)" --format-hide-empty-pkg

NPM_CI := npm ci --no-audit --no-fund --loglevel=error

# The tests that flood, move gigabytes, wait for minutes or keep Chromium busy, in
# any module: "make test" skips them, "make test-long" runs them. In TestBlocks they
# are the blocks of the pages in docs/.
LONG_NAMES = \
	TestACMEKeepsTheOldCertificateWhileTheCAIsDown TestACMERenewalUnderOpenStreams TestBombs TestBrowsersBoundStreams TestConnectionAges TestDawdlers TestDifferentialForLong \
	TestFloods TestForeignPages TestGigabyteGrowsNothing TestIdleCallsLive TestIdleStreamsLeaveLatencyAlone TestListedPageReadsItsMistake TestManyLongSecrets \
	TestMemoryAttacks TestMemoryComesBackAfterACrowd TestMemoryLimitOfConnections TestMillionsOfAddresses TestMoreCallsThanAConnectionTakes TestMutatedBytes TestNullIsAllowedByName TestOriginsAreTriedOut \
	TestPausedReaders TestPublishedClients TestPublishedClientsOverTLS TestQuietStreamsOnAStockBackend TestReaderThatStandsStill \
	TestSilentBackendHost TestSilentClient TestSlowConsumerLimit TestSoak TestStalledLargeMessagesStayWithinTheBudget \
	TestStoppedBackend TestStoppedBackendWithKeepalive TestStoppedCulvert TestTenThousandConnections TestTextsInTablesWereSeen \
	TestTricklersAreClosed TestUnansweredPingEndsUnavailable TestUnreadCallsLeaveTheirConnectionAlone
LONG = ^($(subst $(space),|,$(strip $(LONG_NAMES))))$$|^TestBlocks$$/^docs$$
space := $(subst ,, )

say = @printf '\n==> %s\n' "$(1)"
took = took=$$(($$(date +%s) - $(BEGAN))); printf '\n$(1): all passed in %d min %d s\n' $$((took / 60)) $$((took % 60))

# e2e runs the tests with real clients, with go test's flags. They may be without
# a network, so all that they build is fetched before. The pages' tests have a world
# of their own and run beside the others.
define e2e
@go -C e2e mod download
@go -C tools tool -n h2spec >/dev/null
@go -C tools tool -n pebble >/dev/null
@go -C tools tool -n protoc-gen-go >/dev/null
@go -C tools tool -n protoc-gen-go-grpc >/dev/null
@cd e2e && $(call cgo,$(1)) CULVERT_BIN="$(CURDIR)/bin/culvert" $(ALONE) $(TESTSUM) --format testname -- -vet=off -count=1 $(1) ./...
endef

##@ A newcomer's two

demo: ## Run the demo: a service, culvert in front of it, and a page
	go run ./cmd/culvert demo

# Building the linter takes minutes of CPU time the first time. It is built at the
# lowest priority, while the tests wait; lint waits until it is built. The recipe
# doesn't name $(MAKE) itself, because "make -n" runs recipes that do.
steps = $(MAKE) --no-print-directory
test: deps ## Check everything but what takes long (5 min on two cores, longer the first time)
	@nice -n 19 go -C tools tool -n golangci-lint >/dev/null 2>&1 & \
		trap "kill $$! 2>/dev/null || true" EXIT; \
		$(steps) unit e2e; \
		wait; \
		$(steps) lint tools
	@$(call took,make test)

# Of e2e one package after the other (-p 1): some tests are of time.
test-long: deps vet build node_modules ## The rest, with the race detector: floods, gigabytes, minutes of silence (13 min)
	$(call say,unit: the long tests)
	@$(call cgo,-race) $(TESTSUM) --format pkgname -- -race -vet=off -count=1 -timeout 20m -run '$(LONG)' ./...
	$(call say,e2e: the long tests)
	$(call e2e,-race -p 1 -timeout 30m -run '$(LONG)')
	$(call say,the clients and what they can)
	@grep -h '^|' docs/how-it-works/compatibility-results.md docs/how-it-works/paused-readers.md
	@$(call took,make test-long)

##@ One at a time

deps: ## Install what the tests need (Debian, as root), or say what is missing
	@tools/deps.sh test

lint: node_modules ## Lint all modules, look for known vulnerabilities
	$(call say,lint)
	@tools/lint.sh

# Not in lint: with an empty cache it compiles everything once more for each system.
vet: ## Vet for the other systems that the demo runs on
	$(call say,vet)
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./...

tools: ## The tests of the lint rules, of the image and of this file
	$(call say,tools)
	@cd tools && $(TESTSUM) --format testname -- -vet=off -count=1 ./...

# The two that take longest go first.
unit: ## Unit, fuzz corpora, command line and conformance tests
	$(call say,unit)
	@$(call cgo,$(RACE)) $(TESTSUM) --format pkgname -- $(RACE) -vet=off -count=1 -timeout 20m -skip '$(LONG)' ./bridge ./tls ./...

e2e: build node_modules ## The real program with real clients, in Node and in Chromium
	$(call say,e2e: the program with real clients)
	$(call e2e,$(RACE) -timeout 20m -skip '$(LONG)')

fuzz: ## Fuzz each target for FUZZTIME (30s); what it learns is kept in Go's cache
	@tools/fuzz.sh $(FUZZTIME)

# With so many, each difference that the tests know has to occur.
differential: ## Compare HTTP/2 with net/http, WebSockets with coder/websocket, over SEQUENCES (300000) of frames (5 min)
	@go test -vet=off -count=1 -timeout 0 -v -run '^TestDifferentialForLong$$' ./bridge/h2 ./bridge/websocket -args -sequences $(SEQUENCES)

soak: build ## Load, cuts, stalls and a backend that comes and goes, for SOAKTIME (10m)
	@cd e2e && CULVERT_BIN="$(CURDIR)/bin/culvert" go test -count=1 -timeout 0 -v -run '^TestSoak$$' . -soak $(SOAKTIME)

# ATTACK selects rows, as -run does: ATTACK='^stalled_grpc'.
attack: build ## All attacks on culvert's memory, or those that ATTACK names (an hour)
	@go -C e2e mod download
	@cd e2e && CULVERT_BIN="$(CURDIR)/bin/culvert" $(ALONE) go test -vet=off -count=1 -timeout 0 -v -run '^TestMemoryAttacks$$/$(ATTACK)' . -attack.all

bench: build bin/grpcwebproxy ## Measure culvert beside grpcwebproxy, nginx and no proxy: docs/how-it-works/benchmarks.md (30 min)
	@tools/deps.sh test
	@go -C e2e build -o "$(CURDIR)/bin/bench" ./bench
	@PATH="$$PATH:/usr/sbin" bin/bench -out docs/how-it-works/benchmarks.md $(BENCHFLAGS)

# By name: nothing of culvert depends on it.
bin/grpcwebproxy:
	GOBIN="$(CURDIR)/bin" go install github.com/improbable-eng/grpc-web/go/grpcwebproxy@v0.15.0

build: ## Build bin/culvert, static
	$(BUILD) -o bin/culvert ./cmd/culvert

generate: deps-generate ## Make every generated file again
	go generate ./...
	go -C e2e generate ./...

proto: deps-generate ## Make the protobuf code again
	go generate ./demo/...
	go -C e2e generate ./...

docker: ## Build the container image
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t $(IMAGE):$(VERSION) -t $(IMAGE):latest .

clean: ## Remove what make has put into the tree
	rm -rf bin dist coverage* e2e/node/node_modules demo/web/node_modules

help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Files behind the targets

deps-generate:
	@tools/deps.sh generate

# npm writes this file last; it is older than the lock file when that has changed.
node_modules: e2e/node/node_modules/.package-lock.json demo/web/node_modules/.package-lock.json

%/node_modules/.package-lock.json: %/package-lock.json
	$(call say,npm ci in $*)
	cd $* && $(NPM_CI)
	touch $@

.PHONY: demo test test-long deps lint vet tools unit e2e fuzz differential bench soak attack build generate proto docker clean help deps-generate node_modules
