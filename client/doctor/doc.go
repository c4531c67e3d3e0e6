// Package doctor finds out what the network between this machine and an edge lets through,
// and says which way of the client works there. It is public for "culvert doctor": its API may
// change in any release.
//
// [Run] makes probes, each of which becomes a [Finding]. judgementOf, a pure function, turns them
// into verdicts. Their words are in one table, verdicts.json.
//
//   - doctor.go: options, the order of the probes, the report.
//   - finding.go: what a probe finds. answer.go: who has answered.
//   - connect.go: names, TCP, the proxy, TLS and who decrypts it, ALPN.
//   - call.go: a call of culvert.v1.Path by net/http. echo.go: what calls show of a way.
//     ending.go: what the end of a call says.
//   - http2.go: the SETTINGS, PING and GOAWAY that net/http doesn't show. native.go, web.go,
//     socket.go: the ways. service.go: what the service's half sees.
//   - idle.go: connections that are left alone, for as long as the caller wants.
//   - page.go, csp.go: what a page of a browser would meet.
//   - verdict.go: from findings to verdicts. since.go: who ends connections after how long.
//
// A probe never waits longer than its limit. No goroutine of this package outlives [Run], and
// net/http's end with their connections, which [Run] closes.
package doctor
