package proxytls

import "crypto/tls"

// Options are the options of a Provider.
type Options struct {
	// Certificates are selected by SNI or, for a client without SNI, by the
	// address that it connected to. The first is the default.
	Certificates []Pair

	// ClientCA is the file (PEM) with the CA certificates for verifying clients.
	// Pairs may have their own.
	ClientCA   string
	ClientAuth ClientAuth

	// CRLs are files (PEM or DER) with lists of revoked certificates, each signed
	// by one of the client CAs.
	CRLs []string

	// MinVersion is the oldest accepted version of TLS. If zero, it is TLS 1.2.
	MinVersion uint16

	// ConfigKey is the configuration key of these options ("tls", "listen[1].tls"),
	// for errors.
	ConfigKey string

	// Fallback returns the certificate for an SNI that no pair has: from ACME, or
	// of the development CA. Without SNI it is called only if there is no pair. It
	// is called concurrently. If it is nil or returns an error, the first pair is
	// used.
	Fallback func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// ChallengeProtos are the ALPN protocols ("acme-tls/1") by which a CA asks
	// Fallback for proof. A peer that offers only one of them is no client: it
	// needs no certificate, and gets nothing after the handshake.
	ChallengeProtos []string

	// Certificate is called for each certificate that is loaded from a file, once
	// more when its end is near, and when it has expired. Problem is called once
	// for each fault of a file, and Mended when the fault is gone. They aren't
	// called at the same time, nor after Close, and must not call the Provider.
	// Each may be nil.
	Certificate func(Certificate)
	Problem     func(error)
	Mended      func(error)
}

// A Pair is a certificate chain and its private key, in files (PEM).
type Pair struct {
	Cert, Key string

	// ClientCA and ClientAuth replace those of Options for clients that select this
	// certificate, if one of them isn't empty. An empty ClientCA then means that of
	// Options.
	ClientCA   string
	ClientAuth ClientAuth

	// ConfigKey is the configuration key of this pair ("tls",
	// "tls.certificates[0]"), for errors.
	ConfigKey string
}

// ClientAuth sets whether clients must present a certificate.
type ClientAuth string

// The values of ClientAuth. The empty one means Require if there is a client CA,
// and None otherwise.
const (
	None     ClientAuth = "none"     // no certificate is requested
	Optional ClientAuth = "optional" // a valid certificate, or none
	Require  ClientAuth = "require"  // a valid certificate
)
