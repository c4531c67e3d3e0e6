package docs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A manifest is what the page about ingress-nginx has of Kubernetes' API, by its
// names.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name        string            `yaml:"name"`
		Namespace   string            `yaml:"namespace"`
		Annotations map[string]string `yaml:"annotations"`
	} `yaml:"metadata"`
	Data map[string]string `yaml:"data"` // of a ConfigMap
	Spec struct {          // of an Ingress
		IngressClassName string `yaml:"ingressClassName"`
		TLS              []struct {
			Hosts      []string `yaml:"hosts"`
			SecretName string   `yaml:"secretName"`
		} `yaml:"tls"`
		Rules []struct {
			Host string `yaml:"host"`
			HTTP struct {
				Paths []struct {
					Path     string `yaml:"path"`
					PathType string `yaml:"pathType"`
					Backend  struct {
						Service struct {
							Name string `yaml:"name"`
							Port struct {
								Number int `yaml:"number"`
							} `yaml:"port"`
						} `yaml:"service"`
					} `yaml:"backend"`
				} `yaml:"paths"`
			} `yaml:"http"`
		} `yaml:"rules"`
	} `yaml:"spec"`
}

func decodeManifests(t testing.TB, text string) (all []manifest) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	for {
		var m manifest
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
}

// ingressDefaults are the controller's own values of its annotations and of its
// ConfigMap, with what ends a quiet stream after one second in place of 60.
// https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap/
var ingressDefaults = map[string]string{
	"backend-protocol": "HTTP", "proxy-read-timeout": "1", "proxy-send-timeout": "1", "proxy-body-size": "1m",
	"proxy-request-buffering": "on", "proxy-buffering": "off", "client-body-timeout": "1",
}

// settingsOf are the defaults under what a manifest says. A name that the
// controller doesn't know is an error.
func settingsOf(t testing.TB, said map[string]string, prefix string) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for name, value := range ingressDefaults {
		settings[name] = value
	}
	for name, value := range said {
		name, named := strings.CutPrefix(name, prefix)
		if _, known := settings[name]; !known || !named {
			t.Errorf("the controller has no %s%s", prefix, name)
		}
		settings[name] = value
	}
	return settings
}

// ingressServer is what the controller's template makes of an Ingress, as far as
// calls see it.
// https://github.com/kubernetes/ingress-nginx/blob/main/rootfs/etc/nginx/template/nginx.tmpl
func ingressServer(t testing.TB, m manifest) string {
	t.Helper()
	s := settingsOf(t, m.Metadata.Annotations, "nginx.ingress.kubernetes.io/")
	path := m.Spec.Rules[0].HTTP.Paths[0]
	if m.APIVersion != "networking.k8s.io/v1" || path.PathType != "Prefix" || !slices.Contains(m.Spec.TLS[0].Hosts, m.Spec.Rules[0].Host) {
		t.Errorf("not what the controller serves over TLS: %+v", m)
	}
	pass, set := "proxy_pass http://", "proxy_set_header"
	if s["backend-protocol"] == "GRPC" {
		pass, set = "grpc_pass grpc://", "grpc_set_header"
	}
	return strings.NewReplacer("SET", set, "PASS", pass, "HOST", m.Spec.Rules[0].Host, "PATH", path.Path, "PORT", fmt.Sprint(path.Backend.Service.Port.Number),
		"BODY", s["proxy-body-size"], "SEND", s["proxy-send-timeout"], "READ", s["proxy-read-timeout"], "RESPONSES", s["proxy-buffering"], "REQUESTS", s["proxy-request-buffering"]).Replace(`
server {
	server_name HOST;
	listen 443 ssl http2;
	ssl_certificate /etc/nginx/tls/fullchain.pem;
	ssl_certificate_key /etc/nginx/tls/privkey.pem;
	location PATH {
		client_max_body_size BODY;
		SET Host $http_host;
		SET Upgrade $http_upgrade;
		SET Connection $connection_upgrade;
		SET X-Real-IP $remote_addr;
		SET X-Forwarded-For $remote_addr;
		SET X-Forwarded-Host $http_host;
		SET X-Forwarded-Port $server_port;
		SET X-Forwarded-Proto $scheme;
		SET X-Forwarded-Scheme $scheme;
		SET X-Scheme $scheme;
		SET Proxy "";
		proxy_send_timeout SENDs;
		proxy_read_timeout READs;
		grpc_send_timeout SENDs;
		grpc_read_timeout READs;
		proxy_buffering RESPONSES;
		proxy_request_buffering REQUESTS;
		proxy_http_version 1.1;
		PASS127.0.0.1:PORT;
	}
}
`)
}

// runIngressNginx starts nginx with what the controller makes of the block before
// culvert, and calls through it: pages' calls to the first host, native ones to
// the second.
func runIngressNginx(t *testing.T, b block) {
	backend, culvert := startFronted(t, b)
	all := decodeManifests(t, b.text)
	if len(all) != 3 || all[2].Kind != "ConfigMap" {
		t.Fatalf("want two Ingresses and a ConfigMap, got %+v", all)
	}
	startNginx(t, "map $http_upgrade $connection_upgrade {\n\tdefault upgrade;\n\t'' '';\n}\n"+
		"client_body_timeout "+settingsOf(t, all[2].Data, "")["client-body-timeout"]+"s;\n"+
		ingressServer(t, all[0])+ingressServer(t, all[1]))
	wantFrontPasses(t, backend, all[0].Spec.Rules[0].Host, toldByForwarded, 1500*time.Millisecond, slices.Concat(webCalls, pageCalls))
	wantFrontPasses(t, backend, all[1].Spec.Rules[0].Host, toldByForwarded, 1500*time.Millisecond, nativeCalls)
	wantPeerLogged(t, culvert)
}
