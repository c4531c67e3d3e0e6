// Package proxytls has the certificates: those that culvert shows to clients
// and to the backend, and those that it knows clients and backends by. It is
// a leaf that gives cmd a *tls.Config and knows nothing of calls.
//
// A reader begins at provider.go: what a listener's *tls.Config is made of.
// set.go loads all files of a Provider as one set, and chooses from it by the
// name that a client asks for; pem.go is how the files are read, policy.go and
// revocation.go judge clients. watch.go has files loaded anew when they change.
// client.go is the side towards the backend, development.go the authority of a
// developer's machine, redirect.go what stands on port 80.
//
// acme.go is where certificates of a CA come from: acme_managed.go keeps one for
// a name, acme_demand.go begins to when a client asks for the name,
// acme_issuer.go orders, acme_challenge.go proves that the name is ours, and
// acme_failure.go says what goes wrong, and when it is tried again; redact.go
// keeps secrets out of that.
//
// Goroutines: a Provider and a Client have one each, which looks at the files,
// an ACME one for each name; Close ends them and waits for them. (certmagic
// has one for each lock, which ends up to 5 s after it.)
package proxytls
