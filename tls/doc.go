// Package proxytls has the certificates: those that culvert shows to clients
// and to the backend, and those that it knows clients and backends by. It is
// a leaf that gives cmd a *tls.Config and knows nothing of calls.
//
// A reader begins at provider.go: what a listener's *tls.Config is made of.
// set.go loads all files of a Provider as one set, and chooses from it by the
// name that a client asks for; policy.go and revocation.go judge clients.
// watch.go has files loaded anew when they change. client.go is the side
// towards the backend, development.go the authority of a developer's machine,
// redirect.go what stands on port 80.
//
// Goroutines: a Provider and a Client have one each, which looks at the files;
// Close ends it and waits for it.
package proxytls
