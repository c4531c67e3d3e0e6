package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/kubernetes"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// The tests run in a second process that is the first one of its namespaces: of
// processes, mounts and networks. The kernel ends all the others with it. The first
// process builds what is needed, and says by this variable where it is.
const machineVariable = "CULVERT_E2E_MACHINE"

// A machine is what the first process has made for the second.
type machine struct {
	Dir      string            // a folder for both
	Programs map[string]string // paths by name
	Images   []string          // archives
	Cgroup   string            // the parent of those of all pods
}

// What the tests share.
var (
	cluster *controlplane.Cluster
	kube    *kubernetes.Clientset
)

func TestMain(m *testing.M) {
	flag.Parse()
	var code int
	var err error
	if text := os.Getenv(machineVariable); text == "" {
		code, err = outside()
	} else {
		var own machine
		if err = json.Unmarshal([]byte(text), &own); err == nil {
			code, err = inside(m, &own)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// outside builds the programs and images, runs the tests in namespaces of their own,
// and takes away what these don't take with them.
func outside() (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("a node needs root: containers have users, networks and cgroups of their own")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	own := &machine{}
	if own.Dir, err = os.MkdirTemp("", "culvert-e2e-kubelet-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(own.Dir)) }()
	began := time.Now()
	if err := own.build(ctx); err != nil {
		return 0, err
	}
	fmt.Printf("programs and images were built after %v\n", since(began))
	group, err := makeCgroup()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, group.remove()) }()
	own.Cgroup = group.name

	return controlplane.Again(ctx, machineVariable, own, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	})
}

// build builds all that the tests run.
func (own *machine) build(ctx context.Context) (err error) {
	if own.Programs, err = controlplane.Programs(ctx, "etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "kubelet"); err != nil {
		return err
	}
	own.Images, err = buildImages(ctx, filepath.Join(own.Dir, "images"))
	return err
}

// inside makes the node, starts the cluster and runs the tests.
func inside(m *testing.M, own *machine) (code int, err error) {
	if err := errors.Join(isolate(), makeNetwork()); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	if cluster, err = controlplane.Start(ctx, own.Dir, host, own.Programs); err != nil {
		return 0, err
	}
	fmt.Printf("the cluster was ready after %v\n", since(began))
	n := newNode(own)
	code, err = run(ctx, m, n)
	if code != 0 || err != nil {
		fmt.Fprintln(os.Stderr, cluster.Tails(10), n.tails(15))
	}
	if err = errors.Join(err, uninstall(n), n.stop(), cluster.Stop()); err == nil && code == 0 {
		err = goleak.Find()
	}
	return code, err
}

func run(ctx context.Context, m *testing.M, n *node) (code int, err error) {
	client, end, err := cluster.Connect()
	if err != nil {
		return 0, err
	}
	defer end()
	kube = client
	began := time.Now()
	if err := n.start(ctx); err != nil {
		return 0, err
	}
	fmt.Printf("the node was ready after %v\n", since(began))
	began = time.Now()
	if err := install(ctx, n); err != nil {
		return 0, err
	}
	fmt.Printf("the injector was ready after %v\n", since(began))
	return m.Run(), nil
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
