package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// The paths of reviews. A review doesn't have the labels of the pod's namespace. The
// API server knows them: it selects one of two webhooks by them, and each has a path.
const (
	// NamespacePath is for pods of namespaces with the label culvert.dev/inject:
	// enabled.
	NamespacePath = "/inject/namespace"
	// PodPath is for pods of the other namespaces that have the label themselves.
	PodPath = "/inject/pod"
)

// MaxReviewBytes is the limit on the body of a review. The API server accepts
// objects up to 3 MiB. The rest is for the fields around the object.
const MaxReviewBytes = 3<<20 + 256<<10

type handler struct {
	config  *inject.Config
	log     *slog.Logger
	metrics *metrics

	requests requests
	memory   memory
}

func newHandler(c *inject.Config, log *slog.Logger, m *metrics) *handler {
	return &handler{config: c, log: log, metrics: m, requests: requests{of: map[string]int{}}, memory: newMemory()}
}

func (h *handler) paths() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+NamespacePath, h.reviews(map[string]string{inject.Label: inject.Enabled}))
	mux.Handle("POST "+PodPath, h.reviews(nil))
	return mux
}

// reviews returns the handler of the path for pods of namespaces with the labels.
func (h *handler) reviews(labels map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		body, result, err := h.review(w, r, labels)
		h.metrics.review(result, time.Since(began))
		if err != nil {
			h.log.Warn("a request was no review", slog.String("peer", r.RemoteAddr), slog.String("path", r.URL.Path), slog.Any("error", err))
			http.Error(w, err.Error(), statusOf(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) //nolint:gosec // JSON for an API server. One that has gone needs no answer
	}
}

// An httpError has the HTTP status for a request that isn't a review.
type httpError struct {
	error
	status int
}

func (e *httpError) Unwrap() error { return e.error }

func statusOf(err error) int {
	if e, ok := errors.AsType[*httpError](err); ok {
		return e.status
	}
	return http.StatusBadRequest
}

// verdictOf returns the verdict on a request that was no review in time.
func verdictOf(err error) verdict {
	if statusOf(err) == http.StatusServiceUnavailable {
		return busy
	}
	return malformed
}

func (h *handler) review(w http.ResponseWriter, r *http.Request, labels map[string]string) ([]byte, verdict, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, malformed, &httpError{errors.New("the Content-Type isn't application/json"), http.StatusUnsupportedMediaType}
	}
	end, ok := h.requests.begin(r.RemoteAddr)
	if !ok {
		return nil, busy, errTooMany
	}
	defer end()
	body, releaseBody, err := h.memory.body(w, r)
	if err != nil {
		return nil, verdictOf(err), err
	}
	defer releaseBody()
	response, result, err := h.decide(r.Context(), body, labels)
	if err != nil {
		return nil, verdictOf(err), err
	}
	answer, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	})
	return answer, result, err
}

// decide answers the review in a body.
func (h *handler) decide(ctx context.Context, body []byte, labels map[string]string) (*admissionv1.AdmissionResponse, verdict, error) {
	release, err := h.memory.pod(ctx, body)
	if errors.Is(err, errTooManyParts) {
		return h.answerUnread(body, err)
	}
	if err != nil {
		return nil, "", err
	}
	defer release()
	return h.answer(body, labels)
}
