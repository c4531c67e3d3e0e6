package controlplane

import (
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig issues a client certificate for a user, and returns the path of a
// kubeconfig file with it. A node's user is system:node:NAME in group system:nodes.
func (c *Cluster) Kubeconfig(file, user string, groups ...string) (string, error) {
	if err := c.CA.Issue(file, user, groups, nil); err != nil {
		return "", err
	}
	const name = "test"
	path := c.CA.File(file + ".kubeconfig")
	return path, clientcmd.WriteToFile(api.Config{
		Clusters:       map[string]*api.Cluster{name: {Server: c.URL, CertificateAuthority: c.CA.File("ca.crt")}},
		AuthInfos:      map[string]*api.AuthInfo{name: {ClientCertificate: c.CA.File(file + ".crt"), ClientKey: c.CA.File(file + ".key")}},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
}

// Client returns the configuration of a client that may do everything, and has no
// limit of its own on requests.
func (c *Cluster) Client() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Admin)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	// With the files' names, client-go would watch them forever.
	err = rest.LoadTLSFiles(config)
	config.CAFile, config.CertFile, config.KeyFile = "", "", ""
	return config, err
}

// Connect returns a client that may do everything. The caller must call end, after which
// no connection is left.
func (c *Cluster) Connect() (kube *kubernetes.Clientset, end func(), err error) {
	config, err := c.Client()
	if err != nil {
		return nil, nil, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, err
	}
	kube, err = kubernetes.NewForConfigAndClient(config, client)
	return kube, client.CloseIdleConnections, err
}

// writeAdmissionConfig makes the API server present a client certificate to every
// webhook, as an operator does whose webhooks verify it.
func (c *Cluster) writeAdmissionConfig() (string, error) {
	if err := c.CA.Issue("webhook-client", "kube-apiserver", nil, nil); err != nil {
		return "", err
	}
	users := c.CA.File("webhook-users.kubeconfig")
	if err := clientcmd.WriteToFile(api.Config{AuthInfos: map[string]*api.AuthInfo{
		"*": {ClientCertificate: c.CA.File("webhook-client.crt"), ClientKey: c.CA.File("webhook-client.key")},
	}}, users); err != nil {
		return "", err
	}
	path := c.CA.File("admission.yaml")
	return path, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
  - name: MutatingAdmissionWebhook
    configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %s}
  - name: ValidatingAdmissionWebhook
    configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %s}
`, users, users), 0o600)
}
