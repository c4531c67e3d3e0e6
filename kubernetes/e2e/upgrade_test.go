package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestInstalledInjector has the injector of install.yaml, with two replicas and the
// failure policy Fail. While pods are created it is upgraded, and then its certificates
// are rotated. check expects one injector in a cluster, so no other parallel test has a
// Deployment of one.
func TestInstalledInjector(t *testing.T) {
	t.Parallel()
	in := install(t)
	t.Run("an upgrade refuses no pod", func(t *testing.T) { upgrade(t, in) })
	t.Run("a rotation refuses no pod", func(t *testing.T) { rotate(t, in) })
}

// upgrade replaces culvert-kube by its next version. The API server often opens new
// connections, and hears late of replicas that have gone.
func upgrade(t *testing.T, in *installation) {
	namespace := makeNamespace(t, injectLabel, "enabled", own, in.whose)
	checked := makeNamespace(t, injectLabel, "enabled", own, in.whose)
	if _, err := kube.AppsV1().Deployments(checked).Create(t.Context(), newDeployment(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, checked, 1)
	wantOutdated(t, checked, "")
	old, err := in.replicas(t.Context())
	if err != nil || len(old) != 2 {
		t.Fatalf("%d replicas: %v", len(old), err)
	}
	wantVersion(t, old, "e2e")

	creating := keepCreating(t, namespace)
	reconnecting := startLoop(t, 100*time.Millisecond, in.reconnect)
	creating.more(t, 20)
	in.apply(t, nextImage, nextSidecar)
	in.rollout(t)
	eventually(t, "the old replicas have ended", func(ctx context.Context) error {
		for _, address := range old {
			if _, err := get(ctx, "http://"+address+":9901/livez"); err == nil {
				return fmt.Errorf("%s still answers", address)
			}
		}
		return nil
	})
	creating.more(t, 20)
	creating.end(t, "creation of a pod")
	reconnecting.end(t, "new connection of the API server")

	replicas, err := in.replicas(t.Context())
	if err != nil || len(replicas) != 2 {
		t.Fatalf("%d replicas: %v", len(replicas), err)
	}
	wantVersion(t, replicas, "next")
	// The pod of the earlier version is called outdated until it is restarted.
	wantOutdated(t, checked, "culvert is outdated: the injector now sets image "+nextSidecar)
	if o := kubectl(t, nil, "-n", checked, "rollout", "restart", "deployment/orders"); o.err != nil {
		t.Fatal(o)
	}
	awaitPods(t, checked, 2)
}

// wantVersion checks the version that injectors tell in their metrics.
func wantVersion(t *testing.T, addresses []string, version string) {
	t.Helper()
	for _, address := range addresses {
		text, err := get(t.Context(), "http://"+address+":9901/metrics")
		if err != nil || !has(text, `culvert_injector_build_info{version="`+version+`"} 1`) {
			t.Errorf("%s isn't version %s: %v", address, version, err)
		}
	}
}

// wantOutdated has check look at a Deployment that is outdated as described, or not.
func wantOutdated(t *testing.T, namespace, problem string) {
	t.Helper()
	found, _, said := runCheck(t, cluster.Admin, "-n", namespace)
	object := "Deployment " + namespace + "/orders"
	wantFinding(t, found, "note", object, "has culvert")
	if problem != "" {
		wantFinding(t, found, "warning", object, problem)
		return
	}
	for _, f := range found {
		if strings.Contains(f.Problem, "outdated") {
			t.Errorf("%s: %s\n%s", f.Object, f.Problem, said)
		}
	}
}
