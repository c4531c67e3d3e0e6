package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// status finds pods whose culvert doesn't run, and says why.
func (c *checker) status(s *subject) {
	causes := map[string][]string{} // pods by cause
	for _, pod := range s.pods {
		for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if st.Name != inject.ContainerName {
				continue
			}
			if cause := causeOf(&st); cause != "" {
				causes[cause] = append(causes[cause], pod.Name)
			}
		}
	}
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		pods := causes[cause]
		c.add(Error, s.object, fmt.Sprintf("culvert doesn't run in %s: %s", count(len(pods), "pod"), cause),
			fmt.Sprintf("kubectl logs %s -n %s -c %s; kubectl describe pod %s -n %s", pods[0], s.ns.Name, inject.ContainerName, pods[0], s.ns.Name))
	}
}

// starting are reasons to wait that pass by themselves.
var starting = []string{"", "PodInitializing", "ContainerCreating"}

// causeOf returns why the container isn't ready, or "" if it is, or only starts.
func causeOf(st *corev1.ContainerStatus) string {
	switch w, t := st.State.Waiting, st.State.Terminated; {
	case st.Ready:
		return ""
	case w != nil && slices.Contains(starting, w.Reason):
		return ""
	case w != nil:
		text := w.Reason
		if last := st.LastTerminationState.Terminated; last != nil {
			return text + ": it " + ended(last)
		}
		return joined(text, w.Message)
	case t != nil:
		return "it " + ended(t)
	case st.RestartCount > 0:
		return fmt.Sprintf("it isn't ready, after %s", count(int(st.RestartCount), "restart"))
	case st.Started != nil && *st.Started:
		return "it runs and isn't ready"
	}
	return ""
}

func ended(t *corev1.ContainerStateTerminated) string {
	// The reason Error says nothing that the exit code doesn't.
	text := fmt.Sprintf("ended with exit code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		text += " (" + t.Reason + ")"
	}
	return joined(text, t.Message)
}

// joined adds the last line of a message, which may be the end of a log.
func joined(text, message string) string {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	last := lines[len(lines)-1]
	if last == "" {
		return text
	}
	const enough = 300
	if len(last) > enough {
		last = strings.ToValidUTF8(last[:enough], "") + "…"
	}
	return text + ": " + last
}
