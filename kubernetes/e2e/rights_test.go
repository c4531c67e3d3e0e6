package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rights are those of the chart's injector.
var rights = []string{"get secrets", "list secrets", "watch secrets", "update secrets", "get mutatingwebhookconfigurations", "patch mutatingwebhookconfigurations"}

// TestInjectorNeedsItsRights takes from the injector each verb that the chart gives it,
// one at a time. The API server then refuses a request of the injector. Only "list" isn't
// taken: this API server sends the list with the watch, and older ones don't.
func TestInjectorNeedsItsRights(t *testing.T) {
	for _, without := range append(slices.DeleteFunc(slices.Clone(rights), func(right string) bool { return right == "list secrets" }), "nothing") {
		t.Run(without, func(t *testing.T) {
			t.Parallel()
			address, namespace := newAddress(), makeNamespace(t)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "certs"}}
			if _, err := kube.CoreV1().Secrets(namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			webhooks := hooks(t, address, namespace)
			for i := range webhooks {
				webhooks[i].ClientConfig.CABundle = nil
			}
			register(t, namespace, webhooks, func(context.Context) error { return nil }) // for no pod's namespace
			give(t, namespace, slices.DeleteFunc(slices.Clone(rights), func(right string) bool { return right == without }))
			kubeconfig, err := cluster.Kubeconfig("rights-"+namespace, account(namespace))
			if err != nil {
				t.Fatal(err)
			}
			i := launchInjector(t, "culvert-kube", address, []string{"KUBECONFIG=" + kubeconfig}, "--namespace", namespace, "--secret", "certs", "--webhook-config", namespace)
			if without == "nothing" {
				i.awaitReady(t)
				return
			}
			var verb, resource string
			if _, err := fmt.Sscan(without, &verb, &resource); err != nil {
				t.Fatal(err)
			}
			refusal := fmt.Sprintf("cannot %s resource %q", verb, resource)
			eventually(t, refusal, func(context.Context) error {
				if text := strings.ReplaceAll(i.Tail(200), `\"`, `"`); !has(text, refusal) {
					return fmt.Errorf("the log has\n%s", text)
				}
				return nil
			})
		})
	}
}

var errNoRights = errors.New("they have none yet")

func account(namespace string) string { return "system:serviceaccount:" + namespace + ":injector" }

// give gives rights to the namespace's injector, each by the name of the object. The
// account needn't be there.
func give(t *testing.T, namespace string, rights []string) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	for _, right := range rights {
		var verb, resource string
		if _, err := fmt.Sscan(right, &verb, &resource); err != nil {
			t.Fatal(err)
		}
		rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{"certs"}, Verbs: []string{verb}}
		if resource != "secrets" {
			rule.APIGroups, rule.ResourceNames = []string{admissionv1.GroupName}, []string{namespace}
		}
		role.Rules = append(role.Rules, rule)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: namespace},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: account(namespace)}},
	}
	t.Cleanup(func() { remove(t, "clusterrole,clusterrolebinding", namespace) })
	if _, err := kube.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	last := role.Rules[len(role.Rules)-1]
	eventually(t, "the rights have effect", func(ctx context.Context) error {
		review, err := kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               account(namespace),
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: last.Verbs[0], Group: last.APIGroups[0], Resource: last.Resources[0], Name: last.ResourceNames[0]},
		}}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = errNoRights
		}
		return err
	})
}
