// Package admin answers the people and programs that run culvert. health.go answers
// a supervisor over HTTP, and health_grpc.go over gRPC; both only read. control.go
// answers an operator on the same host, and control_guard.go refuses everybody else.
// The package uses the state and the functions that it is given.
package admin
