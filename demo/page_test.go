package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// The bundle carries the sum of what it was built from; web/build.mjs computes
// it in the same way.
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

func TestPageNamesNoOtherHost(t *testing.T) {
	for _, name := range []string{"index.html", "page.css"} {
		text, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile(`(https?:)?//[a-z][^ "'*)]*`).FindAll(text, -1); len(found) > 0 {
			t.Errorf("%s names %q", name, found)
		}
	}
}

// runStage runs use on a stage of its own, on free ports.
func runStage(t *testing.T, use func(context.Context, *stage)) {
	t.Helper()
	cfg := Config{NewBridge: newBridge, Listen: freePorts, Version: "test"}
	tell := BridgeConfig{CallEnded: func(Call) {}, Refused: func(Refusal) {}}
	err := withStage(t.Context(), cfg, tell, newServer(0), func(ctx context.Context, s *stage) error {
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
		defer c.close()
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

func TestNativeCallSucceedsDirectlyAndFailsThroughTheProxy(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.pageListener.Addr().String())
		defer c.close()
		call := func(via string) (r nativeResult) {
			_, text := ask(t, c.client, http.MethodPost, "http://"+c.address+"/demo/api/native?via="+via, http.NoBody, "Sec-Fetch-Site", "same-origin")
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatalf("via %s: %v in %q", via, err, text)
			}
			return r
		}
		if r := call("direct"); r.Code != codeName(codes.OK) || r.Tokens == 0 || r.ToolCalls != 1 || len(r.Seen) > 0 {
			t.Errorf("directly: got %+v, want OK with tokens and a tool call", r)
		}
		r := call("proxy")
		if r.Code != codeName(codes.Unavailable) || r.Message == "" || r.Address != s.proxyListener.Addr().String() {
			t.Errorf("through the proxy: got %+v, want UNAVAILABLE", r)
		}
		if want := "PRI * HTTP/2.0"; len(r.Seen) == 0 || !strings.HasPrefix(r.Seen[0], want) {
			t.Errorf("the proxy saw %q, want %q", r.Seen, want)
		}
	})
}

func TestOtherPagesCantMakeTheDemoCall(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.pageListener.Addr().String())
		defer c.close()
		for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}} {
			res, _ := ask(t, c.client, http.MethodPost, "http://"+c.address+"/demo/api/native", http.NoBody, header...)
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("%v: got %s, want 403", header, res.Status)
			}
		}
	})
}
