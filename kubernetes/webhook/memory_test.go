package webhook_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

// podOf returns a pod with a list of empty objects, which the API server takes as they
// are, and with as many commas in a string.
func podOf(items int) string {
	list := strings.Repeat("{},", items) + "{}"
	return strings.NewReplacer(
		`"containers"`, `"tolerations":[`+list+`],"containers"`,
		`"labels"`, `"annotations":{"list":"\"`+list+`\\"},"labels"`,
	).Replace(orders)
}

func TestReviewWithTooManyParts(t *testing.T) {
	server := serve(t, nil)
	for items, row := range map[int]struct {
		status int
		want   string
	}{
		webhook.MaxParts - 100: {http.StatusOK, `"patch":`},
		webhook.MaxParts:       {http.StatusOK, fmt.Sprintf(`"uid":"1","allowed":false,"status":{"metadata":{},"status":"Failure","message":"the pod has more fields and list items than the limit of %d: make it smaller,`, webhook.MaxParts)},
		1 << 20:                {http.StatusRequestEntityTooLarge, "over the limit of 3407872 bytes"},
	} {
		status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(creation(podOf(items))))
		if status != row.status || !strings.Contains(answer, row.want) {
			t.Errorf("%d items: %d %.200s: want %d and %q", items, status, answer, row.status, row.want)
		}
	}
}

// TestLargeReviewOfSomethingElse is about no pod: a mistake in the webhook's rules must keep
// nothing out of the cluster.
func TestLargeReviewOfSomethingElse(t *testing.T) {
	server := serve(t, nil)
	review := strings.Replace(creation(podOf(webhook.MaxParts)), `"resource":"pods"`, `"resource":"configmaps"`, 1)
	status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(review))
	if status != http.StatusOK || !strings.Contains(answer, `"uid":"1","allowed":true`) {
		t.Errorf("%d %.200s", status, answer)
	}
}

// TestManyLargestReviews sends more at once than there is memory for. Each gets its
// answer.
func TestManyLargestReviews(t *testing.T) {
	server := serve(t, nil)
	review := creation(podOf(1000))
	review = strings.Replace(review, `"labels"`, `"finalizers":["`+strings.Repeat("x", webhook.MaxReviewBytes-len(review)-30)+`"],"labels"`, 1)
	var posting sync.WaitGroup
	for range 8 {
		posting.Go(func() {
			if status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(review)); status != http.StatusOK || !strings.Contains(answer, `"patch":`) {
				t.Errorf("%d %.200s", status, answer)
			}
		})
	}
	posting.Wait()
}

// TestNoReviewWithTooManyParts has no request to refuse.
func TestNoReviewWithTooManyParts(t *testing.T) {
	server := serve(t, nil)
	list := `"list":[` + strings.Repeat("0,", webhook.MaxParts) + `0]`
	for _, body := range []string{`{` + list + `}`, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{` + list + `}}`, `[` + list} {
		status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(body))
		if status != http.StatusBadRequest || !strings.Contains(answer, "the body isn't an AdmissionReview") {
			t.Errorf("%.100s: %d %s", body, status, answer)
		}
	}
}
