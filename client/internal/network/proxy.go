package network

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// errProxy says nothing of the address, which may have a password anywhere.
var errProxy = errors.New("it isn't a proxy address: write it as http://proxy.example.com:3128, and characters such as / ? # @ % in a password as %2F %3F %23 %40 %25")

// proxyPorts are the usual ports of the known schemes.
var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

var errScheme = errors.New("its scheme isn't known: use http, https or socks5")

// fromEnvironment returns the proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name now. A
// malformed variable is an error where its proxy would be used.
func fromEnvironment() func(*url.URL) (*url.URL, error) {
	env := httpproxy.FromEnvironment()
	// httpproxy connects directly where it can't parse an address, so it only judges NO_PROXY.
	judge := (&httpproxy.Config{HTTPProxy: "http://proxy", HTTPSProxy: "http://proxy", NoProxy: env.NoProxy, CGI: env.CGI}).ProxyFunc()
	return func(u *url.URL) (*url.URL, error) {
		address, names := env.HTTPProxy, []string{"HTTP_PROXY", "http_proxy"}
		if u.Scheme == "https" {
			address, names = env.HTTPSProxy, []string{"HTTPS_PROXY", "https_proxy"}
		}
		if address == "" {
			return nil, nil
		}
		if p, err := judge(u); p == nil {
			return nil, err
		}
		p, err := parseProxy(address)
		if err != nil {
			name := names[max(0, slices.IndexFunc(names, func(name string) bool { return os.Getenv(name) != "" }))]
			return nil, fmt.Errorf("the variable %s: %w", name, err)
		}
		return p, nil
	}
}

// Through returns one proxy for everything: "http://user:password@proxy.example.com:3128".
// https and socks5 are schemes, too. "none" stands for no proxy, and "" for those that
// HTTPS_PROXY, HTTP_PROXY and NO_PROXY name now.
func Through(address string) (func(*url.URL) (*url.URL, error), error) {
	switch address {
	case "":
		return fromEnvironment(), nil
	case "none":
		return nil, nil
	}
	p, err := parseProxy(address)
	if err != nil {
		return nil, fmt.Errorf("the proxy: %w", err)
	}
	return func(*url.URL) (*url.URL, error) { return p, nil }, nil
}

// parseProxy parses the address of a proxy. Without a scheme, it is that of an HTTP proxy. A
// path, a query or a fragment is the rest of a password.
func parseProxy(address string) (*url.URL, error) {
	p, err := url.Parse(address)
	if err != nil || p.Scheme == "" || p.Host == "" {
		p, err = url.Parse("http://" + address)
	}
	if err != nil || p.Hostname() == "" || p.Path != "" && p.Path != "/" || p.RawQuery != "" || p.ForceQuery || p.Fragment != "" || p.Opaque != "" {
		return nil, errProxy
	}
	if proxyPorts[p.Scheme] == "" {
		return nil, errScheme
	}
	if port := p.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, errProxy
		}
	}
	p.Host = strings.TrimSuffix(p.Host, ":") // a colon without a port
	return p, nil
}
