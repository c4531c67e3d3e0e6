// Package admin answers the people and programs that run culvert. health.go answers
// a supervisor over HTTP, and health_grpc.go over gRPC; both only read. control.go
// answers operators, and control_guard.go refuses everybody else. access.go lets operators in
// from other hosts, by a token (token.go) or by the form of login.go; login_sessions.go is its state.
// data.go has what the operator's programs read as JSON, data_pages.go serves it, and
// text.go bounds and escapes the text of peers in it. page.go serves a page to browsers
// that shows it. The package uses the state and the functions that it is given.
package admin

//go:generate go test -count=1 -run "^(TestDataIsGolden|TestGeneratedPage)$" . -update
