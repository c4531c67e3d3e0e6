// Package kubelet tests culvert on a real node: a kubelet with containerd and runc
// runs pods that the real injector, installed from install.yaml, has changed.
// "make test-kubelet" runs the tests, as root on Linux.
//
// main_test.go builds the programs and images, and runs the tests in namespaces of
// their own. These end with the tests, and so do all processes, mounts and networks.
// The files harness_*_test.go have the parts of the node and the helpers, the others
// the tests.
package kubelet
