package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// The bundle contains the sum of its sources. web/build.mjs computes it in the
// same way.
func TestBundleIsBuiltFromItsSources(t *testing.T) {
	paths := []string{"build.mjs", "package-lock.json", "package.json", "tsconfig.json"}
	err := filepath.WalkDir(filepath.Join("web", "src"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, relErr := filepath.Rel("web", path)
			paths, err = append(paths, filepath.ToSlash(rel)), relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	sum := sha256.New()
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join("web", filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
		fmt.Fprintf(sum, "%s %d\n", path, len(text))
		sum.Write(text)
	}
	bundle, err := pageFiles.ReadFile("page/page.js")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("// sources %x", sum.Sum(nil)); !strings.Contains(string(bundle[:200]), want) {
		t.Errorf("page/page.js begins with %q, want %q: run npm ci and npm run build in demo/web", bundle[:200], want)
	}
}

// The page loads nothing from elsewhere. Its links lead to files of this
// repository, and its command names the reader's own page.
func TestPageNamesNoOtherHost(t *testing.T) {
	links := regexp.MustCompile(`<a href="https://github\.com/culvert-grpc/culvert(?:/(?:blob|tree)/main/([^"#]+))?(?:#[^"]*)?"`)
	command := regexp.MustCompile(`<code data-testid="serve-command">[^<]*</code>`)
	for _, name := range []string{"index.html", "page.css"} {
		text, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links.FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(string(link[1])))); err != nil {
				t.Errorf("%s links to %s, which isn't in the repository: %v", name, link[1], err)
			}
		}
		text = command.ReplaceAll(links.ReplaceAll(text, nil), nil)
		if found := regexp.MustCompile(`(https?:)?//[a-z][^ "'*)]*`).FindAll(text, -1); len(found) > 0 {
			t.Errorf("%s names %q", name, found)
		}
	}
}

// runStage runs use on a new stage, on free ports.
func runStage(t *testing.T, use func(context.Context, *stage)) {
	t.Helper()
	runStageOn(t, freePorts, newServer(0), use)
}

func runStageOn(t *testing.T, listen string, backend *grpc.Server, use func(context.Context, *stage)) {
	t.Helper()
	cfg := Config{NewBridge: newBridge, Listen: listen, Version: "test"}
	tell := BridgeConfig{CallEnded: func(Call) {}, Refused: func(Refusal) {}}
	err := withStage(t.Context(), cfg, tell, backend, func(ctx context.Context, s *stage) error {
		use(ctx, s)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// ask makes a request and returns the answer with its body.
func ask(t *testing.T, client *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func TestPageIsServedWhole(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.pageListener.Addr().String())
		defer c.client.CloseIdleConnections()
		index, err := pageFiles.ReadFile("page/index.html")
		if err != nil {
			t.Fatal(err)
		}
		res, got := ask(t, c.client, http.MethodGet, "http://"+c.address+"/", http.NoBody)
		if got != string(index) || !strings.HasPrefix(res.Header.Get("Content-Security-Policy"), "default-src 'none'; ") {
			t.Errorf("/ gives %d bytes with %v, want page/index.html with a policy", len(got), res.Header)
		}
		for name, contentType := range map[string]string{
			"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8",
			"icon.svg": "image/svg+xml", "licenses.txt": "text/plain; charset=utf-8", "demo/api/info": "application/json",
		} {
			res, _ := ask(t, c.client, http.MethodGet, "http://"+c.address+"/"+name, http.NoBody)
			if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != contentType {
				t.Errorf("/%s gives %s, %s, want 200, %s", name, res.Status, got, contentType)
			}
		}
	})
}

// The page's two lanes: only native gRPC without culvert fails, and only with
// the proxy in the path.
func TestNativeClientsLanes(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.pageListener.Addr().String())
		defer c.client.CloseIdleConnections()
		for _, want := range []struct {
			lane     lane
			via      string
			address  net.Listener
			codes    []codes.Code
			messages []int
			answered bool
			seen     string
		}{
			{laneDirect, "direct", s.backendListener, []codes.Code{codes.OK, codes.OK, codes.InvalidArgument}, []int{31, 13, 0}, true, ""},
			{laneDirect, "proxy", s.backendProxyListener, []codes.Code{codes.Unavailable, codes.Unavailable, codes.Unavailable}, []int{0, 0, 0}, false, "PRI * HTTP/2.0: not HTTP/1.1, refused"},
			{laneCulvert, "direct", s.pageListener, []codes.Code{codes.OK, codes.OK, codes.InvalidArgument}, []int{31, 13, 0}, true, ""},
			{laneCulvert, "proxy", s.proxyListener, []codes.Code{codes.OK, codes.OK, codes.InvalidArgument}, []int{31, 13, 0}, true, "GET / HTTP/1.1 with Upgrade: websocket: forwarded"},
		} {
			t.Run(string(want.lane)+" via "+want.via, func(t *testing.T) {
				url := fmt.Sprintf("http://%s/demo/api/native?lane=%s&via=%s", c.address, want.lane, want.via)
				_, text := ask(t, c.client, http.MethodPost, url, http.NoBody, "Sec-Fetch-Site", "same-origin")
				var r nativeResult
				if err := json.Unmarshal([]byte(text), &r); err != nil {
					t.Fatalf("%v in %q", err, text)
				}
				if r.Address != want.address.Addr().String() || len(r.Calls) != len(want.codes) {
					t.Fatalf("got %+v, want %d calls to %s", r, len(want.codes), want.address.Addr())
				}
				for i, call := range r.Calls {
					if call.Code != codeName(want.codes[i]) || call.Messages != want.messages[i] || call.Answered != want.answered || (call.Message == "") != (call.Code == "OK") {
						t.Errorf("got %+v, want %v, %d messages, answered %v", call, want.codes[i], want.messages[i], want.answered)
					}
				}
				if want.seen == "" && len(r.Seen) > 0 || want.seen != "" && !slices.Contains(r.Seen, want.seen) {
					t.Errorf("the proxy saw %q, want %q", r.Seen, want.seen)
				}
			})
		}
	})
}

// A call without the proxy reports nothing from the proxy, even if the proxy has
// seen another client with the same address.
func TestCallsWithoutTheProxyReportNothingFromIt(t *testing.T) {
	var proxy atomic.Pointer[inspector]
	var noted atomic.Int64
	backend := grpc.NewServer(grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		if p, ok := peer.FromContext(stream.Context()); ok {
			proxy.Load().note(p.Addr.String(), "PRI * HTTP/2.0: not HTTP/1.1, refused")
			noted.Add(1)
		}
		return handle(srv, stream)
	}))
	demopb.RegisterDemoServer(backend, &service{})
	runStageOn(t, freePorts, backend, func(ctx context.Context, s *stage) {
		proxy.Store(s.backendInspector)
		r, err := s.callNative(ctx, laneDirect, false)
		if err != nil {
			t.Fatal(err)
		}
		if noted.Load() == 0 || len(r.Seen) > 0 {
			t.Errorf("got %q of %d sightings, want none of at least one", r.Seen, noted.Load())
		}
	})
}

func TestUnknownLaneIsRefused(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.pageListener.Addr().String())
		defer c.client.CloseIdleConnections()
		res, text := ask(t, c.client, http.MethodPost, "http://"+c.address+"/demo/api/native?lane=side", http.NoBody, "Sec-Fetch-Site", "same-origin")
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(text, "lane") {
			t.Errorf("got %s, %q, want 400 that names the parameter", res.Status, text)
		}
	})
}

func TestOtherPagesCantMakeTheDemoCall(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.pageListener.Addr().String())
		defer c.client.CloseIdleConnections()
		for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}} {
			res, _ := ask(t, c.client, http.MethodPost, "http://"+c.address+"/demo/api/native", http.NoBody, header...)
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("%v: got %s, want 403", header, res.Status)
			}
		}
	})
}
