package controlplane

import "net"

// ServiceNetwork has the addresses of Services. ServiceAddress is that of the API
// server's own.
const (
	ServiceNetwork = "10.96.0.0/16"
	ServiceAddress = "10.96.0.1"
)

func etcdArguments(dir, client, peer string) []string {
	return []string{
		"--name=test", "--data-dir=" + dir,
		"--listen-client-urls=http://" + client, "--advertise-client-urls=http://" + client,
		"--listen-peer-urls=http://" + peer, "--initial-advertise-peer-urls=http://" + peer, "--initial-cluster=test=http://" + peer,
		"--unsafe-no-fsync", // a test has nothing to keep
		"--log-level=warn",
	}
}

func (c *Cluster) apiServerArguments(etcd, admission string) []string {
	host, port, _ := net.SplitHostPort(c.Address) // it was made by JoinHostPort
	file := c.CA.File
	return []string{
		"--etcd-servers=http://" + etcd,
		"--bind-address=" + host, "--advertise-address=" + host, "--secure-port=" + port,
		// The Service "kubernetes" can't have a loopback address.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=" + ServiceNetwork,
		"--tls-cert-file=" + file("apiserver.crt"), "--tls-private-key-file=" + file("apiserver.key"),
		"--client-ca-file=" + file("ca.crt"),
		"--requestheader-client-ca-file=" + file("ca.crt"), "--requestheader-allowed-names=nobody",
		"--kubelet-client-certificate=" + file("kubelet-client.crt"), "--kubelet-client-key=" + file("kubelet-client.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file("accounts.crt"), "--service-account-signing-key-file=" + file("accounts.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--admission-control-config-file=" + admission,
		"--allow-privileged=true",
		// Webhooks that are Services are called on the addresses behind these: without
		// nodes, nobody serves the Services' own.
		"--enable-aggregator-routing=true",
	}
}

func (c *Cluster) controllerManagerArguments(kubeconfig, address string) []string {
	host, port, _ := net.SplitHostPort(address)
	file := c.CA.File
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + host, "--secure-port=" + port,
		"--tls-cert-file=" + file("apiserver.crt"), "--tls-private-key-file=" + file("apiserver.key"),
		"--root-ca-file=" + file("ca.crt"), "--service-account-private-key-file=" + file("accounts.key"),
		"--cluster-signing-cert-file=" + file("ca.crt"), "--cluster-signing-key-file=" + file("ca.key"),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		// The limits of a client that has hundreds of pods to make at once.
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
}
