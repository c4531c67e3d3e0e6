package proxytls

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A set is everything that was loaded from the files of a Provider at one time. It
// never changes.
type set struct {
	pairs    []*pair
	byName   map[string][]*pair // "a.example.com", "*.example.com", "192.0.2.1"
	first    []*pair            // the first of pairs, and those that share a name with it
	policies map[policyKey]*policy
	unnamed  *policy // for clients whose SNI no pair has
	crls     revocations
}

type pair struct {
	cert   tls.Certificate
	names  []string // the names by which clients select it
	policy *policy
	fact   Certificate
}

// files lists each file once.
func (o *Options) files() []string {
	names := []string{o.ClientCA}
	for _, p := range o.Certificates {
		names = append(names, p.Cert, p.Key, p.ClientCA)
	}
	return distinct(append(names, o.CRLs...)...)
}

// distinct returns each name once, without empty ones.
func distinct(names ...string) []string {
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
}

// newSet makes a set from the contents of files. The error has a line for each
// fault.
func newSet(o Options, c contents) (*set, error) {
	s := &set{byName: map[string][]*pair{}, policies: map[policyKey]*policy{}}
	var errs []error
	policyOf := func(auth ClientAuth, ca, configKey string) *policy {
		p, err := s.policy(auth, ca, configKey, c)
		errs = append(errs, err)
		return p
	}
	s.unnamed = policyOf(o.ClientAuth, o.ClientCA, o.ConfigKey)
	for i, from := range o.Certificates {
		p := &pair{policy: s.unnamed}
		if from.ClientAuth != "" || from.ClientCA != "" {
			p.policy = policyOf(from.ClientAuth, cmp.Or(from.ClientCA, o.ClientCA), from.ConfigKey)
		}
		var err error
		if p.cert, err = loadPair(from.ConfigKey, from.Cert, from.Key, c); err != nil {
			errs = append(errs, split(err)...)
			continue
		}
		p.fact = factOf(from.ConfigKey+".cert", from.Cert, p.cert.Leaf)
		if p.names = selectors(p.cert.Leaf); len(p.names) == 0 && i > 0 {
			errs = append(errs, keyErrorf(p.fact.key, "%s: no client can select it, since it names neither a host nor an IP address (its common name and URIs don't count): add a subjectAltName, or list it first", p.fact.File))
		}
		errs = append(errs, s.add(p))
	}
	if o.Fallback == nil && len(s.pairs) > 0 {
		s.unnamed = s.pairs[0].policy
	}
	s.first = s.alike()
	var err error
	s.crls, err = loadRevocations(o, c, s.policies)
	return s, errors.Join(append(errs, split(err)...)...)
}

// selectors returns the names and addresses by which a client selects a
// certificate. SNI can't carry a URI. Clients ignore the common name: RFC 9525
// §6.3. A wildcard counts only as the whole first label.
func selectors(leaf *x509.Certificate) []string {
	var names []string
	for _, name := range leaf.DNSNames {
		name = normalName(name)
		if host := strings.TrimPrefix(name, "*."); host != "" && !strings.Contains(host, "*") {
			names = append(names, name)
		}
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, normalName(ip.String()))
	}
	return distinct(names...)
}

func (s *set) add(p *pair) error {
	s.pairs = append(s.pairs, p)
	for _, name := range p.names {
		if others := s.byName[name]; len(others) > 0 && others[0].policy != p.policy {
			return keyErrorf(p.fact.key, "%s and %s are both for %s, and ask clients for different certificates: give them the same client_ca and client_auth", p.fact.File, others[0].fact.File, name)
		}
		s.byName[name] = append(s.byName[name], p)
	}
	return nil
}

// named returns the pairs for a name or an IP address, those of the name itself
// before those of the wildcard above it. RFC 6125 §6.4.3: a wildcard stands for one
// label.
func (s *set) named(name string) []*pair {
	name = normalName(name)
	if pairs := s.byName[name]; len(pairs) > 0 {
		return pairs
	}
	if _, above, ok := strings.Cut(name, "."); ok {
		return s.byName["*."+above]
	}
	return nil
}

// selected returns the pairs that a client selects: by SNI, or else by the
// address that it connected to, since SNI carries no IP address. RFC 6066 §3.
func (s *set) selected(sni string, local net.Addr) []*pair {
	if sni != "" {
		return s.named(sni)
	}
	if tcp, ok := local.(*net.TCPAddr); ok {
		return s.byName[normalName(tcp.IP.String())]
	}
	return nil
}

// alike returns the first pair and those that share a name with it, and thus its
// policy: usually the same in RSA, for clients that don't know ECDSA.
func (s *set) alike() []*pair {
	if len(s.pairs) == 0 {
		return nil
	}
	alike := s.pairs[:1:1]
	for _, name := range s.pairs[0].names {
		for _, p := range s.byName[name] {
			if !slices.Contains(alike, p) {
				alike = append(alike, p)
			}
		}
	}
	return alike
}

// connectionPolicy returns the policy of a connection. A client without SNI that
// came to an address of no pair gets the first pair, so the policy of that pair
// applies.
func (s *set) connectionPolicy(sni string, local net.Addr) *policy {
	if pairs := s.selected(sni, local); len(pairs) > 0 {
		return pairs[0].policy
	}
	if sni == "" && len(s.pairs) > 0 {
		return s.pairs[0].policy
	}
	return s.unnamed
}

// hostPolicy returns the policy of a host, a name or an IP address.
func (s *set) hostPolicy(host string) *policy {
	if pairs := s.named(host); len(pairs) > 0 {
		return pairs[0].policy
	}
	return s.unnamed
}

// normalName returns a host in the form in which hosts are compared: without
// port, brackets, the root's dot and an IPv6 zone, in lower case, and an
// IPv4-mapped address as IPv4.
func normalName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return addr.Unmap().WithZone("").String()
	}
	return host
}

// loadPair reads a certificate and its key. The most frequent faults have texts of
// their own.
func loadPair(configKey, certFile, keyFile string, c contents) (tls.Certificate, error) {
	certKey, keyKey := configKey+".cert", configKey+".key"
	certPEM, certErr := c.read(certKey, certFile)
	keyPEM, keyErr := c.read(keyKey, keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return tls.Certificate{}, err
	}
	certBlocks, certErr := pemBlocks(certPEM)
	keyBlocks, keyErr := pemBlocks(keyPEM)
	switch {
	case certErr != nil:
		return tls.Certificate{}, keyErrorf(certKey, "%s: %w", certFile, certErr)
	case keyErr != nil:
		return tls.Certificate{}, keyErrorf(keyKey, "%s: %w", keyFile, keyErr)
	case !slices.ContainsFunc(certBlocks, func(b *pem.Block) bool { return b.Type == "CERTIFICATE" }):
		return tls.Certificate{}, keyErrorf(certKey, "%s contains no certificate in PEM form: begin it with -----BEGIN CERTIFICATE-----", certFile)
	case bytes.Contains(keyPEM, []byte("ENCRYPTED")) && bytes.Contains(keyPEM, []byte("PRIVATE KEY")):
		return tls.Certificate{}, keyErrorf(keyKey, "%s is encrypted with a password that culvert can't ask for: decrypt it with openssl pkey -in %[1]s -out FILE, mode 0600", keyFile)
	case !slices.ContainsFunc(keyBlocks, func(b *pem.Block) bool { return strings.HasSuffix(b.Type, "PRIVATE KEY") }):
		return tls.Certificate{}, keyErrorf(keyKey, "%s contains no private key in PEM form: begin it with -----BEGIN PRIVATE KEY-----", keyFile)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, keyErrorf(certKey, "%s: %w: the file must begin with the certificate of the private key in %s, followed by the intermediate certificates", certFile, unprefixed(err), keyFile)
	}
	return pair, nil
}

// unprefixed removes the package's name from the text of an error.
func unprefixed(err error) error {
	return errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "x509: "))
}

func loadAuthorities(key, file string, c contents) ([]*x509.Certificate, error) {
	data, err := c.read(key, file)
	if err != nil {
		return nil, err
	}
	blocks, err := pemBlocks(data)
	if err != nil {
		return nil, keyErrorf(key, "%s: %w", file, err)
	}
	var all []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, keyErrorf(key, "%s: certificate %d: %w", file, len(all)+1, unprefixed(err))
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, keyErrorf(key, "%s contains no certificate in PEM form: begin it with -----BEGIN CERTIFICATE-----", file)
	}
	return all, nil
}

func poolOf(certificates []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}
