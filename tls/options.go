package proxytls

import (
	"crypto/tls"
)

// Options are what a Provider is told.
type Options struct {
	// Certificates are selected by SNI or, for a client without SNI, by the
	// address that it connected to. The first is the default.
	Certificates []Pair

	// ClientCA is the file (PEM) with the certificates of those who may have
	// signed clients'. Pairs may have others.
	ClientCA   string
	ClientAuth ClientAuth

	// CRLs are files (PEM or DER) with lists of certificates that were
	// revoked, each signed by one of the client CAs.
	CRLs []string

	// MinVersion is the oldest version of TLS. If zero, it is TLS 1.2.
	MinVersion uint16

	// ConfigKey is what the configuration calls these options ("tls",
	// "listen[1].tls"), for errors.
	ConfigKey string

	// Fallback returns the certificate for an SNI that no pair has: from ACME,
	// or of the development CA. Without SNI it is asked only if there is no
	// pair. It is called concurrently. If it is nil or returns an error, the
	// first pair is used.
	Fallback func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// ChallengeProtos are the protocols of ALPN ("acme-tls/1") by which
	// somebody else asks Fallback for proof. Who offers one of them and
	// nothing else is no client: it is asked for no certificate, and gets
	// nothing after the handshake.
	ChallengeProtos []string

	// Certificate is told of each certificate that is loaded from a file, and
	// once more when its end is near, and when it has come. Problem is told
	// once of whatever is wrong with a file, Mended when it no longer is. They
	// aren't called at the same time, nor after Close, and must not call the
	// Provider. Each may be nil.
	Certificate func(Certificate)
	Problem     func(error)
	Mended      func(error)
}

// A Pair is a certificate chain and its private key, in files (PEM).
type Pair struct {
	Cert, Key string

	// ClientCA and ClientAuth replace those of Options for clients that select
	// this certificate, if one of them isn't empty. An empty ClientCA is then
	// that of Options.
	ClientCA   string
	ClientAuth ClientAuth

	// ConfigKey is what the configuration calls this pair ("tls",
	// "tls.certificates[0]"), for errors.
	ConfigKey string
}

// ClientAuth says whether clients have to show a certificate.
type ClientAuth string

// What clients have to show. The empty ClientAuth is Require where there is a
// client CA, and None elsewhere.
const (
	None     ClientAuth = "none"     // nothing; they aren't asked
	Optional ClientAuth = "optional" // a certificate that holds, or none
	Require  ClientAuth = "require"  // a certificate that holds
)
