// Package controlplane runs a real Kubernetes control plane for tests: etcd,
// kube-apiserver and kube-controller-manager, on addresses of this machine. Nodes
// are the caller's own affair: without one, pods stay pending.
//
//   - cluster.go starts the programs, in order, and stops them
//   - arguments.go has their arguments
//   - authority.go issues their certificates
//   - kubeconfig.go writes the files with which users reach the API server
//   - program.go finds the programs, and builds them if need be
//   - process.go runs one program and keeps its output
//   - await.go waits for objects
//   - again.go runs the tests a second time, in namespaces of their own
package controlplane
