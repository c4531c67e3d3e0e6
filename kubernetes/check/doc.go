// Package check finds what is wrong with culvert in a cluster, or in manifests.
//
// [Run] is a function from a [Snapshot] to findings. It reads no files and opens no
// connections. Package cluster, below, fills the snapshot from an API server. The
// files:
//
//   - snapshot.go has the objects, and keeps only what the checks look at
//   - files.go takes them from manifests
//   - subject.go joins workloads with their pods, and finds culvert's ports
//   - run.go calls the checks; each file below is about one subject's part
//   - injection.go: who gets culvert, is refused, is outdated
//   - configuration.go: the ConfigMap with culvert's configuration
//   - status.go: culvert's container doesn't start
//   - ending.go: what the pod needs to end without losing calls
//   - service.go and policy.go: who reaches culvert, and who gets past it
//   - webhook.go: whether the API server can call the injector
//   - finding.go has the result
package check
