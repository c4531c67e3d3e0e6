// Package descriptor knows the messages of methods by their descriptors, and converts them
// from JSON and to JSON. It knows no calls and no connections: its functions get
// descriptors and bytes.
//
//   - methods.go: a Set of descriptors, and what it says of methods and messages
//   - file.go: a Set read from a file: a FileDescriptorSet, or a Buf image
//   - fetch.go: a Set fetched file by file, as server reflection gives it
//   - json.go: messages from JSON and to JSON
//   - cost.go: how much memory a conversion takes
//   - position.go: where in a JSON text a mistake is
package descriptor
