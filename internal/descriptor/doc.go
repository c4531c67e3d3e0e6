// Package descriptor knows the messages of methods by their descriptors, and converts them
// from JSON and to JSON. It knows no calls and no connections: its functions get
// descriptors and bytes.
//
//   - methods.go: a Set of descriptors, and its methods and messages
//   - check.go: the checks of a file before protobuf-go sees it
//   - own.go: protobuf-go's own files and types, which a set has in place of others
//   - find.go: what a Set has under a name
//   - link.go: a Set of files that are checked
//   - file.go: a Set read from a file: a FileDescriptorSet, or a Buf image
//   - fetch.go: a Set fetched file by file, as server reflection gives it
//   - reflection.go: the questions and answers of server reflection
//   - unknown.go: types and extensions that messages use and their files don't import
//   - wire.go: the fields of a message in the wire form
//   - json.go: the conversion from JSON and to JSON
//   - cost.go, cost_read.go: how much memory a conversion takes, and whether a message is
//     too deep for it
//   - position.go: the place of a mistake in a JSON text
package descriptor
