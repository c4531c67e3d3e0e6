package proxytls

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"strings"
)

// pemBlocks returns the blocks of data in PEM form. pem.Decode passes over one
// that is damaged or cut off, and whoever went on behind it would take what is
// left for all: a chain without those in between, a list that names nobody who
// was revoked. Here that is an error.
func pemBlocks(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	begun := 0
	for line := range bytes.Lines(data) {
		line = bytes.TrimPrefix(bytes.TrimSpace(line), byteOrderMark) // of a file that was put behind another
		if bytes.HasPrefix(line, []byte("-----BEGIN")) {
			begun++
		}
	}
	if begun != len(blocks) {
		return nil, fmt.Errorf("of its %d PEM blocks only %d can be read: one is truncated, damaged or indented", begun, len(blocks))
	}
	return blocks, nil
}

// kinds says which kinds of PEM block there are.
func kinds(blocks []*pem.Block) (certificate, privateKey bool) {
	for _, block := range blocks {
		certificate = certificate || block.Type == "CERTIFICATE"
		privateKey = privateKey || strings.HasSuffix(block.Type, "PRIVATE KEY")
	}
	return certificate, privateKey
}
