package cluster

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/culvert-grpc/culvert/kubernetes/check"
	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

var deployments = resource{kind: "Deployment", group: "apps", name: "deployments"}

// injector reads the configuration of the injector that serves the webhooks: the
// flags of the Deployment that is named like the webhooks' Service, and the ConfigMap
// with the file. Without it, check can't tell what is outdated.
func (r *Reader) injector(ctx context.Context, s *check.Snapshot) {
	for _, service := range s.WebhookServices() {
		config, err := r.configOf(ctx, service[0], service[1])
		if apierrors.IsNotFound(err) {
			continue // it has another name: --config says what it does
		}
		if err != nil {
			s.NotRead("configuration of the injector", err)
		}
		s.Injector = config
		return
	}
}

func (r *Reader) configOf(ctx context.Context, namespace, name string) (*inject.Config, error) {
	deployment := new(appsv1.Deployment)
	if err := r.get(ctx, deployments, namespace, name, deployment); err != nil {
		return nil, err
	}
	spec := &deployment.Spec.Template.Spec
	i := slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return slices.Contains(c.Args, "webhook") })
	if i < 0 {
		return nil, fmt.Errorf("no container of the Deployment %s/%s has the argument webhook: give --config", namespace, name)
	}
	container := &spec.Containers[i]
	config := inject.DefaultConfig()
	if file := flag(container.Args, "config"); file != "" {
		text, err := r.fileOf(ctx, namespace, spec, container, file)
		if err != nil {
			return nil, err
		}
		read, err := inject.ReadConfig([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		config = *read
	}
	config.Image = cmp.Or(flag(container.Args, "sidecar-image"), config.Image)
	return &config, config.Check()
}

// fileOf returns a file that a container has from a ConfigMap.
func (r *Reader) fileOf(ctx context.Context, namespace string, spec *corev1.PodSpec, c *corev1.Container, file string) (string, error) {
	for _, m := range c.VolumeMounts {
		if m.MountPath != path.Dir(file) && m.MountPath != file {
			continue
		}
		for _, v := range spec.Volumes {
			if v.Name != m.Name || v.ConfigMap == nil {
				continue
			}
			source := new(corev1.ConfigMap)
			if err := r.get(ctx, configMaps, namespace, v.ConfigMap.Name, source); err != nil {
				return "", err
			}
			key := cmp.Or(m.SubPath, path.Base(file))
			for _, item := range v.ConfigMap.Items {
				if item.Path == key {
					key = item.Key
					break
				}
			}
			if text, has := source.Data[key]; has {
				return text, nil
			}
			return "", fmt.Errorf("the ConfigMap %s/%s has no key %s: give --config", namespace, source.Name, key)
		}
	}
	return "", fmt.Errorf("the injector's file %s is from no ConfigMap: give --config", file)
}

func flag(args []string, name string) string {
	for i, arg := range args {
		if value, found := strings.CutPrefix(arg, "--"+name+"="); found {
			return value
		}
		if arg == "--"+name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}
