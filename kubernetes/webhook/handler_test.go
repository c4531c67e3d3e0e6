package webhook_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

var update = flag.Bool("update", false, "write the golden answers")

// TestReviews sends the requests in testdata over HTTPS, and compares the answers.
// The first part of a file's name is the path.
func TestReviews(t *testing.T) {
	server := serve(t, nil)
	requests, err := filepath.Glob("testdata/*.request.json")
	if err != nil || len(requests) == 0 {
		t.Fatal("no requests", err)
	}
	for _, name := range requests {
		t.Run(filepath.Base(name), func(t *testing.T) {
			path := webhook.PodPath
			if strings.HasPrefix(filepath.Base(name), "namespace-") {
				path = webhook.NamespacePath
			}
			status, answer := server.post(t, path, "application/json; charset=utf-8", bytes.NewReader(readFile(t, name)))
			if status != http.StatusOK {
				t.Fatalf("%d: %s", status, answer)
			}
			got := readable(t, answer)
			golden := strings.Replace(name, ".request.", ".response.", 1)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, golden); !bytes.Equal(got, want) {
				t.Errorf("the answer is\n%s\nwant\n%s", got, want)
			}
		})
	}
	if log := server.log.String(); strings.Contains(log, "hunter2") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}

// readable indents an answer, with the patch decoded.
func readable(t *testing.T, answer string) []byte {
	t.Helper()
	var review struct {
		admissionv1.AdmissionReview
		Patch json.RawMessage `json:"patch,omitempty"`
	}
	if err := json.Unmarshal([]byte(answer), &review.AdmissionReview); err != nil {
		t.Fatal(err)
	}
	review.Patch, review.Response.Patch = review.Response.Patch, nil
	text, err := json.MarshalIndent(review, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func TestNoReviews(t *testing.T) {
	server := serve(t, nil)
	const json = "application/json"
	for name, row := range map[string]struct {
		contentType, body string
		status            int
		want              string
	}{
		"no JSON":              {json, "pod", http.StatusBadRequest, "the body isn't an AdmissionReview"},
		"nothing":              {json, "", http.StatusBadRequest, "the body isn't an AdmissionReview"},
		"another kind":         {json, `{"apiVersion":"v1","kind":"Pod"}`, http.StatusBadRequest, "the body isn't an AdmissionReview"},
		"an older version":     {json, `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}`, http.StatusBadRequest, "of admission.k8s.io/v1"},
		"no request":           {json, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, http.StatusBadRequest, "with a request"},
		"no uid":               {json, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}`, http.StatusBadRequest, "with a request"},
		"a pod that isn't one": {json, creation(`{"spec":[]}`), http.StatusBadRequest, "the object of the review isn't a pod"},
		"no pod":               {json, strings.Replace(creation(`{}`), `"object":{},`, "", 1), http.StatusBadRequest, "the object of the review isn't a pod"},
		"YAML":                 {"application/yaml", creation(`{}`), http.StatusUnsupportedMediaType, "isn't application/json"},
		"no type":              {"", creation(`{}`), http.StatusUnsupportedMediaType, "isn't application/json"},
		"too much":             {json, strings.Repeat(" ", webhook.MaxReviewBytes+1), http.StatusRequestEntityTooLarge, "over the limit of 3407872 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := server.post(t, webhook.PodPath, row.contentType, strings.NewReader(row.body))
			if status != row.status || !strings.Contains(answer, row.want) {
				t.Errorf("%d %q, want %d and %q", status, answer, row.status, row.want)
			}
		})
	}
	if status, _ := server.post(t, "/", json, strings.NewReader("{}")); status != http.StatusNotFound {
		t.Errorf("another path: %d", status)
	}
	response, err := server.client.Get("https://" + server.Addr().String() + webhook.PodPath)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, response)
	if got, want := response.Header.Get("Allow"), "POST"; response.StatusCode != http.StatusMethodNotAllowed || got != want {
		t.Errorf("GET: %d, Allow %q", response.StatusCode, got)
	}
}

// creation is the review of a new pod.
func creation(pod string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","namespace":"shop",`+
		`"kind":{"group":"","version":"v1","kind":"Pod"},"object":%s,"resource":{"group":"","version":"v1","resource":"pods"}}}`, pod)
}

// orders is a pod that asks for culvert.
const orders = `{"metadata":{"generateName":"orders-","labels":{"culvert.dev/inject":"enabled"}},` +
	`"spec":{"containers":[{"name":"orders","image":"orders:1","ports":[{"name":"grpc","containerPort":9000}]}]}}`

// TestLargestReview is a pod as large as the API server takes.
func TestLargestReview(t *testing.T) {
	server := serve(t, nil)
	pod := strings.Replace(orders, `"labels"`, `"annotations":{"big":"`+strings.Repeat("x", 3<<20-len(orders)-30)+`"},"labels"`, 1)
	status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(creation(pod)))
	if status != http.StatusOK || !strings.Contains(answer, `"patch":`) {
		t.Errorf("%d %.200s", status, answer)
	}
}

// handler returns the handler without a server.
func handler() http.Handler {
	return webhook.NewHandler(testConfig(), slog.New(slog.DiscardHandler))
}

func answerOf(h http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// FuzzReview checks that each body gets either an HTTP error or an answer with the
// request's uid, which allows, patches or refuses with a reason.
func FuzzReview(f *testing.F) {
	for _, pod := range []string{orders, `{}`, `[]`, `{"metadata":{"labels":{"culvert.dev/inject":"yes"}}}`} {
		f.Add([]byte(creation(pod)), true)
		f.Add([]byte(strings.Replace(creation(pod), "CREATE", "DELETE", 1)), false)
	}
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), false)
	h := handler()
	f.Fuzz(func(t *testing.T, body []byte, inNamespace bool) {
		path := webhook.PodPath
		if inNamespace {
			path = webhook.NamespacePath
		}
		w := answerOf(h, path, body)
		if w.Code != http.StatusOK {
			if w.Code < 400 || w.Code > 499 || w.Body.Len() == 0 {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			return
		}
		var in, out admissionv1.AdmissionReview
		if err := json.Unmarshal(body, &in); err != nil {
			t.Fatalf("not JSON, and answered with %d: %v", w.Code, err)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		r := out.Response
		switch {
		case r == nil || in.Request == nil || r.UID != in.Request.UID:
			t.Errorf("the answer is for another request: %s", w.Body)
		case !r.Allowed && (r.Patch != nil || r.Result == nil || r.Result.Code != http.StatusForbidden || r.Result.Message == ""):
			t.Errorf("a refusal without a reason: %s", w.Body)
		case (r.Patch == nil) != (r.PatchType == nil):
			t.Errorf("a patch without a type: %s", w.Body)
		}
	})
}

func BenchmarkReview(b *testing.B) {
	h, body := handler(), []byte(creation(orders))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if w := answerOf(h, webhook.PodPath, body); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// largePod returns a pod of 200 KiB: containers with variables, mounts and probes, and
// annotations, as generators write them.
func largePod() string {
	var containers []string
	for i := range 20 {
		var env, mounts []string
		for j := range 60 {
			env = append(env, fmt.Sprintf(`{"name":"SETTING_%d_%d","valueFrom":{"configMapKeyRef":{"name":"orders-settings-%d","key":"setting-%d"}}}`, i, j, i, j))
			mounts = append(mounts, fmt.Sprintf(`{"name":"volume-%d","mountPath":"/var/lib/orders/%d"}`, j, j))
		}
		ports := ""
		if i == 0 {
			ports = `"ports":[{"name":"grpc","containerPort":9000}],`
		}
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":"registry.example.com/orders:%d",%s"env":[%s],"volumeMounts":[%s],
			"resources":{"requests":{"cpu":"100m","memory":"64Mi"}}}`, i, i, ports, strings.Join(env, ","), strings.Join(mounts, ",")))
	}
	return `{"metadata":{"name":"orders","labels":{"culvert.dev/inject":"enabled"}},"spec":{"containers":[` + strings.Join(containers, ",") + `]}}`
}

// BenchmarkLargeReview measures a review of 200 KiB.
func BenchmarkLargeReview(b *testing.B) {
	h, body := handler(), []byte(creation(largePod()))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if w := answerOf(h, webhook.PodPath, body); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "JSONPatch") {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkRequest measures a request over HTTPS from several clients at once.
func BenchmarkRequest(b *testing.B) {
	server := serve(b, func(o *webhook.Options, _ *tlsConfig) { o.Log = slog.New(slog.DiscardHandler) })
	body := creation(orders)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			response, err := server.client.Post("https://"+server.Addr().String()+webhook.PodPath, "application/json", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body) // the status tells
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				b.Error(response.Status)
				return
			}
		}
	})
}
