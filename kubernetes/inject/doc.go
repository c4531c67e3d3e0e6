// Package inject adds culvert to a pod as a native sidecar, and removes it.
//
// [Pod] is a function from pod to pod, and [Operations] gives its result as a JSON patch,
// which the admission webhook and the command inject use. Both make the same plan, so that
// a pod is the same whoever injected it. The package reads no files and opens no connections. The files, in
// the order in which Pod uses them:
//
//   - optin.go decides whether a pod gets culvert
//   - annotation.go reads the pod's annotations
//   - port.go finds the backend's port, and clashes of ports and names
//   - resources.go finds pods that have no room for culvert
//   - container.go makes the container and its volumes
//   - grace.go makes time for the drain
//   - pod_change.go applies the result, to a pod or as a JSON patch
package inject
