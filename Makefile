# culvert: build, check, test. "make" lists the targets.

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
PLATFORMS ?= linux/amd64,linux/arm64

BEGAN := $(shell date +%s)

# The race detector doubles the time of "make test". CI sets RACE=-race;
# "make test-long" has it on in any case.
RACE ?=

# Go keeps the results of tests whose program, files and environment are as before, and tells those.
# It doesn't know what a test starts, so this is for the tests of packages alone. CI runs them all,
# as COUNT=-count=1 does.
COUNT ?= $(if $(CI),-count=1)

# The tools, the tests and the program are compiled with the same flags, so that each
# package is compiled once, also for other checkouts. Only the race detector needs cgo.
# Without debug information (-w) linking takes half the time. With a profile (-pgo) every
# package of the program would be compiled once more. Without grpc-go's traces nothing in the
# program looks for methods by name, and the linker leaves out those that nothing calls: an
# eighth of the program. With more memory, the compiler takes an eighth less CPU time.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -trimpath -ldflags=-w -pgo=off -tags=grpcnotrace '-toolexec=env GOGC=400')
export CGO_ENABLED := 0
cgo = $(if $(findstring -race,$(1)),CGO_ENABLED=1)

# No cgo and no paths of this machine: every machine builds the same file. The version
# is a flag, so the build doesn't depend on Go's own look at git. cmd/culvert/default.pgo tells
# the compiler what is called most: "make profile" writes it.
BUILD := CGO_ENABLED=0 go build -pgo=auto -trimpath -buildvcs=false -tags=grpcnotrace -ldflags "-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)"

# The tests with real clients have a network of their own, with a loopback interface
# only. They make network namespaces, which needs root, so other users become root
# inside. A network of their own also keeps the addresses stable: when a host's
# addresses change, Chromium gives up its HTTP/2 connections, even those to loopback.
# Some tests need readers that block their senders, so the kernel's buffers have
# Linux's default limits, and not the 32 MiB of some hosts.
ALONE := unshare $(if $(filter-out 0,$(shell id -u)),--map-root-user) --mount --net -- sh -c 'mount -t tmpfs tmpfs /run && ip link set lo up && { \
	echo 4096 131072 6291456 >/proc/sys/net/ipv4/tcp_rmem || \
	echo "e2e: the kernel buffers of readers have no bound: TestPausedReaders may fail" >&2; } && exec "$$@"' sh

# TESTED is the program that the tests with real clients start. "make test" makes one without the
# profile, in a third of the time on a new machine; the long tests start the one that ships.
TESTED ?= bin/culvert

# "go test" with progress, the output of failed tests, and a summary at the end, and
# without most of the stacks of a time-out. Without vet: "make lint" runs it.
TESTSUM = "$$("$(CURDIR)/tools/tool.sh" shorten)" "$$("$(CURDIR)/tools/tool.sh" gotestsum)" --format-hide-empty-pkg $(if $(MAKE_TERMOUT),--no-color=false)

PACKAGES := e2e/node demo/web examples examples/duo-workflow/client web
NPM_CI := npm ci --no-audit --no-fund --loglevel=error

# The tests that flood, move gigabytes, wait for minutes or keep Chromium busy, in
# any module. "make test" skips them, "make test-long" runs them.
LONG_NAMES = \
	TestSilentWay TestSlowBackend TestStockServer TestDialedClients TestDialedFromJava TestDialFaults TestDialForgotten TestDialInAnotherNetwork TestDialSleeps TestDrainOfManyStreams \
	TestACMEKeepsTheOldCertificateWhileTheCAIsDown TestACMERenewalUnderOpenStreams TestAdminForm TestAdminPageAsksForWhatIsSeen TestAdminPageEndsItsSession TestAdminPageInAllSizes TestBombs TestBrowsersBoundStreams TestClientsGoneBehindABox TestConformanceInFull TestConformanceOfTheNPMPackage TestConnectionAges TestDawdlers TestDifferentialForLong TestDoctorBehindRealBoxes \
	TestExampleAPIGatewayPage TestExampleDuoWorkflowPage TestExampleOpAMPPage TestExamplePages TestExampleTunnelCarriesGigabytes TestFaultsUnderTheNPMPackage TestFloods TestForeignPages TestGigabyteGrowsNothing TestH2SpecOfStandardServer TestHostileBytesBeforeAWebServer TestIdleCallsLive TestIdleStreamsLeaveLatencyAlone TestInstructionsOfACall TestInstructionsOfExports TestListedPageReadsItsMistake \
	TestMemoryAttacks TestMemoryComesBackAfterACrowd TestMemoryLimitOfConnections TestMillionsOfAddresses TestMoreCallsThanAConnectionTakes TestMutatedBytes TestNullIsAllowedByName TestOpAMPReleases TestOriginsAreTriedOut \
	TestPausedReaders TestProtobufConformance TestPublicConformance TestPublishedClients TestPublishedClientsOverTLS TestQuietStreamsOnAStockBackend TestReaderThatStandsStill \
	TestSilentBackendHost TestSilentClient TestSlowConsumerLimit TestSlowReadersAreNotBufferedFor TestSoak TestStalledLargeMessagesStayWithinTheBudget \
	TestStoppedBackend TestStoppedBackendWithKeepalive TestStoppedCulvert TestTenThousandConnections TestTextsInTablesWereSeen \
	TestTricklersAreClosed TestUnansweredPingEndsUnavailable TestUnreadCallsLeaveTheirConnectionAlone
LONG = ^($(subst $(space),|,$(strip $(LONG_NAMES))))$$
# DOCS selects the tests of pages that take long or need culvert-kube: the blocks of docs/, the
# names and commands in the text of all pages, the demo's page at ten sizes, the README's
# animation, and how each runtime takes a company's CA. "make test" skips them too, "make
# test-docs" runs them.
DOCS = ^TestBlocks$$/^docs$$|^(TestAnimation|TestCommandsInTheTextAreUnderstood|TestDemoPage|TestNamesExist|TestRuntimesTakeTheCompanysCA)$$
# CONFORMING selects the scenarios of bridge/bridgetest, a third of the time of the unit tests.
CONFORMING = ^TestConformance$$
comma := ,
space := $(subst ,, )

# The programs of the public conformance suite (connectrpc.com/conformance).
CONFORMANCE = connectconformance grpcclient grpcserver referenceclient referenceserver

# Most tests wait for a peer or a timer most of the time, so more of them run than a small
# machine has processors.
most = $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$((n > $(1) ? n : $(1))))
BUSY := -p $(call most,4) -parallel $(call most,16)

say = @printf '\n==> %s\n' "$(1)"
took = took=$$(($$(date +%s) - $(BEGAN))); printf '\n$(1): all passed in %d min %d s\n' $$((took / 60)) $$((took % 60))

# e2e runs the tests with real clients, with go test's flags and packages. They may have
# no network, so everything that they build is fetched first.
define e2e
@go -C e2e mod download
@go -C examples mod download
@tools/tool.sh h2spec pebble protoc-gen-go protoc-gen-go-grpc >/dev/null
@cd e2e && $(call cgo,$(1)) CULVERT_BIN="$(CURDIR)/$(TESTED)" $(ALONE) $(TESTSUM) --format testname -- -vet=off -count=1 $(1)
endef

# webservers makes what the npm package's tests talk to, besides culvert.
define webservers
@$(BUILD) -o bin/guarded ./internal/guard/guarded
@go -C e2e build -o "$(CURDIR)/bin/backend" ./backend
@go -C e2e test -vet=off -count=1 -run '^TestSequences$$' ./sequences -args -count 500 -out "$(CURDIR)/bin/sequences.jsonl"
endef

# kube compiles culvert-kube before tests that install it: its packages take a minute.
kube = @CGO_ENABLED=0 go -C kubernetes build -o /dev/null ./cmd/culvert-kube

##@ To begin with

demo: ## Run the demo: a service, culvert in front of it, and a page
	go run ./cmd/culvert demo

# What several steps need is compiled once, while packages are fetched: two compilers of the same
# package at the same time would do the work twice. Then three lanes of steps run beside each
# other: those with browsers wait for most of the time, and the others use the processors. Behind
# the last of them the other lanes tell what they found. All have the same priority, since a busy
# machine has no time for a lower one, and process groups of their own, which end with this one.
# Each step runs even if others failed. The recipe doesn't name $(MAKE) itself, because "make -n"
# runs recipes that do.
steps = $(MAKE) --no-print-directory
made = -o deps -o node_modules -o build -o web/dist/index.js TESTED=bin/plain/culvert
linters = tools/lint.sh proxy
test: ## Run all checks except the long tests and those of docs/, Kubernetes and the images (4 min on two cores, 9 the first time)
	@logs=$$(mktemp -d); lanes=; failed=; \
		trap 'kill -- $$lanes 2>/dev/null || true; rm -rf "$$logs"' EXIT; \
		lane() { set -m; eval "$$1" </dev/null & lanes="$$lanes -$$!"; set +m; }; \
		step() { "$${@:2}" >"$$logs/$$1" 2>&1 || touch "$$logs/$$1.failed"; }; \
		lane 'step compile $(steps) compile'; \
		$(steps) deps node_modules; \
		wait; cat "$$logs/compile"; \
		$(steps) web/dist/index.js || touch "$$logs/build.failed"; \
		printf '\n==> lint, tools, unit and conformance run beside the tests with browsers and tell their findings behind them\n'; \
		lane 'step lint $(linters); step tools $(steps) tools $(made)'; \
		lane 'for step in unit conformance; do step $$step $(steps) $$step $(made); done'; \
		for step in web e2e; do $(steps) $$step $(made) || touch "$$logs/$$step.failed"; done; \
		wait; printf '\n==> lint\n'; cat "$$logs"/{lint,tools,unit,conformance}; \
		for step in compile build web e2e lint tools unit conformance; do [ ! -e "$$logs/$$step.failed" ] || failed="$$failed $$step"; done; \
		[ -z "$$failed" ] || { printf '\nmake test: failed:%s\n' "$$failed" >&2; exit 1; }
	@$(call took,make test)

compile: bin/plain/culvert
	@$(call cgo,$(RACE)) go list $(RACE) -test -export ./... >/dev/null
	@tools/tool.sh gotestsum shorten h2spec pebble protoc-gen-go protoc-gen-go-grpc >/dev/null

test-long: vet unit-long web-long e2e-long ## Run the long tests, with the race detector: floods, gigabytes, minutes of silence (30 min)
	@$(call took,make test-long)

test-docs: deps build node_modules web/dist/index.js ## Run the blocks of docs/, check the names and commands of all pages, look at the demo's page and animation (5 min)
	$(call say,e2e: the pages)
	$(kube)
	$(call e2e,-race -timeout 60m -run '$(DOCS)' ./docs)
	@$(call took,make test-docs)

##@ Single steps

deps: ## Install the packages for the tests (Debian, as root), or list the missing ones
	@tools/deps.sh test

lint: node_modules ## Lint all modules, look for known vulnerabilities
	$(call say,lint)
	@tools/lint.sh

# Not in lint: with an empty cache it compiles everything again for each system.
vet: ## Vet for the other systems that the demo and the examples support, lint the modules of the tests with large programs of others
	$(call say,vet)
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./...
	GOOS=darwin go -C examples vet ./...
	GOOS=windows go -C examples vet ./...
	@tools/lint.sh peers

tools: ## Test the lint rules, the files in deploy/ and this file
	$(call say,tools)
	@cd tools && $(TESTSUM) --format testname -- -vet=off -count=1 -timeout 60m ./...

# The slowest packages go first, so that none of them runs alone at the end. The time-outs end
# what hangs: a busy machine needs many times what a quiet one does.
FIRST = ./bridge ./bridge/internal/upstream ./tls ./cmd/culvert ./cmd/culvert/internal/dial ./client/... ./telemetry ./internal/descriptor ./internal/websocket
unit: ## Run the unit, fuzz corpus and command-line tests
	$(call say,unit)
	@$(call cgo,$(RACE)) $(TESTSUM) --format pkgname -- $(RACE) $(BUSY) -vet=off $(COUNT) -timeout 60m -skip '$(LONG)|$(CONFORMING)' $(FIRST) ./...
	@$(if $(RACE),$(TESTSUM) --format pkgname -- -vet=off -count=1 -timeout 60m -run '^TestAllocations$$' ./bridge)
	@cd examples && $(call cgo,$(RACE)) $(TESTSUM) --format pkgname -- $(RACE) -vet=off $(COUNT) -timeout 60m ./...

conformance: ## Run the scenarios that every transport must pass
	$(call say,conformance)
	@$(call cgo,$(RACE)) $(TESTSUM) --format pkgname -- $(RACE) $(BUSY) -vet=off $(COUNT) -timeout 60m -run '$(CONFORMING)' ./bridge

# An OpenID provider, OPA and Envoy's rate limit service bring much to compile: what they test
# has other tests with the race detector.
unit-long: deps node_modules web/dist/index.js ## Run the long ones of the unit tests, with the race detector, and those with an OpenID provider, OPA and Envoy's rate limit service
	$(call say,unit: the long tests)
	@$(call cgo,-race) $(TESTSUM) --format pkgname -- -race -vet=off -count=1 -timeout 60m -run '$(LONG)' ./...
	@cd auth/internal/oidctest && $(TESTSUM) --format pkgname -- -vet=off -count=1 -timeout 60m ./...
	@cd auth/internal/opatest && $(TESTSUM) --format pkgname -- -vet=off -count=1 -timeout 60m ./...
	@cd auth/internal/ratelimittest && $(TESTSUM) --format pkgname -- -vet=off -count=1 -timeout 60m ./...

# Not in a network namespace of its own: with loopback alone, Chromium reports that it is offline.
web: deps build node_modules web/dist/index.js ## Check the npm package @culvert/web: lint, types, tests in Node and Chromium, size, what is published
	$(call say,web: the npm package)
	@cd web && npm run --silent check
	$(webservers)
	@cd web && CULVERT_BIN="$(CURDIR)/$(TESTED)" npm run --silent test
	@cd web && npm run --silent package

web-long: deps build node_modules ## Run the long tests of the npm package, also with the oldest connect-es, and what pages live through
	$(call say,web: the long tests)
	$(webservers)
	@cd web && npm run --silent test:long

e2e: build node_modules web/dist/index.js ## Test the real program with real clients, in Node and in Chromium
	$(call say,e2e: the program with real clients)
	$(call e2e,$(RACE) $(BUSY) -timeout 60m -skip '$(LONG)|$(DOCS)' ./...)

# The packages run one after the other (-p 1): some tests measure time.
e2e-long: deps build node_modules web/dist/index.js ## Run the long tests with real clients, with the race detector, those of the guides to authentication, and those with the receiver of OpenTelemetry's collector
	$(call say,e2e: the long tests)
	@tools/tool.sh $(CONFORMANCE) >/dev/null
	@e2e/testdata/opampagent/release.sh fetch
	@go -C e2e/identity mod download
	@cd e2e/identity && CULVERT_BIN="$(CURDIR)/bin/culvert" $(ALONE) $(TESTSUM) --format testname -- -vet=off -count=1 -timeout 60m ./...
	@go -C e2e/traced mod download
	@cd e2e/traced && $(call cgo,-race) CULVERT_BIN="$(CURDIR)/bin/culvert" $(ALONE) $(TESTSUM) --format testname -- -race -vet=off -count=1 -timeout 60m ./...
	$(kube)
	$(call e2e,-race -p 1 -parallel 6 -timeout 60m -run '$(LONG)' ./...)
	$(call say,what each client can do)
	@grep -h '^|' docs/how-it-works/appendix/compatibility.md docs/how-it-works/appendix/paused-readers.md

test-kubernetes: test-kube test-apiserver test-kubelet ## Run all checks of Kubernetes (15 min the first time)
	@$(call took,make test-kubernetes)

test-kube: deps ## Lint and test culvert-kube, the Helm chart and the images
	$(call say,kubernetes: unit tests)
	@cd kubernetes && $(call cgo,$(RACE)) $(TESTSUM) --format pkgname -- $(RACE) -vet=off -count=1 -timeout 60m ./...
	$(call say,kubernetes: the Helm chart and the images)
	@cd tools/helm && $(TESTSUM) --format testname -- -vet=off -count=1 -timeout 60m ./...
	@cd tools/images && $(TESTSUM) --format testname -- -vet=off -count=1 -timeout 60m ./...
	$(call say,kubernetes: lint)
	@tools/lint.sh kubernetes

# Programs are fetched and built before the tests, which have a network of their own. The
# first build takes minutes.
test-apiserver: deps ## Test culvert-kube against a real API server, with its controllers (builds them the first time)
	@tools/cluster/program.sh etcd kube-apiserver kube-controller-manager kubectl helm >/dev/null
	$(call say,kubernetes: a real API server)
	@cd kubernetes/e2e && $(call cgo,$(RACE)) $(TESTSUM) --format testname -- $(RACE) -vet=off -count=1 -parallel 8 -timeout 60m .

test-kubelet: deps ## Test injected pods on a real kubelet, with containerd (Linux, as root)
	@if [ "$$(uname -s)" != Linux ] || [ "$$(id -u)" -ne 0 ]; then echo "only root on Linux can run a node: make test-kubelet does nothing"; exit; fi; \
	tools/cluster/program.sh etcd kube-apiserver kube-controller-manager kubectl kubelet >/dev/null; \
	printf '\n==> %s\n' "kubernetes: a real kubelet"; \
	cd kubernetes/e2e && PATH="$$PATH:/usr/sbin:/sbin" $(call cgo,$(RACE)) $(TESTSUM) --format testname -- $(RACE) -vet=off -count=1 -timeout 60m ./kubelet

fuzz: ## Fuzz each target for FUZZTIME (30s); Go's cache keeps interesting inputs
	@tools/fuzz.sh $(FUZZTIME)

# With this many, each difference that the tests know must occur.
differential: build node_modules ## Compare HTTP/2 with net/http, WebSockets with coder/websocket, over SEQUENCES (300000) of frames (8 min)
	@go test -vet=off -count=1 -timeout 0 -v -run '^TestDifferentialForLong$$' ./bridge/internal/h2 ./internal/websocket -args -sequences $(SEQUENCES)
	@go -C e2e build -o "$(CURDIR)/bin/backend" ./backend
	@go -C e2e test -vet=off -count=1 -timeout 0 -run '^TestSequences$$' ./sequences -args -count $$(($(SEQUENCES) / 20)) -out "$(CURDIR)/bin/sequences.jsonl"
	@cd web && node test/run.js --place node --patience 3600000 h2/differential

soak: build ## Run load, cuts, stalls and backend restarts for SOAKTIME (10m), and then culvert dial in a network that fails, for as long
	@cd e2e && CULVERT_BIN="$(CURDIR)/bin/culvert" go test -count=1 -timeout 0 -v -run '^(TestSoak|TestDialFaults)$$' . -soak $(SOAKTIME) -dial-faults $(SOAKTIME)

# ATTACK selects rows, like -run: ATTACK='^stalled_grpc'.
attack: build ## Run all attacks on culvert's memory, or those that match ATTACK (an hour)
	@go -C e2e mod download
	@cd e2e && CULVERT_BIN="$(CURDIR)/bin/culvert" $(ALONE) go test -vet=off -count=1 -timeout 0 -v -run '^TestMemoryAttacks$$/^attack$$/$(ATTACK)' . -attack.all

# OLDER is a commit, to compare instructions and allocations with.
# BENCHFLAGS='-only ^instructions' measures nothing else.
bench: build bin/grpcwebproxy node_modules web/dist/index.js ## Measure culvert beside grpcwebproxy, vanguard, nginx, no proxy, and OLDER: docs/how-it-works/benchmarks.md (70 min, longer with OLDER)
	@tools/deps.sh test
	@go -C e2e build -o "$(CURDIR)/bin/bench" ./bench
	@go -C e2e build -o "$(CURDIR)/bin/vanguard" ./bench/vanguard
	@PATH="$$PATH:/usr/sbin" bin/bench -out docs/how-it-works/benchmarks.md $(if $(OLDER),-older "$(OLDER)") $(BENCHFLAGS)

# REV is the commit of an older culvert. BENCHFLAGS='-only unary' selects rows.
bench-since: build ## Measure culvert beside that of the commit REV, by turns (an hour)
	@[ -n "$(REV)" ] || { echo 'bench-since: say which commit: make bench-since REV=COMMIT' >&2; exit 2; }
	@go -C e2e build -o "$(CURDIR)/bin/bench" ./bench
	@bin/bench -since -older "$(REV)" $(BENCHFLAGS)

# Without the samples of opening a stream, for the reason that profileLoads gives.
profile: ## Write cmd/culvert/default.pgo anew, by which the program is optimised (2 min)
	@go -C e2e build -o "$(CURDIR)/bin/bench" ./bench
	@rm -rf bin/profiles
	@bin/bench -profile bin/profiles -time 10s
	@go tool pprof -proto -ignore='newClientStream|NewStream' bin/profiles/*.pprof >bin/profiles/merged
	@mv bin/profiles/merged cmd/culvert/default.pgo

# Installed by name, since culvert doesn't depend on it.
bin/grpcwebproxy:
	GOBIN="$(CURDIR)/bin" go install github.com/improbable-eng/grpc-web/go/grpcwebproxy@v0.15.0

build: ## Build bin/culvert, static
	$(BUILD) -o bin/culvert$$(go env GOEXE) ./cmd/culvert

bin/plain/culvert:
	$(subst -pgo=auto,-pgo=off,$(BUILD)) -o $@ ./cmd/culvert

generate: deps-generate ## Write every generated file again
	go generate ./...
	go -C e2e generate ./...
	go -C examples generate ./...
	go -C tools/helm run .
	go -C kubernetes generate ./...

chart: ## Write the schema of values and install.yaml from the Helm chart
	@go -C tools/helm run .

proto: deps-generate ## Write the protobuf code again
	go generate ./demo/...
	go -C examples generate ./...
	go -C e2e generate ./...

docker: ## Build the container images
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t $(IMAGE):$(VERSION) -t $(IMAGE):latest .
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --target culvert-kube -t $(IMAGE)-kube:$(VERSION) -t $(IMAGE)-kube:latest .

# The first time, Go compiles everything for the other platform.
images: ## Assemble and check the container images without an engine, for PLATFORMS: dist/images
	@cd tools/images && go run . -version $(VERSION) -commit "$(COMMIT)" -platforms $(PLATFORMS)

# The first time, Go compiles everything for each platform. "make packages" doesn't sign.
packages: ## Make archives, deb, rpm and npm packages and SBOMs of this commit, for all platforms: dist/release
	@tools/release/goreleaser.sh release --snapshot --clean --skip=sign
	@cp bin/packages/npm/*.tgz dist/release

# As root, because a test installs the packages on a copy of the system, and boots systemd there.
release-check: deps-release ## Check the goreleaser configuration, make a snapshot, install and verify it (Debian, as root; 20 min of CPU the first time)
	$(call say,release: a snapshot for all platforms)
	@cd tools/release && $(TESTSUM) --format testname -- -vet=off -count=1 -timeout 90m . -args -platforms

clean: ## Remove the files that make has put into the tree
	rm -rf bin dist web/dist coverage* $(PACKAGES:%=%/node_modules)

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Files behind the targets

deps-generate:
	@tools/deps.sh generate

deps-release:
	@tools/deps.sh release

# npm writes this file last; it is older than the lock file when that has changed.
node_modules: $(PACKAGES:%=%/node_modules/.package-lock.json)

# The built @culvert/web, which tests and examples of other directories use, too.
# It is left alone while it is new, because steps run beside one another.
web/dist/index.js: $(wildcard web/src/*.ts web/src/h2/*.ts) web/tsconfig.json web/tsconfig.build.json web/node_modules/.package-lock.json
	cd web && npm run --silent build

%/node_modules/.package-lock.json: %/package-lock.json
	$(call say,npm ci in $*)
	cd $* && $(NPM_CI)
	touch $@

.PHONY: bin/plain/culvert compile demo test test-long test-docs test-kubernetes test-kube test-apiserver test-kubelet deps lint vet tools unit conformance unit-long web web-long e2e e2e-long fuzz differential bench bench-since profile soak attack build generate chart proto docker images packages release-check clean help deps-generate deps-release node_modules
