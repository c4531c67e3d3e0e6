// Package docs runs what culvert's documents say: every command, configuration
// and snippet in README.md, docs/ and the other Markdown of the repository, each
// against the real program before a real gRPC server. A block that is neither
// run nor listed with how it is shown otherwise fails the test.
//
// Where to look:
//
//   - markdown_test.go: pages, their headings, links and fenced blocks
//   - blocks_test.go: what is done with a block, by its language, and the list
//     of those that can't be run as they stand
//   - run_*_test.go: how each language is run
//   - project_test.go: the reader's project, which the blocks of a client's page
//     build up; generate_test.go: protoc's plugins in it
//   - front_calls_test.go: the calls that a proxy in front of culvert has to pass
//   - links_test.go, names_test.go: links and anchors; flags, keys, variables,
//     reasons and tests that the documents name
//   - screenshot_test.go: the demo's page in Chromium, its picture and its animation
//   - images_test.go: pictures, and drawings in the light and in the dark
//   - evidence_test.go: the log lines and error texts that the documents quote,
//     provoked anew
//   - claims: the page of what the security model claims, with the tests of each claim
//   - world_test.go: the network namespace that all of it happens in, where the
//     documents' own names and ports are free to use
package docs
