package certs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/rest"
)

// An api is a small API server with a Secret and a webhook's configuration. A write
// with an old resourceVersion conflicts. Requests reach it without a network, so that
// it works inside synctest.
type api struct {
	mu      sync.Mutex
	version int
	secret  *corev1.Secret // nil: there is none
	config  *admissionregistrationv1.MutatingWebhookConfiguration
	changed chan struct{} // closed and replaced with each change of the Secret
	refuse  string        // the method that is answered with 403
	behind  time.Duration // of its clock
}

func newAPI() *api {
	return &api{
		changed: make(chan struct{}),
		secret:  &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "culvert-system", Name: "culvert-injector-certs", ResourceVersion: "1"}},
		config: &admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "culvert-injector", ResourceVersion: "1"},
			Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "namespace.inject.culvert.dev"}, {Name: "pod.inject.culvert.dev"}},
		},
		version: 1,
	}
}

// client returns the configuration of a client.
func (a *api) client() *rest.Config {
	return &rest.Config{
		Host: "http://api", Transport: roundTripper{a, a.behind}, QPS: -1,
		ContentConfig: rest.ContentConfig{AcceptContentTypes: "application/json", ContentType: "application/json"},
	}
}

// A roundTripper calls a handler, and dates its answers.
type roundTripper struct {
	http.Handler
	behind time.Duration
}

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if !r.URL.Query().Has("watch") {
		w := httptest.NewRecorder()
		w.Header().Set("Date", time.Now().Add(-t.behind).UTC().Format(http.TimeFormat))
		t.ServeHTTP(w, r)
		return w.Result(), nil
	}
	in, out := io.Pipe()
	go func() { // it ends when the client closes the answer, or with the request
		t.ServeHTTP(&stream{out}, r)
		out.CloseWithError(io.ErrUnexpectedEOF)
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: in, Request: r}, nil
}

// A stream is the answer to a watch.
type stream struct{ *io.PipeWriter }

func (*stream) Header() http.Header { return http.Header{} }
func (*stream) WriteHeader(int)     {}

// update changes the objects as somebody else.
func (a *api) update(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	a.version++
	if a.secret != nil {
		a.secret.ResourceVersion = strconv.Itoa(a.version)
	}
	a.config.ResourceVersion = strconv.Itoa(a.version)
	close(a.changed)
	a.changed = make(chan struct{})
}

// bundles returns the caBundles.
func (a *api) bundles() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, w := range a.config.Webhooks {
		all = append(all, string(w.ClientConfig.CABundle))
	}
	return all
}

const (
	secrets = "/api/v1/namespaces/culvert-system/secrets"
	configs = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
)

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("watch") {
		a.watch(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body) // it comes from memory
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method == a.refuse {
		fail(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET " + secrets:
		list := corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(a.version)}}
		if a.secret != nil {
			list.Items = append(list.Items, *a.secret)
		}
		answer(w, list)
	case "POST " + secrets, "PUT " + secrets + "/culvert-injector-certs":
		a.write(w, body)
	case "GET " + secrets + "/culvert-injector-certs":
		if a.secret == nil {
			fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		answer(w, a.secret)
	case "GET " + configs + "/culvert-injector":
		if a.config == nil {
			fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		answer(w, a.config)
	case "PATCH " + configs + "/culvert-injector":
		a.patch(w, body)
	default:
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	}
}

func (a *api) write(w http.ResponseWriter, body []byte) {
	var s corev1.Secret
	if err := json.Unmarshal(body, &s); err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	if (a.secret == nil) != (s.ResourceVersion == "") || a.secret != nil && a.secret.ResourceVersion != s.ResourceVersion {
		fail(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	a.version++
	s.ResourceVersion = strconv.Itoa(a.version)
	a.secret = &s
	close(a.changed)
	a.changed = make(chan struct{})
	answer(w, s)
}

func (a *api) patch(w http.ResponseWriter, body []byte) {
	var p struct{ Metadata metav1.ObjectMeta }
	before, err := json.Marshal(a.config)
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	if err == nil && p.Metadata.ResourceVersion != a.config.ResourceVersion {
		fail(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	if err == nil {
		body, err = strategicpatch.StrategicMergePatch(before, body, a.config)
	}
	config := new(admissionregistrationv1.MutatingWebhookConfiguration)
	if err == nil {
		err = json.Unmarshal(body, config)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	a.version++
	config.ResourceVersion = strconv.Itoa(a.version)
	a.config = config
	answer(w, config)
}

// watch sends the Secret at each change. It ignores versions: a watcher gets the
// newest state, which is what it needs.
func (a *api) watch(w http.ResponseWriter, r *http.Request) {
	var sent string
	first := true
	for {
		a.mu.Lock()
		secret, changed, version := a.secret, a.changed, a.version
		a.mu.Unlock()
		var events []string
		switch {
		case secret != nil && secret.ResourceVersion != sent:
			kind := "MODIFIED"
			if sent == "" {
				kind = "ADDED"
			}
			sent = secret.ResourceVersion
			events = append(events, event(kind, secret))
		case secret == nil && sent != "":
			sent = ""
			events = append(events, event("DELETED", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "culvert-system", Name: "culvert-injector-certs", ResourceVersion: strconv.Itoa(version)}}))
		}
		if first && r.URL.Query().Get("sendInitialEvents") == "true" {
			events = append(events, event("BOOKMARK", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
				ResourceVersion: strconv.Itoa(version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
			}}))
		}
		first = false
		if _, err := io.WriteString(w, strings.Join(events, "")); err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func event(kind string, s *corev1.Secret) string {
	s = s.DeepCopy()
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"type":%q,"object":%s}`+"\n", kind, text)
}

func answer(w http.ResponseWriter, object any) {
	_ = json.NewEncoder(w).Encode(object) // it goes to memory
}

func fail(w http.ResponseWriter, code int32, reason metav1.StatusReason) {
	w.WriteHeader(int(code))
	answer(w, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: fmt.Sprintf("refused by the test with %d", code),
	})
}
