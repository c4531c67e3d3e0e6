// Package headers decides which headers of a request cross to the backend as metadata,
// and which metadata crosses back. It knows no calls and no policies: its functions get
// headers, and what the policy allows. What a route adds or removes comes afterwards
// (bridge/routes.go, edit).
//
//   - table.go: the tables of names that don't cross unchanged.
//   - rules.go: the rule for a name, also for one that imitates a name of the table.
//   - vouched.go: the names that the operator adds.
//   - metadata.go: metadata made from headers, and its size.
//   - client.go: the metadata that culvert itself adds about the client, or passes on by
//     another name.
//   - fallback.go: the headers that the web server gets.
package headers
