// Package proxytls has the certificates: those that culvert shows to clients and to
// the backend, and those that it verifies clients and backends with. It is a leaf
// that gives cmd a *tls.Config and knows nothing of calls.
//
// Begin at provider.go: the source of a listener's *tls.Config. set.go loads all
// files of a Provider as one set, and selects from it by SNI. pem.go reads the
// files; policy.go and revocation.go judge clients. watch.go reloads files that
// change. client.go is the side towards the backend, development.go the authority
// of a developer's machine, redirect.go the handler for port 80.
//
// acme.go obtains certificates from a CA: acme_managed.go keeps one for a name,
// acme_demand.go begins when a client asks for the name, acme_issuer.go orders,
// acme_challenge.go proves that the name is ours, acme_failure.go reports failures
// and schedules retries, and acme_state.go says how each name is; redact.go keeps
// secrets out of the reports.
//
// Goroutines: a Provider and a Client have one each, which watches the files, and
// an ACME one for each name. Close ends them and waits for them. (certmagic has one
// for each lock, which ends up to 5 s after it.)
package proxytls
