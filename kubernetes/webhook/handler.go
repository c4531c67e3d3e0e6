package webhook

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

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

// A handler answers the requests of the API server.
type handler struct {
	config  *inject.Config
	log     *slog.Logger
	metrics *metrics
}

// NewHandler returns the handler of both paths. It counts in no metrics.
func NewHandler(c *inject.Config, log *slog.Logger) http.Handler {
	return (&handler{config: c, log: log, metrics: newMetrics("", nil)}).paths()
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
		_, _ = w.Write(body) // an API server that has gone needs no answer
	}
}

// An httpError has the HTTP status for a request that isn't a review.
type httpError struct {
	error
	status int
}

func (e *httpError) Unwrap() error { return e.error }

// statusOf returns the HTTP status for an error.
func statusOf(err error) int {
	var e *httpError
	if errors.As(err, &e) {
		return e.status
	}
	return http.StatusBadRequest
}

func (h *handler) review(w http.ResponseWriter, r *http.Request, labels map[string]string) ([]byte, verdict, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, malformed, &httpError{errors.New("the Content-Type isn't application/json"), http.StatusUnsupportedMediaType}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxReviewBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, malformed, &httpError{fmt.Errorf("the review is over the limit of %d bytes", MaxReviewBytes), http.StatusRequestEntityTooLarge}
	case err != nil:
		return nil, malformed, &httpError{fmt.Errorf("the review didn't arrive: %w", err), http.StatusRequestTimeout}
	}
	request, err := readReview(body)
	if err != nil {
		return nil, malformed, err
	}
	response, result, err := h.answer(request, labels)
	if err != nil {
		return nil, malformed, err
	}
	body, err = writeReview(response)
	return body, result, err
}
