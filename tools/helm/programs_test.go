package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// command makes a command that a stuck program doesn't outlive.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// build builds a program of a module, and returns the path of the file.
func build(t *testing.T, module, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := command(t, "go", "build", "-o", program, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// A part is what the chart gives to a program: a Deployment, and the file of a ConfigMap.
type part struct {
	deployment *appsv1.Deployment
	file       string // a path
}

// parts returns a component of the chart for each set of options that has it.
func parts(t *testing.T, component, key string) map[string]part {
	t.Helper()
	all := map[string]part{}
	for name, args := range options(t) {
		var p part
		for _, o := range objects(t, manifests(t, args...)) {
			switch o := o.(type) {
			case *appsv1.Deployment:
				if o.Labels["app.kubernetes.io/component"] == component {
					p.deployment = o
				}
			case *corev1.ConfigMap:
				if text, ok := o.Data[key]; ok {
					p.file = filepath.Join(t.TempDir(), key)
					if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if p.deployment != nil {
			all[name] = p
		}
	}
	if len(all) == 0 {
		t.Fatalf("no options have the component %q", component)
	}
	return all
}

// TestGatewaysConfiguration gives the rendered configuration, variables and arguments to
// culvert.
func TestGatewaysConfiguration(t *testing.T) {
	culvert := build(t, "../..", "./cmd/culvert")
	for name, p := range parts(t, "gateway", "proxy.yaml") {
		c := p.deployment.Spec.Template.Spec.Containers[0]
		cmd := command(t, culvert, "validate")
		for _, v := range c.Env {
			switch {
			case strings.HasPrefix(v.Name, "CULVERT_TLS_"): // the files are a Secret's
				continue
			case v.Name == "CULVERT_CONFIG":
				v.Value = p.file
			}
			cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		for _, args := range [][]string{c.Args, c.Lifecycle.PreStop.Exec.Command[1:]} {
			// An unknown flag is an error before the help.
			if out, err := command(t, culvert, append(slices.Clone(args), "--help")...).CombinedOutput(); err != nil {
				t.Errorf("%s: culvert %v: %v\n%s", name, args, err, out)
			}
		}
	}
}

// needsAPIServer reports whether an argument is for the certificate that the injector
// makes itself.
func needsAPIServer(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	return slices.Contains([]string{"--namespace", "--service", "--secret", "--webhook-config"}, name)
}

// TestInjectorsConfiguration gives the rendered arguments and the configuration to
// culvert-kube.
func TestInjectorsConfiguration(t *testing.T) {
	kube := build(t, "../../kubernetes", "./cmd/culvert-kube")
	pod := []byte(`apiVersion: v1
kind: Pod
metadata: {name: orders, labels: {culvert.dev/inject: enabled}}
spec: {containers: [{name: orders, image: orders, ports: [{name: grpc, containerPort: 9000}]}]}
`)
	for name, p := range parts(t, "injector", "injector.yaml") {
		args := slices.DeleteFunc(p.deployment.Spec.Template.Spec.Containers[0].Args, needsAPIServer)
		if out, err := command(t, kube, append(slices.Clone(args), "--help")...).CombinedOutput(); err != nil {
			t.Errorf("%s: culvert-kube %v: %v\n%s", name, args, err, out)
		}
		inject := []string{"inject", "-f", "-", "--config", p.file}
		for _, a := range args {
			if strings.HasPrefix(a, "--sidecar-image=") {
				inject = append(inject, a)
			}
		}
		cmd := command(t, kube, inject...)
		cmd.Stdin = bytes.NewReader(pod)
		out, err := output(cmd)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var injected corev1.Pod
		if _, _, err := strict.Decode(out, nil, &injected); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		sidecar := injected.Spec.InitContainers[0]
		if name == "everything" && (sidecar.Image != "registry.example.com/culvert:1.2.3" || sidecar.Ports[0].ContainerPort != 16080 || sidecar.ImagePullPolicy != corev1.PullNever) {
			t.Errorf("the values didn't reach the sidecar: %+v", sidecar)
		}
		if name == "defaults" && (sidecar.Image != "culvert:0.1.0" || sidecar.ImagePullPolicy != corev1.PullIfNotPresent) {
			t.Errorf("the sidecar's image is %s (%s)", sidecar.Image, sidecar.ImagePullPolicy)
		}
	}
}
