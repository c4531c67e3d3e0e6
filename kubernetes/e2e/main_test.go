package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/kubernetes"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// The tests run in a second process that has a network of its own, with addresses that
// nobody else has. The first process builds the programs, which needs the machine's
// network, and names them to the second one by this variable.
const programsVariable = "CULVERT_E2E_PROGRAMS"

// Addresses of the tests' network. A Service can't have endpoints on 127.0.0.1.
const (
	network = "10.77.0.1/24"
	host    = "10.77.0.1"
)

// What the tests share.
var (
	programs map[string]string // by name
	cluster  *controlplane.Cluster
	starter  *controlplane.Starter
	kube     *kubernetes.Clientset
)

func TestMain(m *testing.M) {
	flag.Parse()
	var code int
	var err error
	if text := os.Getenv(programsVariable); text == "" {
		code, err = outside()
	} else if err = json.Unmarshal([]byte(text), &programs); err == nil {
		code, err = inside(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// outside builds the programs, and runs the tests in a network of their own.
func outside() (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "culvert-e2e-kubernetes-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if programs, err = controlplane.Programs(ctx, "etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm"); err != nil {
		return 0, err
	}
	for name, version := range map[string]string{"culvert-kube": "e2e", "culvert-kube-next": "next"} {
		if err := buildCulvertKube(ctx, dir, name, version); err != nil {
			return 0, err
		}
	}
	programs["culvert"] = filepath.Join(dir, "culvert")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", programs["culvert"], "./cmd/culvert")
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%v: %w: %s", cmd.Args, err, text)
	}
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 { // only root makes networks, also in a namespace of users
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return controlplane.Again(ctx, programsVariable, programs, attributes)
}

// buildCulvertKube builds the program with a version, into the folder.
func buildCulvertKube(ctx context.Context, dir, name, version string) error {
	programs[name] = filepath.Join(dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-w -X main.version="+version, "-o", programs[name], "./cmd/culvert-kube")
	cmd.Dir = ".." // this module doesn't require the program's
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", cmd.Args, err, text)
	}
	return nil
}

// inside starts the cluster and runs the tests.
func inside(m *testing.M) (code int, err error) {
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", network, "dev", "lo"}} {
		if text, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("ip %q: %w: %s", args, err, text)
		}
	}
	dir, err := os.MkdirTemp("", "culvert-e2e-kubernetes-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	if cluster, err = controlplane.Start(ctx, dir, host, programs); err != nil {
		return 0, err
	}
	fmt.Printf("the cluster was ready after %v\n", time.Since(began).Round(time.Millisecond))
	starter = controlplane.NewStarter(dir)
	code, err = run(ctx, m)
	if code != 0 || err != nil {
		fmt.Fprintln(os.Stderr, cluster.Tails(40))
	}
	starter.Close()
	if err = errors.Join(err, cluster.Stop()); err == nil && code == 0 {
		err = goleak.Find()
	}
	return code, err
}

func run(ctx context.Context, m *testing.M) (code int, err error) {
	client, end, err := cluster.Connect()
	if err != nil {
		return 0, err
	}
	defer end()
	kube = client
	if err := controllersRun(ctx); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
