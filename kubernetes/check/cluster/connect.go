// Package cluster reads what package check looks at from an API server.
//
//   - connect.go finds the server, as kubectl does
//   - read.go fills the snapshot
//   - list.go lists objects in pages
//   - injector.go reads the injector's own configuration
package cluster

import (
	"errors"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say which cluster is read, and what of it.
type Options struct {
	Kubeconfig string // a file; empty: as kubectl finds it
	Context    string // empty: the file's current one

	// Namespace that is read; empty: the context's. All reads all namespaces.
	Namespace string
	All       bool

	// Progress is called after each page of a list, if it isn't nil.
	Progress func(kind string, read int)
}

// A Reader reads from one API server.
type Reader struct {
	client    *rest.RESTClient
	namespace string // empty: all
	progress  func(string, int)
}

// Connect returns a reader. It sends nothing yet.
func Connect(o Options) (*Reader, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no cluster is configured: set --kubeconfig or KUBECONFIG, or check manifests with -f")
	}
	if err != nil {
		return nil, err
	}
	r := &Reader{progress: o.Progress}
	if r.progress == nil {
		r.progress = func(string, int) {}
	}
	if !o.All {
		r.namespace = o.Namespace
		if r.namespace == "" {
			if r.namespace, _, err = loader.Namespace(); err != nil {
				return nil, err
			}
		}
	}
	r.client, err = clientFor(config)
	return r, err
}

// clientFor returns a client for a few kinds. The client of all kinds would double
// the program's size.
func clientFor(config *rest.Config) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // the server's errors
	c := rest.CopyConfig(config)
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c.UserAgent = "culvert-kube/check"
	c.WarningHandlerWithContext = rest.NoWarnings{}
	c.Timeout = time.Minute // of one request: a page
	c.QPS, c.Burst = 50, 100
	return rest.UnversionedRESTClientFor(c)
}
