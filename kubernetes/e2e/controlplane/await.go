package controlplane

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// Await waits until an object has what done looks for.
func Await[L runtime.Object, O runtime.Object](
	ctx context.Context, kind O,
	list func(context.Context, metav1.ListOptions) (L, error),
	watching func(context.Context, metav1.ListOptions) (watch.Interface, error),
	done func(O) bool,
) error {
	source := &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) },
		WatchFuncWithContext: watching,
	}
	_, err := watchtools.UntilWithSync(ctx, source, kind, nil, func(event watch.Event) (bool, error) {
		object, ok := event.Object.(O)
		return ok && event.Type != watch.Deleted && done(object), nil
	})
	return err
}

// AwaitAccount waits for the account that the pods of a namespace have. A controller makes
// it.
func AwaitAccount(ctx context.Context, kube kubernetes.Interface, namespace string) error {
	accounts := kube.CoreV1().ServiceAccounts(namespace)
	return Await(ctx, &corev1.ServiceAccount{}, accounts.List, accounts.Watch, func(a *corev1.ServiceAccount) bool { return a.Name == "default" })
}
