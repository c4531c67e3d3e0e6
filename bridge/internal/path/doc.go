// Package path has the service culvert.v1.Path, which culvert answers itself. Clients use it
// to find out what the network between them and culvert lets through. The service dials
// nothing and keeps no state beyond its calls.
//
// It is a grpc.Server in this process, and a backend to the bridge like any other, so every
// transport carries its calls. The package knows no calls of the bridge: what the service has
// to know of one comes in metadata that only the bridge can set (report.go).
//
//   - service.go: the start and the end of the server, and its quota.
//   - echo.go: the methods, and the bounds of a call.
//   - report.go: the facts that Report returns.
//   - describe.go: the service's descriptors.
//   - page.go: the doctor's page, which calls the service from a browser.
package path
