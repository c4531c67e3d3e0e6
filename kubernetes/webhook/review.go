package webhook

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// A verdict is the result of a review, as log and metrics have it.
type verdict string

// The verdicts. Those of inject are [inject.Action].
const (
	refused    verdict = "refused"    // the pod asks for culvert and can't have it
	irrelevant verdict = "irrelevant" // not the creation of a pod
	malformed  verdict = "malformed"  // not a review, or too large; it gets an HTTP error
	busy       verdict = "busy"       // there were too many, or it ended before there was memory for it
)

var (
	errNoReview = errors.New("the body isn't an AdmissionReview of admission.k8s.io/v1 with a request")
	errNoPod    = errors.New("the object of the review isn't a pod")
)

// A review is an AdmissionReview without the fields that don't matter here. O is the form of
// the object.
type review[O any] struct {
	metav1.TypeMeta `json:",inline"`

	Request *request[O] `json:"request"`
}

type request[O any] struct {
	UID         types.UID                   `json:"uid"`
	Name        string                      `json:"name"`
	Namespace   string                      `json:"namespace"`
	Operation   admissionv1.Operation       `json:"operation"`
	Resource    metav1.GroupVersionResource `json:"resource"`
	SubResource string                      `json:"subResource"`
	DryRun      bool                        `json:"dryRun"`
	Object      *O                          `json:"object"`
}

// unread is an object whose fields nobody looks at.
type unread struct{}

// UnmarshalJSON accepts every object.
func (*unread) UnmarshalJSON([]byte) error { return nil }

// readReview returns the request of a review in JSON. The object is read with the rest: to
// cut it out and to read it by itself would go through its text twice more.
func readReview[O any](body []byte) (*request[O], error) {
	var r review[O]
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &r); err != nil { // as the API server reads it
		return nil, err
	}
	if r.APIVersion != admissionv1.SchemeGroupVersion.String() || r.Kind != "AdmissionReview" || r.Request == nil || r.Request.UID == "" {
		return nil, errNoReview
	}
	return r.Request, nil
}

// noReview returns the error for a body that readReview can't read.
func noReview(err error) error {
	if errors.Is(err, errNoReview) {
		return err
	}
	return fmt.Errorf("%w: %w", errNoReview, err)
}

// answerUnread answers a review for which there is no memory. It refuses a new pod and
// allows anything else. It reads only the fields that tell.
func (h *handler) answerUnread(body []byte, reason error) (*admissionv1.AdmissionResponse, verdict, error) {
	r, err := readReview[unread](body)
	if err != nil {
		return nil, "", noReview(err)
	}
	if !r.isNewPod() {
		return &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true}, irrelevant, nil
	}
	h.log.Info("a pod was refused", slog.String("namespace", r.Namespace), slog.String("uid", string(r.UID)), slog.String("reason", reason.Error()))
	return refusal(r.UID, reason), refused, nil
}

// isNewPod reports whether a request is about the creation of a pod. The rules of the
// webhook's configuration send nothing else. A mistake in them must not keep other objects
// out of the cluster.
func (r *request[O]) isNewPod() bool {
	return r.Operation == admissionv1.Create && r.Resource == pods && r.SubResource == ""
}

// refusal returns the answer that refuses a pod.
//
// It isn't 422: kubectl and GitOps tools take that for a fault in a field of the object
// that they sent, and some then delete and create the object again.
func refusal(uid types.UID, reason error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{UID: uid, Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: reason.Error(),
	}}
}

// answer decides about a review. The labels are those of the pod's namespace, as
// far as the path of the request tells them. An error is about a body that isn't a review, or
// an object that isn't a pod.
//
// An answer has no side effects, so a dry run gets the same one.
func (h *handler) answer(body []byte, labels map[string]string) (*admissionv1.AdmissionResponse, verdict, error) {
	r, err := readReview[corev1.Pod](body)
	if err != nil {
		// Only the object of a new pod has to be one.
		other, headErr := readReview[unread](body)
		switch {
		case headErr != nil:
			return nil, "", noReview(headErr)
		case other.isNewPod():
			return nil, malformed, fmt.Errorf("%w: %w", errNoPod, err)
		}
		return &admissionv1.AdmissionResponse{UID: other.UID, Allowed: true}, irrelevant, nil
	}
	response := &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true}
	if !r.isNewPod() {
		return response, irrelevant, nil
	}
	pod := r.Object
	if pod == nil {
		return nil, malformed, errNoPod
	}
	ops, result, err := inject.Operations(pod, inject.Namespace{Name: r.Namespace, Labels: labels}, h.config)
	facts := []any{
		slog.String("namespace", r.Namespace),
		slog.String("pod", cmp.Or(r.Name, pod.Name, pod.GenerateName+"*")), // a controller's pod has no name yet
		slog.String("uid", string(r.UID)),
		slog.Bool("dry_run", r.DryRun),
	}
	if err != nil {
		h.log.Info("a pod was refused", append(facts, slog.String("reason", err.Error()))...)
		return refusal(r.UID, err), refused, nil
	}
	response.Warnings = result.Warnings
	if len(result.Warnings) > 0 {
		facts = append(facts, slog.Any("warnings", result.Warnings))
	}
	if len(ops) > 0 {
		if response.Patch, err = json.Marshal(ops); err != nil {
			return nil, malformed, err
		}
		response.PatchType = new(admissionv1.PatchTypeJSONPatch)
	}
	h.log.Info("a pod was reviewed", append(facts, slog.String("action", string(result.Action)), slog.String("reason", result.Reason))...)
	return response, verdict(result.Action), nil
}

var pods = metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
