// Package e2e tests the program culvert from outside, as a process between real
// clients and a real gRPC server. It imports nothing of culvert.
//
// Where to look:
//
//   - harness_*_test.go: the processes, network namespaces and calls that the
//     tests are made of
//   - matrix_*_test.go: the published clients, each through the same scenarios,
//     and docs/how-it-works/appendix/compatibility.md, which says what came of it;
//     the clients in JavaScript are in node/, a file client-*.js for each, Python's
//     in python/, and Java's in java/
//   - oracle_*_test.go, oracle/: the same scripts before improbable-eng's wrapper,
//     and every difference with its reason
//   - hostile_*_test.go: what no honest client sends, and what must come back
//   - attack_*_test.go, attacker/: floods and hoards, with a bound on culvert's
//     memory and ordinary clients beside them; "make attack" runs all of the attacks
//     on memory
//   - soak_*_test.go: endurance; "make soak" runs it for ten minutes
//   - the other *_test.go: load, limits and ends, a file for each concern
//   - backend/, probe/, e2epb/: the server behind culvert, what it can be told to
//     do and what it tells of what it saw
//   - wire/, transfer/, relay/: clients on the level of bytes, one that moves
//     gigabytes, and a TCP relay that cuts
//   - bare/, certificate/: a codec that leaves messages as bytes, and a self-signed
//     certificate
//   - traced/: traces, metrics and the log by OTLP, with OpenTelemetry's collector; a module of its own
//   - docs/: every command, snippet and quoted text of the documents, run
//
// CULVERT_BIN names the program to test; without it, ../cmd/culvert is built.
// Tests that need silence on a network use network namespaces, so they need root
// and the packages iproute2 and nftables, and fail without them.
package e2e
