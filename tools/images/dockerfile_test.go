package main

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestDockerfile holds the Dockerfile to what manifests, the chart and the guides rely on.
func TestDockerfile(t *testing.T) {
	b := builder{source: "../..", version: "v1.2.3", commit: "0123456789abcdef"}
	images, err := b.recipes()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]v1.Config{}
	for _, image := range images {
		config := image.config
		for _, label := range []string{"description", "source", "licenses"} {
			if config.Labels["org.opencontainers.image."+label] == "" {
				t.Errorf("%s has no label for its %s", image.name, label)
			}
		}
		if is := config.Labels["org.opencontainers.image.title"]; is != image.name {
			t.Errorf("the title of %s is %q", image.name, is)
		}
		if v, c := config.Labels["org.opencontainers.image.version"], config.Labels["org.opencontainers.image.revision"]; v != b.version || c != b.commit {
			t.Errorf("%s has the version %q and the revision %q", image.name, v, c)
		}
		config.Labels = nil
		got[image.name] = config
	}
	environment := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	want := map[string]v1.Config{
		"culvert": {
			Entrypoint: []string{"/culvert"}, Cmd: []string{"serve"}, User: "65532:65532", WorkingDir: "/", Env: environment,
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			Healthcheck: &v1.HealthConfig{
				Test: []string{"CMD", "/culvert", "healthcheck"}, Interval: 5 * time.Second, Timeout: 3 * time.Second,
				StartPeriod: 10 * time.Second, Retries: 3,
			},
		},
		"culvert-kube": {
			Entrypoint: []string{"/culvert-kube"}, Cmd: []string{"webhook"}, User: "65532:65532", WorkingDir: "/", Env: environment,
			ExposedPorts: map[string]struct{}{"8443/tcp": {}, "9901/tcp": {}},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s is\n%+v, want\n%+v", name, got[name], want[name])
		}
	}
	// "docker build ." without a target takes the last stage.
	if last := images[len(images)-1].name; len(images) != len(want) || last != "culvert" {
		t.Errorf("%d images, and the last is %s; want culvert last, for docker build", len(images), last)
	}
}

// TestDockerfileRefusals checks that nothing of an image is left out without a word.
func TestDockerfileRefusals(t *testing.T) {
	for name, c := range map[string]struct{ stage, want string }{
		"a volume":           {"VOLUME /data", "can't do that without an engine"},
		"a command to run":   {"RUN true", "can't do that without an engine"},
		"a file of the tree": {"COPY proxy.yaml /", "want one file of another stage"},
		"a stage that isn't": {"COPY --from=none /a /a", "no stage is named none"},
		"a shell":            {"ENTRYPOINT culvert serve", "the image has no shell"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readDockerfile(strings.NewReader("FROM golang AS build\nFROM scratch AS culvert\n"+c.stage+"\n"), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestUndeclaredArgument checks that a stage knows its own arguments only, as with an engine.
func TestUndeclaredArgument(t *testing.T) {
	const text = "ARG A=global B\nFROM scratch AS one\nARG A\nLABEL a=$A b=$B\nFROM scratch AS two\nARG B\nLABEL a=$A b=\"$B\"\n"
	images, err := readDockerfile(strings.NewReader(text), map[string]string{"B": "given"})
	if err != nil {
		t.Fatal(err)
	}
	got := []map[string]string{images[0].config.Labels, images[1].config.Labels}
	if want := []map[string]string{{"a": "global", "b": ""}, {"a": "", "b": "given"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("the labels are %v, want %v", got, want)
	}
}
