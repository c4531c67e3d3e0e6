package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestGatewayServes runs the gateway's container as a process, with its arguments,
// variables and file: a call passes, and the pod's end goes as the chart has it.
func TestGatewayServes(t *testing.T) {
	culvert := build(t, "../..", "./cmd/culvert")
	free := freeAddresses(t, 4)
	start(t, nil, culvert, "demo", "--backend-only", "--listen", free[0])

	c, file := gateway(t, "--set", "gateway.enabled=true,gateway.drain.delaySeconds=0", "--set-string", "gateway.config.backend.address="+free[0])
	// The pod has its own addresses, and here are other programs.
	here := map[string]string{"CULVERT_CONFIG": file, "CULVERT_LISTEN": free[1], "CULVERT_HEALTH_LISTEN": free[2], "CULVERT_ADMIN_LISTEN": free[3]}
	var env []string
	for _, v := range c.Env {
		if address, ok := here[v.Name]; ok {
			v.Value = address
		}
		env = append(env, v.Name+"="+v.Value)
	}
	stop := start(t, env, culvert, c.Args...)
	probe := "http://" + free[2] + c.ReadinessProbe.HTTPGet.Path
	until(t, func(ctx context.Context) error { return answers(ctx, http.MethodGet, probe, nil, "") })

	echo := "http://" + free[1] + "/culvert.demo.v1.Demo/Echo"
	hello := []byte("\x00\x00\x00\x00\x07\x0a\x05hello")
	until(t, func(ctx context.Context) error { return answers(ctx, http.MethodPost, echo, hello, "grpc-status: 0") })

	drain := command(t, culvert, c.Lifecycle.PreStop.Exec.Command[1:]...)
	drain.Env = env
	if out, err := drain.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", c.Lifecycle.PreStop.Exec.Command, err, out)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// gateway returns the gateway's container, and the path of its file.
func gateway(t *testing.T, args ...string) (c corev1.Container, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "proxy.yaml")
	for _, o := range objects(t, manifests(t, args...)) {
		switch o := o.(type) {
		case *appsv1.Deployment:
			if o.Name == "culvert-gateway" {
				c = o.Spec.Template.Spec.Containers[0]
			}
		case *corev1.ConfigMap:
			if o.Name == "culvert-gateway" {
				if err := os.WriteFile(file, []byte(o.Data["proxy.yaml"]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return c, file
}

// start starts a program, which ends with the test or when stop is called. Its output is
// shown if the test fails.
func start(t *testing.T, env []string, name string, args ...string) (stop func() error) {
	t.Helper()
	var said bytes.Buffer // read after the end
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() error {
		ended = true
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}
	t.Cleanup(func() {
		if !ended {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("culvert %v:\n%s", args, &said)
		}
	})
	return stop
}

// until calls check until it succeeds.
func until(t *testing.T, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-again.C:
		}
	}
}

// answers returns an error unless the answer is OK and has a text. A body is that of a
// gRPC-Web call.
func answers(ctx context.Context, method, url string, body []byte, text string) error {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Close = true
	request.Header.Set("Content-Type", "application/grpc-web+proto")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(got), text)) {
		err = fmt.Errorf("%s: %s, want %q in %q", url, response.Status, text, got)
	}
	return err
}

// freeAddresses returns addresses of this machine that nobody listens on.
func freeAddresses(t *testing.T, n int) (all []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only at the end, so that all are different
		all = append(all, l.Addr().String())
	}
	return all
}
