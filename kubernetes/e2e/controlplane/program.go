package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs returns the paths of programs of a cluster, by name: "etcd",
// "kube-apiserver", "kube-controller-manager", "kubectl", "kubelet", "helm".
// Go builds those that its cache doesn't have, which takes minutes and needs a
// network.
func Programs(ctx context.Context, names ...string) (map[string]string, error) {
	// With -trimpath the program doesn't know the path of this file.
	dir, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/culvert-grpc/culvert/kubernetes/e2e"))
	if err != nil {
		return nil, err
	}
	script := filepath.Join(strings.TrimSpace(dir), "../../tools/cluster/program.sh")
	text, err := output(exec.CommandContext(ctx, script, names...))
	if err != nil {
		return nil, err
	}
	paths := strings.Fields(text)
	if len(paths) != len(names) {
		return nil, fmt.Errorf("%s: %d paths for %q", script, len(paths), names)
	}
	programs := map[string]string{}
	for i, name := range names {
		programs[name] = paths[i]
	}
	return programs, nil
}

// output runs a command. Its error has what the command wrote to stderr.
func output(cmd *exec.Cmd) (string, error) {
	text, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return string(text), nil
}
