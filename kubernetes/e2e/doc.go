// Package e2e tests the built culvert-kube with a real API server, its controllers
// and kubectl. "make test-apiserver" runs the tests.
//
// main_test.go builds the programs and starts the cluster, which all tests share. The
// files harness_*_test.go have the helpers, the others the tests.
package e2e
