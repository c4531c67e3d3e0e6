package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// Addresses of the tests' network. Pods need an API server that isn't on loopback.
const (
	network    = "10.77.0.1/24"
	host       = "10.77.0.1"
	podNetwork = "10.78.0.0/16"
)

// nodeName is the name of the only node. Pods name it, since nothing schedules them.
const nodeName = "node"

// Files of the node. They are in file systems of its own, which end with the tests.
const (
	runtimeSocket = "/run/containerd/containerd.sock"
	podsDir       = "/var/lib/kubelet/pods"
	configDir     = "/run/culvert-e2e"
)

// tunables are what a kubelet writes when it starts.
var tunables = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// isolate gives this process, the first one of new namespaces, file systems of its own
// where the node writes.
func isolate() error {
	mount := func(source, target, kind string, flags uintptr) error {
		if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	// No mount below is seen by the rest of the machine.
	if err := mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", 0); err != nil {
		return err
	}
	for _, dir := range []string{"/run", "/var/lib", "/var/log"} {
		if err := mount("tmpfs", dir, "tmpfs", 0); err != nil {
			return err
		}
	}
	if err := os.Mkdir(configDir, 0o755); err != nil {
		return err
	}
	// These are of the whole machine, so the kubelet gets other files in their places.
	for name, value := range tunables {
		file := filepath.Join(configDir, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := mount(file, filepath.Join("/proc/sys", name), "", syscall.MS_BIND); err != nil {
			return err
		}
	}
	return nil
}

func makeNetwork() error {
	return errors.Join(
		output(nil, "ip", "link", "set", "lo", "up"),
		output(nil, "ip", "address", "add", network, "dev", "lo"),
	)
}

// output runs a command, whose output is in the error.
func output(stdin []byte, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, text)
	}
	return nil
}

// A node runs pods: containerd and a kubelet.
type node struct {
	*machine
	starter   *controlplane.Starter
	processes []*controlplane.Process
}

func newNode(own *machine) *node {
	return &node{machine: own, starter: controlplane.NewStarter(own.Dir)}
}

// start returns when the node is ready for pods.
func (n *node) start(ctx context.Context) error {
	if err := serveKubernetes(); err != nil {
		return err
	}
	if err := n.startContainerd(ctx); err != nil {
		return err
	}
	return n.startKubelet(ctx)
}

// serveKubernetes leads pods from the address of the Service "kubernetes" to the API
// server, as a proxy on the node would.
func serveKubernetes() error {
	return output(fmt.Appendf(nil, `table ip services {
	chain kubernetes {
		type nat hook prerouting priority dstnat
		ip daddr %s tcp dport 443 dnat to %s
	}
}
`, controlplane.ServiceAddress, cluster.Address), "nft", "-f", "-")
}

func (n *node) run(name string, argv ...string) (*controlplane.Process, error) {
	p, err := n.starter.Start(name, nil, argv...)
	if err == nil {
		n.processes = append(n.processes, p)
	}
	return p, err
}

const containerdConfig = `version = 2
[grpc]
  address = "` + runtimeSocket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + library + `pause:` + version + `"
  # Root may lack CAP_SYS_RESOURCE, which it needs to protect the pause containers.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "` + configDir + `/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`

const networkConfig = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "pods", "isDefaultGateway": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "` + podNetwork + `"}]]}
  }]
}
`

// startContainerd starts containerd, and imports the images.
func (n *node) startContainerd(ctx context.Context) error {
	file := filepath.Join(configDir, "containerd.toml")
	if err := errors.Join(
		os.Mkdir(filepath.Join(configDir, "cni"), 0o755),
		os.WriteFile(filepath.Join(configDir, "cni", "pods.conflist"), []byte(networkConfig), 0o600),
		os.WriteFile(file, []byte(containerdConfig), 0o600),
	); err != nil {
		return err
	}
	p, err := n.run("containerd", "containerd", "--config", file)
	if err != nil {
		return err
	}
	ctr := func(args ...string) error {
		return output(nil, append([]string{"ctr", "--address", runtimeSocket, "--namespace", "k8s.io"}, args...)...)
	}
	if err := p.Until(ctx, func(context.Context) error { return ctr("version") }); err != nil {
		return err
	}
	for _, archive := range n.Images {
		// culvert's images have only a version, the others also a name.
		base := library + strings.TrimSuffix(filepath.Base(archive), ".tar")
		if err := ctr("images", "import", "--base-name", base, archive); err != nil {
			return err
		}
	}
	return nil
}

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://` + runtimeSocket + `
cgroupDriver: cgroupfs
cgroupRoot: /%s
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: %s}
authorization: {mode: AlwaysAllow}
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
# The tests' own files are few. How full the machine is doesn't matter.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 0%%, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%, imagefs.inodesFree: 0%%}
`

func (n *node) startKubelet(ctx context.Context) error {
	user, err := cluster.Kubeconfig("node", "system:node:"+nodeName, "system:nodes")
	if err != nil {
		return err
	}
	file := filepath.Join(configDir, "kubelet.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, kubeletConfig, n.Cgroup, cluster.CA.File("ca.crt")), 0o600); err != nil {
		return err
	}
	p, err := n.run("kubelet", n.Programs["kubelet"],
		"--config", file, "--kubeconfig", user, "--hostname-override", nodeName, "--node-ip", host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the node isn't ready"))
	defer cancel()
	nodes := kube.CoreV1().Nodes()
	if err := controlplane.Await(ctx, &corev1.Node{}, nodes.List, nodes.Watch, isReady); err != nil {
		return fmt.Errorf("kubelet: %w\n%s", err, p.Tail(20))
	}
	return nil
}

// isReady reports whether the node is ready, and nothing keeps pods away.
func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue && len(n.Spec.Taints) == 0
		}
	}
	return false
}

// stop stops the kubelet and containerd. The containers end with the namespace of
// processes.
func (n *node) stop() error {
	var errs []error
	for i := len(n.processes) - 1; i >= 0; i-- {
		errs = append(errs, n.processes[i].Stop(20*time.Second))
	}
	n.starter.Close()
	return errors.Join(errs...)
}

func (n *node) tails(lines int) string {
	text := ""
	for _, p := range n.processes {
		text += fmt.Sprintf("\n%s:\n%s\n", p.Name, p.Tail(lines))
	}
	return text
}
