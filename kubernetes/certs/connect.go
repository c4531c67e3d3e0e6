package certs

import (
	"cmp"
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
)

// find sets the API server and the namespace that aren't set. It finds the server as
// kubectl does: by KUBECONFIG, or by what each pod has. The namespace is the pod's own,
// or that of the file.
func (o *Options) find() error {
	if o.API != nil {
		return nil
	}
	found := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	var err error
	if o.API, err = found.ClientConfig(); err != nil {
		return fmt.Errorf("no API server to keep the serving certificate: set --tls-cert and --tls-key, or run in a pod, or set KUBECONFIG: %w", err)
	}
	namespace, _, err := found.Namespace()
	o.Namespace = cmp.Or(o.Namespace, os.Getenv("POD_NAMESPACE"), namespace)
	return err
}
