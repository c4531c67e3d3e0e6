package docs

// kubernetesMistakes gives culvert-kube manifests with the mistakes of
// docs/guides/troubleshooting-kubernetes.md.
func kubernetesMistakes(w witness) {
	needKube(w, "culvert-kube")
	for _, c := range []struct {
		command string
		fails   bool
	}{
		{"inject -f testdata/kubernetes/refused.yaml --all --sidecar-image culvert:1.0.0", true},
		{"inject -f testdata/kubernetes/skipped.yaml --sidecar-image culvert:1.0.0", false},
		{"check -f testdata/kubernetes/reach.yaml --sidecar-image culvert:1.0.0", true},
	} {
		text, err := output(w, ".", shell("culvert-kube "+c.command)...)
		if (err != nil) != c.fails {
			w.Errorf("culvert-kube %s: %v\n%s", c.command, err, text)
		}
		w.saw(text)
	}
}
