package network

import (
	"net"
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// asciiName returns a name as DNS, TLS and HTTP have it: "xn--bcher-kva.example". RFC 5891 §5.
func asciiName(name string) (string, error) {
	if strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		return name, nil // also with what isn't a letter, as in my_host
	}
	return idna.Lookup.ToASCII(name)
}

// asciiAddress returns a host and a port with the host in ASCII, if it can be.
func asciiAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if host, err = asciiName(host); err != nil {
		return address
	}
	return net.JoinHostPort(host, port)
}

// asciiProxy returns a proxy with its host in ASCII, if it can be.
func asciiProxy(p *url.URL) *url.URL {
	name := p.Hostname()
	ascii, err := asciiName(name)
	if err != nil || ascii == name {
		return p
	}
	of := *p
	of.Host = ascii
	if port := p.Port(); port != "" {
		of.Host = net.JoinHostPort(ascii, port)
	}
	return &of
}
