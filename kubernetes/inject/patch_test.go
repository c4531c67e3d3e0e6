package inject_test

import (
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	kjson "sigs.k8s.io/json"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// FuzzPatch checks, for any pod in JSON, that the patch makes the pod that Pod
// returns, that a second time changes nothing, and that removal gives the pod back.
func FuzzPatch(f *testing.F) {
	for _, pod := range []string{
		`{"metadata":{"labels":{"culvert.dev/inject":"enabled"}},"spec":{"containers":[{"name":"a","ports":[{"name":"grpc","containerPort":9000}]}]}}`,
		`{"metadata":{"labels":{"culvert.dev/inject":"enabled"},"annotations":{"culvert.dev/backend-port":"1","culvert.dev/config":"c","culvert.dev/limits.calls":"7"}},"spec":{"terminationGracePeriodSeconds":3,"initContainers":[{"name":"i"}],"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"a","lifecycle":{"preStop":{"sleep":{"seconds":40}}}}]}}`,
		`{"metadata":{"labels":{"culvert.dev/inject":"enabled"},"annotations":{"culvert.dev/tls-secret":"s","culvert.dev/image":"x:1","culvert.dev/args":"[\"--log-level\",\"debug\"]","culvert.dev/mounts":"[]","culvert.dev/security-context":"{}","culvert.dev/backend-host":"10.0.0.1"}},"spec":{"containers":[{"name":"a","ports":[{"name":"grpc-a","containerPort":9000}]}]}}`,
		`{"metadata":{"annotations":{}},"spec":{"initContainers":null,"volumes":[]}}`,
		`{"metadata":{"annotations":{"a":"b"}},"spec":{"initContainers":[{"name":"culvert","restartPolicy":"Always","ports":[{"name":"culvert","containerPort":1}],"env":[{"name":"CULVERT_DRAIN_TIMEOUT","value":"1m"}]}],"containers":[{"name":"a"}]}}`,
		`{"metadata":{"annotations":{"culvert.dev/grace-period-was":"5"}},"spec":{"terminationGracePeriodSeconds":60,"containers":[{"name":"a","ports":[{"name":"grpc","containerPort":9000}]}]}}`,
		`{"metadata":{},"spec":{"initContainers":[{"name":"culvert","ports":[{"name":"culvert"}]}],"containers":[{"name":"a","ports":[{"name":"grpc","containerPort":9000}]}]}}`,
		`{"metadata":{"labels":{"culvert.dev/inject":"enabled"}},"spec":{"resources":{"requests":{"memory":"4Gi"},"limits":{"cpu":"1"}},"initContainers":[{"name":"i","resources":{"requests":{"memory":"1.5Gi"}}}],"containers":[{"name":"a","resources":{"limits":{"cpu":"950m"}},"ports":[{"name":"grpc","containerPort":9000}]}]}}`,
		`{"metadata":{},"spec":{"initContainers":[{"name":"i"},{"name":"culvert","restartPolicy":"Always","ports":[{"name":"culvert","containerPort":1}],"env":[{"name":"CULVERT_DRAIN_TIMEOUT","value":"1m"}],"resources":{"limits":{"cpu":"50m","example.com/x":"-1"},"requests":{"cpu":"100m","example.com/x":"0"}}}],"containers":[{"name":"a"}]}}`,
		`[]`,
	} {
		f.Add([]byte(pod))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := testConfig()
		c.Allow = []inject.Allowance{{Namespaces: []string{"*"}, Annotations: []string{"args", "backend-host", "image", "mounts", "security-context", "tls-secret"}}}
		ns := inject.Namespace{Name: "shop", Labels: map[string]string{inject.Label: inject.Enabled}}
		var pod corev1.Pod
		if kjson.UnmarshalCaseSensitivePreserveInts(raw, &pod) != nil { // as the webhook reads it
			return
		}
		ops, result, err := inject.Operations(&pod, ns, c)
		want, podErr := inject.Pod(&pod, ns, c)
		if (err == nil) != (podErr == nil) {
			t.Fatalf("Operations: %v, Pod: %v", err, podErr)
		}
		if err != nil || ops == nil {
			if err == nil && (result.Action == inject.Injected || !equality.Semantic.DeepEqual(&pod, want.Pod)) {
				t.Errorf("%s: no patch", result.Action)
			}
			return
		}
		if result.Action == inject.Skipped {
			t.Errorf("%s: a patch %v", result.Action, ops)
		}
		patch, err := json.Marshal(ops)
		if err != nil {
			t.Fatal(err)
		}
		var whole map[string]json.RawMessage
		if json.Unmarshal(raw, &whole) != nil || whole["metadata"] == nil || whole["spec"] == nil {
			return // the API server sends both in lower case
		}
		steps, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			t.Fatal(err)
		}
		patched, err := steps.Apply(raw)
		if err != nil {
			t.Fatalf("%v: %s", err, patch)
		}
		var got corev1.Pod
		if err := kjson.UnmarshalCaseSensitivePreserveInts(patched, &got); err != nil || !equality.Semantic.DeepEqual(&got, want.Pod) {
			t.Errorf("the patch makes (%v)\n%+v\nwant\n%+v", err, got, want.Pod)
		}
		again, err := inject.Pod(want.Pod, ns, c)
		if err != nil || again.Action != inject.AlreadyInjected || !equality.Semantic.DeepEqual(again.Pod, want.Pod) {
			t.Errorf("a second time: %s, %v", again.Action, err)
		}
		if clean, _ := inject.Remove(want.Pod); result.Action == inject.Injected && !equality.Semantic.DeepEqual(clean, &pod) {
			t.Errorf("removal makes\n%+v\nwant\n%+v", clean, pod)
		}
	})
}
