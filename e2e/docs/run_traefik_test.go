package docs

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// traefikInstall and traefikRouting are what the page about Traefik uses of its
// configuration, by the names in its reference.
// https://doc.traefik.io/traefik/reference/install-configuration/entrypoints/
type traefikInstall struct {
	EntryPoints map[string]struct {
		Address   string `yaml:"address"`
		Transport struct {
			RespondingTimeouts struct {
				ReadTimeout *time.Duration `yaml:"readTimeout"`
			} `yaml:"respondingTimeouts"`
		} `yaml:"transport"`
	} `yaml:"entryPoints"`
	Providers struct {
		File struct {
			Filename string `yaml:"filename"`
		} `yaml:"file"`
	} `yaml:"providers"`
}

// https://doc.traefik.io/traefik/reference/routing-configuration/dynamic-configuration-methods/
type traefikRouting struct {
	HTTP struct {
		Routers map[string]struct {
			Rule        string    `yaml:"rule"`
			EntryPoints []string  `yaml:"entryPoints"`
			Service     string    `yaml:"service"`
			Middlewares []string  `yaml:"middlewares"`
			TLS         *struct{} `yaml:"tls"`
		} `yaml:"routers"`
		Middlewares map[string]struct {
			Headers struct {
				CustomRequestHeaders map[string]string `yaml:"customRequestHeaders"`
			} `yaml:"headers"`
		} `yaml:"middlewares"`
		Services map[string]struct {
			LoadBalancer struct {
				Servers []struct {
					URL string `yaml:"url"`
				} `yaml:"servers"`
			} `yaml:"loadBalancer"`
		} `yaml:"services"`
	} `yaml:"http"`
	TLS struct {
		Certificates []struct {
			CertFile string `yaml:"certFile"`
			KeyFile  string `yaml:"keyFile"`
		} `yaml:"certificates"`
	} `yaml:"tls"`
}

func decodeStrictly(t testing.TB, text string, into any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// installOf is the install configuration on a page.
func installOf(t testing.TB, page string) (install traefikInstall) {
	t.Helper()
	for _, p := range readPages(t) {
		for _, b := range p.blocks {
			if p.path == page && slices.Equal(b.options, []string{"traefik", "install"}) {
				decodeStrictly(t, b.text, &install)
				return install
			}
		}
	}
	t.Fatalf("%s has no install configuration", page)
	return install
}

// wantTraefikInstall holds the install configuration to Traefik's names, and the
// file that it names to the page.
func wantTraefikInstall(t *testing.T, b block) {
	var install traefikInstall
	decodeStrictly(t, b.text, &install)
	page, err := os.ReadFile(filepath.Join(root, b.page))
	if err != nil {
		t.Fatal(err)
	}
	if file := install.Providers.File.Filename; !strings.Contains(string(page), "(`"+file+"`)") {
		t.Errorf("the page doesn't say that the routing configuration is %s", file)
	}
}

// runTraefik calls through a stand-in for Traefik before culvert. Traefik itself
// isn't here: Debian has none, and a build of it needs hundreds of modules. Like
// Traefik the stand-in is made of net/http and httputil.ReverseProxy. It does what
// the two configurations say and Traefik's reference explains.
func runTraefik(t *testing.T, b block) {
	var routing traefikRouting
	decodeStrictly(t, b.text, &routing)
	backend, culvert := startFronted(t, b)
	for name, entry := range installOf(t, b.page).EntryPoints {
		server := &http.Server{Handler: routing.handler(t, name), ReadTimeout: time.Second} // Traefik's default is 60 s
		if set := entry.Transport.RespondingTimeouts.ReadTimeout; set != nil {
			server.ReadTimeout = *set
		}
		pair, err := tls.LoadX509KeyPair(traefikFile(routing.TLS.Certificates[0].CertFile), traefikFile(routing.TLS.Certificates[0].KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		ln, err := net.Listen("tcp", entry.Address)
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
		t.Cleanup(func() {
			_ = server.Close() // of connections that are gone already
			serving.Wait()
		})
	}
	wantFront(t, backend, culvert, toldByForwarded, 1500*time.Millisecond)
	c := newFrontClient(t, backend, "grpc.example.com", http.Header{"X-Forwarded-User": {forgedAddress}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.web(ctx, c.http2, "Unary", 1); err != nil {
		t.Errorf("gRPC-Web with X-Forwarded-User: %v", err)
	}
	if _, err := c.chatNative(ctx); err != nil {
		t.Errorf("native gRPC with X-Forwarded-User: %v", err)
	}
}

func traefikFile(name string) string {
	return strings.NewReplacer("/etc/traefik/tls/fullchain.pem", filepath.Join(worldDir, "cert.pem"),
		"/etc/traefik/tls/privkey.pem", filepath.Join(worldDir, "key.pem")).Replace(name)
}

var traefikMatcher = regexp.MustCompile("^(\\w+)\\(`([^`]*)`(?:, `([^`]*)`)?\\)$")

// handler serves the routers of an entry point: of those whose rules match a
// request the one with the longest.
func (c *traefikRouting) handler(t testing.TB, entryPoint string) http.Handler {
	t.Helper()
	type route struct {
		rule    string
		matches []func(r *http.Request) bool
		to      http.Handler
	}
	var routes []route
	for _, name := range slices.Sorted(maps.Keys(c.HTTP.Routers)) {
		router := c.HTTP.Routers[name]
		if router.TLS == nil || !slices.Contains(router.EntryPoints, entryPoint) {
			t.Errorf("router %s serves no TLS at %s", name, entryPoint)
		}
		r := route{rule: router.Rule, to: c.custom(t, router.Middlewares, c.service(t, router.Service))}
		for _, part := range strings.Split(router.Rule, " && ") {
			switch m := traefikMatcher.FindStringSubmatch(part); {
			case m != nil && m[1] == "Host":
				r.matches = append(r.matches, func(q *http.Request) bool { return q.TLS.ServerName == m[2] })
			case m != nil && m[1] == "HeaderRegexp":
				value := regexp.MustCompile(m[3])
				r.matches = append(r.matches, func(q *http.Request) bool { return value.MatchString(q.Header.Get(m[2])) })
			default:
				t.Fatalf("router %s: no such matcher: %s", name, part)
			}
		}
		routes = append(routes, r)
	}
	slices.SortFunc(routes, func(a, b route) int { return len(b.rule) - len(a.rule) })
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		for _, r := range routes {
			if !slices.ContainsFunc(r.matches, func(match func(*http.Request) bool) bool { return !match(q) }) {
				r.to.ServeHTTP(w, q)
				return
			}
		}
		http.NotFound(w, q)
	})
}

// custom sets the headers of the middlewares, and removes those without a value.
// https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/headers/
func (c *traefikRouting) custom(t testing.TB, middlewares []string, to http.Handler) http.Handler {
	t.Helper()
	for _, name := range middlewares {
		if _, is := c.HTTP.Middlewares[name]; !is {
			t.Errorf("no such middleware: %s", name)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		for _, name := range middlewares {
			for header, value := range c.HTTP.Middlewares[name].Headers.CustomRequestHeaders {
				if q.Header.Del(header); value != "" {
					q.Header.Set(header, value)
				}
			}
		}
		to.ServeHTTP(w, q)
	})
}

// service is a reverse proxy to a service's server, which h2c:// asks to be spoken
// to by HTTP/2 without TLS.
func (c *traefikRouting) service(t testing.TB, name string) http.Handler {
	t.Helper()
	servers := c.HTTP.Services[name].LoadBalancer.Servers
	if len(servers) != 1 {
		t.Fatalf("service %s has %d servers, want one", name, len(servers))
	}
	target, err := url.Parse(servers[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(target.Scheme == "http")
	transport.Protocols.SetUnencryptedHTTP2(target.Scheme == "h2c")
	t.Cleanup(transport.CloseIdleConnections)
	target.Scheme = "http"
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
		r.Out.Header.Set("X-Real-Ip", r.Out.Header.Get("X-Forwarded-For"))
	}}
}
