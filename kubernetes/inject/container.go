package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Volumes of the sidecar, and where it sees them. culvert reloads files in folders
// that change; Kubernetes doesn't update a file behind a subPath.
const (
	volumePrefix = "culvert-"
	noToken      = volumePrefix + "no-token"
	configVolume = volumePrefix + "config"
	tlsVolume    = volumePrefix + "tls"

	configDir = "/etc/culvert/config"
	tlsDir    = "/etc/culvert/tls"

	// ConfigMapKey is the key of the ConfigMap in the annotation config.
	ConfigMapKey = "proxy.yaml"
)

// accountDir is where the API server mounts the token of the service account, in each
// container that mounts nothing there. culvert needs no token.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// user of culvert's image.
const user = 65532

// container makes the sidecar.
func container(s *settings, c *Config) corev1.Container {
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(HealthPortName), Scheme: corev1.URISchemeHTTP}},
			PeriodSeconds:    period,
			FailureThreshold: failures,
			TimeoutSeconds:   3,
			SuccessThreshold: 1,
		}
	}
	return corev1.Container{
		Name:            ContainerName,
		Image:           s.image,
		ImagePullPolicy: c.ImagePullPolicy,
		Args:            append([]string{"serve"}, s.args...),
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways), // this makes it a native sidecar
		Env:             variables(s, c),
		Ports: []corev1.ContainerPort{
			{Name: PortName, ContainerPort: s.listenPort, Protocol: corev1.ProtocolTCP},
			{Name: HealthPortName, ContainerPort: c.HealthPort, Protocol: corev1.ProtocolTCP},
		},
		Resources:    *c.Resources.DeepCopy(),
		VolumeMounts: mounts(s),
		// A native sidecar starts before the application. So the start-up probe asks
		// culvert alone: /readyz can be told to depend on the backend.
		StartupProbe:   probe("/livez", 1, 60),
		LivenessProbe:  probe("/livez", 10, 3),
		ReadinessProbe: probe("/readyz", 5, 2),
		// It runs when the application gets SIGTERM; culvert's own SIGTERM comes after
		// the application has gone.
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
			Command: []string{"/culvert", "drain", "--delay", c.DrainDelay.Duration.String()},
		}}},
		SecurityContext:          s.security.DeepCopy(),
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// variables win over the file of the ConfigMap, so that probes, drain and grace
// period fit whatever the file says.
func variables(s *settings, c *Config) []corev1.EnvVar {
	vars := []corev1.EnvVar{
		{Name: "CULVERT_LISTEN", Value: fmt.Sprintf(":%d", s.listenPort)},
		{Name: "CULVERT_BACKEND_ADDRESS", Value: s.backend},
		{Name: "CULVERT_HEALTH_LISTEN", Value: fmt.Sprintf(":%d", c.HealthPort)},
		// culvert starts before the application, and tries to reach it again about once
		// a second. Until it has, the pod must get no calls.
		{Name: "CULVERT_HEALTH_DEPENDS_ON", Value: "default"},
		{Name: "CULVERT_ADMIN_LISTEN", Value: fmt.Sprintf("127.0.0.1:%d", c.AdminPort)},
		{Name: keys[drainKey].Env, Value: s.drain.String()},
	}
	if s.configMap != "" {
		vars = append(vars, corev1.EnvVar{Name: "CULVERT_CONFIG", Value: configDir + "/" + ConfigMapKey})
	}
	if s.tlsSecret != "" {
		vars = append(vars,
			corev1.EnvVar{Name: "CULVERT_TLS_CERT", Value: tlsDir + "/" + corev1.TLSCertKey},
			corev1.EnvVar{Name: "CULVERT_TLS_KEY", Value: tlsDir + "/" + corev1.TLSPrivateKeyKey})
	}
	vars = append(vars, s.variables...)
	if one := oneProcessor(c.Resources.Limits); one != nil {
		vars = append(vars, *one)
	}
	return vars
}

const processors = "GOMAXPROCS"

// oneProcessor returns the variable for a container with these limits, or nil. Go takes at
// least two threads, however small the limit is. With one CPU or less, the second one
// only uses up the quota.
func oneProcessor(limits corev1.ResourceList) *corev1.EnvVar {
	if cpu, limited := limits[corev1.ResourceCPU]; limited && cpu.Cmp(resource.MustParse("1")) <= 0 {
		return &corev1.EnvVar{Name: processors, Value: "1"}
	}
	return nil
}

func mounts(s *settings) []corev1.VolumeMount {
	m := []corev1.VolumeMount{{Name: noToken, MountPath: accountDir, ReadOnly: true}}
	if s.configMap != "" {
		m = append(m, corev1.VolumeMount{Name: configVolume, MountPath: configDir, ReadOnly: true})
	}
	if s.tlsSecret != "" {
		m = append(m, corev1.VolumeMount{Name: tlsVolume, MountPath: tlsDir, ReadOnly: true})
	}
	return append(m, s.mounts...)
}

// volumes returns the volumes that the sidecar needs. The pod doesn't have them.
func volumes(s *settings, pod *corev1.Pod) []corev1.Volume {
	return slices.DeleteFunc(needed(s, pod), func(v corev1.Volume) bool {
		return slices.ContainsFunc(pod.Spec.Volumes, func(had corev1.Volume) bool { return had.Name == v.Name })
	})
}

// isLeft reports whether a volume is left of an earlier sidecar: kubectl debug can copy a
// pod without its init containers. No container uses it, and the new sidecar either doesn't
// need it, or needs the same.
func isLeft(v corev1.Volume, pod *corev1.Pod, s *settings) bool {
	uses := func(m corev1.VolumeMount) bool { return m.Name == v.Name }
	if slices.ContainsFunc(containersOf(pod), func(c namedContainer) bool { return slices.ContainsFunc(c.VolumeMounts, uses) }) {
		return false
	}
	switch { // the API server adds modes
	case v.Name == noToken && v.DownwardAPI != nil:
		return len(v.DownwardAPI.Items) == 0
	case v.Name == configVolume && v.ConfigMap != nil:
		return s.configMap == "" || s.configMap == v.ConfigMap.Name && slices.Equal(v.ConfigMap.Items, configItems)
	case v.Name == tlsVolume && v.Secret != nil:
		return s.tlsSecret == "" || s.tlsSecret == v.Secret.SecretName && len(v.Secret.Items) == 0
	}
	return false
}

// configItems is the file of a ConfigMap that culvert reads.
var configItems = []corev1.KeyToPath{{Key: ConfigMapKey, Path: ConfigMapKey}}

func needed(s *settings, pod *corev1.Pod) []corev1.Volume {
	// It is empty, too, but no emptyDir: kubectl drain and the cluster autoscaler leave
	// pods with an emptyDir on their node, because its data would be lost.
	v := []corev1.Volume{{Name: noToken, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}}}}
	if s.configMap != "" {
		v = append(v, corev1.Volume{Name: configVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.configMap},
			Items:                configItems,
		}}})
	}
	if s.tlsSecret != "" {
		secret := &corev1.SecretVolumeSource{SecretName: s.tlsSecret}
		if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
			secret.DefaultMode = new(int32(0o440)) // the group is the kubelet's work
		}
		v = append(v, corev1.Volume{Name: tlsVolume, VolumeSource: corev1.VolumeSource{Secret: secret}})
	}
	return v
}

// restrictedContext is what Pod Security's level "restricted" asks for, and a
// read-only root.
func restrictedContext() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsNonRoot:             new(true),
		RunAsUser:                new(int64(user)),
		RunAsGroup:               new(int64(user)),
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// IsVolume reports whether the injector made the volume.
func IsVolume(v corev1.Volume) bool {
	return slices.Contains([]string{noToken, configVolume, tlsVolume}, v.Name)
}
