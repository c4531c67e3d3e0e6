package config

import "slices"

var clientAuth = oneOf([]string{"none", "optional", "require"})

// parseClientAuth also accepts "", the value of an unset key.
func parseClientAuth(s string) (any, error) {
	if s == "" {
		return s, nil
	}
	return clientAuth.parse(s)
}

// ListenerTLS returns the complete TLS configuration of a listener: its own
// keys, and the inherited ones.
func (l *Loaded) ListenerTLS(i int) TLS {
	t := l.TLS
	t.ServerTLS = l.Listen[i].TLS.ServerTLS
	if l.setsGroup(fileKeys.key("listen").entries, Entry("listen", i), "certificate") {
		t.ACME = ACME{} // the listener has its own certificate
	}
	return t
}

func (l *Loaded) speaksTLS() bool {
	return slices.ContainsFunc(l.Listen, func(ln Listener) bool { return ln.TLS.Enabled })
}

// checkTLS checks keys that depend on each other. It also turns TLS on if
// there is a certificate.
func checkTLS(l *Loaded) {
	checkCertificate(l, "tls", l.TLS)
	if !l.TLS.SelfSigned && len(l.TLS.SelfSignedNames) > 0 && !slices.ContainsFunc(l.Listen, func(ln Listener) bool { return ln.TLS.SelfSigned }) {
		l.refuse("tls.self_signed_names", "has no effect without the development certificate: set tls.self_signed (--tls-self-signed)")
	}
	for i := range l.Listen {
		checkListenerTLS(l, i)
	}
	if l.TLS.Key != "" && l.TLS.Cert == "" {
		return // the mistake that explains the others
	}
	if l.speaksTLS() || l.TLS.Enabled() {
		checkClients(l, "tls", l.TLS.ServerTLS)
		return
	}
	// An operator who sets one of these expects TLS.
	l.refuseSet([]setKey{
		{"tls.client_ca", l.TLS.ClientCA != ""},
		{"tls.client_auth", l.TLS.ClientAuth != "" && l.TLS.ClientAuth != "none"},
		{"tls.crls", len(l.TLS.CRLs) > 0},
		{"tls.min_version", l.TLS.MinVersion != Defaults().TLS.MinVersion},
		{"tls.http_listen", l.TLS.HTTPListen != ""},
	}, "has no effect without a certificate: set tls.cert and tls.key (--tls-cert, --tls-key)")
}

// checkListenerTLS checks the keys that a listener sets itself.
func checkListenerTLS(l *Loaded, i int) {
	at := Entry("listen", i) + ".tls"
	own, t := &l.Listen[i].TLS, l.ListenerTLS(i)
	entries := fileKeys.key("listen").entries
	certificate, trust := l.setsGroup(entries, Entry("listen", i), "certificate"), l.setsGroup(entries, Entry("listen", i), "trust")
	if certificate {
		checkCertificate(l, at, t)
	}
	switch set := l.IsSet(at + ".enabled"); {
	case !set:
		own.Enabled = t.Enabled()
	case own.Enabled && !t.Enabled():
		l.refuse(at+".enabled", "requires a certificate: set cert and key in the same section, or tls.cert and tls.key for all listeners")
	case !own.Enabled && (certificate || trust):
		l.refuse(at+".enabled", "turns TLS off, but the same section has keys for TLS: remove enabled or these keys")
	}
	if trust && own.ClientCA != "" && len(l.TLS.CRLs) > 0 && !l.IsSet(at+".crls") {
		l.refuse(at+".client_ca", "has no revocation lists, because a listener with its own client_ca doesn't inherit tls.crls: set %s.crls, or set it to [] for none", at)
	}
	switch {
	case own.Enabled && trust:
		checkClients(l, at, t.ServerTLS)
	case trust && !certificate && !l.IsSet(at+".enabled"):
		l.refuse(at, "has no effect without a certificate: set cert and key in this section, or tls.cert and tls.key for all listeners")
	}
}

// alsoFlag returns the name of a key in a TLS section, and its flag if it has
// one.
func alsoFlag(at, name string) string {
	k := fileKeys.key(join(at, name))
	if k.Flag == "" {
		return join(at, name)
	}
	return k.Name + " (--" + k.Flag + ")"
}

func checkCertificate(l *Loaded, at string, t TLS) {
	checkPair(l, at, t.Cert, t.Key)
	for i, c := range t.Certificates {
		if entry := Entry(at+".certificates", i); c.ClientCA != "" && c.ClientAuth == "none" {
			l.refuse(entry+".client_ca", "is for verifying client certificates, but %s.client_auth asks for none: remove one of these keys", entry)
		}
	}
	for _, o := range []setKey{{at + ".cert", t.Cert != ""}, {at + ".certificates", len(t.Certificates) > 0}} {
		if t.SelfSigned && o.set {
			l.refuse(at+".self_signed", "creates a certificate, but %s names one: remove one of these keys", l.Place(o.key))
		}
	}
}

// checkPair checks that a certificate and its private key are set together.
func checkPair(l *Loaded, at, cert, key string) {
	switch {
	case cert != "" && key == "":
		l.refuse(at+".cert", "requires the private key: set %s", alsoFlag(at, "key"))
	case key != "" && cert == "":
		l.refuse(at+".key", "requires the certificate: set %s", alsoFlag(at, "cert"))
	}
}

func checkClients(l *Loaded, at string, t ServerTLS) {
	switch {
	case t.ClientCA == "" && (t.ClientAuth == "require" || t.ClientAuth == "optional"):
		l.refuse(at+".client_auth", "requires a CA for verifying client certificates: set %s", alsoFlag(at, "client_ca"))
	case t.ClientCA != "" && t.ClientAuth == "none":
		l.refuse(at+".client_ca", "is for verifying client certificates, but %s.client_auth asks for none: remove one of these keys", at)
	case t.ClientCA == "" && len(t.CRLs) > 0 && !slices.ContainsFunc(t.Certificates, func(c Certificate) bool { return c.ClientCA != "" }):
		l.refuse(at+".crls", "has no effect, because culvert asks clients for no certificate: set %s", alsoFlag(at, "client_ca"))
	}
}

// checkHTTPListen finds two listeners on one port, and a redirect target
// without a redirect.
func checkHTTPListen(l *Loaded) {
	if l.TLS.HTTPTarget != 0 && l.TLS.HTTPListen == "" {
		l.refuse("tls.http_target", `has no effect without tls.http_listen: set tls.http_listen, for example to ":80"`)
	}
	others := []ownAddress{{"health.listen", l.Health.Listen}}
	for _, ln := range l.Listen {
		others = append(others, ownAddress{"listen", ln.Address})
	}
	for _, o := range others {
		if collide(l.TLS.HTTPListen, o.address) {
			l.refuse("tls.http_listen", "is the port of %s: use another port, or remove the key", o.key)
		}
	}
}
