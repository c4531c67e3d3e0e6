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

var errNoReview = errors.New("the body isn't an AdmissionReview of admission.k8s.io/v1 with a request")

// readReview returns the request of a review in JSON.
func readReview(body []byte) (*admissionv1.AdmissionRequest, error) {
	var review admissionv1.AdmissionReview
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &review); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoReview, err)
	}
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview" ||
		review.Request == nil || review.Request.UID == "" {
		return nil, errNoReview
	}
	return review.Request, nil
}

// A reviewHead has the fields of a review that say which pod it is about.
type reviewHead struct {
	metav1.TypeMeta `json:",inline"`

	Request *struct {
		UID         types.UID                   `json:"uid"`
		Namespace   string                      `json:"namespace"`
		Operation   admissionv1.Operation       `json:"operation"`
		Resource    metav1.GroupVersionResource `json:"resource"`
		SubResource string                      `json:"subResource"`
	} `json:"request"`
}

// answerUnread answers a review for which there is no memory. It refuses a new pod and
// allows anything else. It reads only the fields that tell.
func (h *handler) answerUnread(body []byte, reason error) (*admissionv1.AdmissionResponse, verdict, error) {
	var review reviewHead
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &review); err != nil {
		return nil, "", fmt.Errorf("%w: %w", errNoReview, err)
	}
	r := review.Request
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview" || r == nil || r.UID == "" {
		return nil, "", errNoReview
	}
	if !newPod(r.Operation, r.Resource, r.SubResource) {
		return &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true}, irrelevant, nil
	}
	h.log.Info("a pod was refused", slog.String("namespace", r.Namespace), slog.String("uid", string(r.UID)), slog.String("reason", reason.Error()))
	return refusal(r.UID, reason), refused, nil
}

// newPod reports whether a request is about the creation of a pod. The rules of the
// webhook's configuration send nothing else. A mistake in them must not keep other objects
// out of the cluster.
func newPod(operation admissionv1.Operation, resource metav1.GroupVersionResource, subResource string) bool {
	return operation == admissionv1.Create && resource == pods && subResource == ""
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

// answer decides about a request. The labels are those of the pod's namespace, as
// far as the path of the request tells them. An error is about an object that isn't
// a pod.
//
// An answer has no side effects, so a dry run gets the same one.
func (h *handler) answer(r *admissionv1.AdmissionRequest, labels map[string]string) (*admissionv1.AdmissionResponse, verdict, error) {
	response := &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true}
	if !newPod(r.Operation, r.Resource, r.SubResource) {
		return response, irrelevant, nil
	}
	var pod corev1.Pod
	if err := kjson.UnmarshalCaseSensitivePreserveInts(r.Object.Raw, &pod); err != nil { // as the API server reads it
		return nil, malformed, fmt.Errorf("the object of the review isn't a pod: %w", err)
	}
	ops, result, err := inject.Operations(&pod, inject.Namespace{Name: r.Namespace, Labels: labels}, h.config)
	facts := []any{
		slog.String("namespace", r.Namespace),
		slog.String("pod", cmp.Or(r.Name, pod.Name, pod.GenerateName+"*")), // a controller's pod has no name yet
		slog.String("uid", string(r.UID)),
		slog.Bool("dry_run", r.DryRun != nil && *r.DryRun),
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

// writeReview returns the answer in JSON.
func writeReview(response *admissionv1.AdmissionResponse) ([]byte, error) {
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	})
}
