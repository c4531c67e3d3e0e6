package upstream

import "golang.org/x/net/http2/hpack"

// literalOf is how grpc-go's HPACK encoder writes a value that it has no index for:
// shorter by Huffman's code, if that is shorter. RFC 7541 §5.2.
func literalOf(value string) string {
	if n := hpack.HuffmanEncodeLength(value); n < uint64(len(value)) {
		return string(hpack.AppendHuffmanString(make([]byte, 0, n), value))
	}
	return value
}

// eachLiteral yields the values in a header block that stand there as literals, as they
// are encoded, until yield returns false. It stops at what is no header block.
// RFC 7541 §6.
func eachLiteral(block []byte, yield func(value []byte) bool) {
	for len(block) > 0 {
		var ok, isLiteral bool
		var index uint64
		switch b := block[0]; {
		case b&0x80 != 0: // an indexed field
			_, block, ok = hpackInt(block, 7)
		case b&0x40 != 0: // a literal that is indexed from now on
			isLiteral = true
			index, block, ok = hpackInt(block, 6)
		case b&0x20 != 0: // the size of the table
			_, block, ok = hpackInt(block, 5)
		default: // another literal
			isLiteral = true
			index, block, ok = hpackInt(block, 4)
		}
		if ok && isLiteral && index == 0 {
			_, block, ok = hpackString(block) // the name
		}
		if !ok {
			return
		}
		if !isLiteral {
			continue
		}
		var value []byte
		value, block, ok = hpackString(block)
		if !ok || !yield(value) {
			return
		}
	}
}

// hpackInt reads an integer with a prefix of n bits. RFC 7541 §5.1.
func hpackInt(b []byte, n uint) (v uint64, rest []byte, ok bool) {
	most := byte(1<<n - 1)
	v = uint64(b[0] & most)
	if v < uint64(most) {
		return v, b[1:], true
	}
	for i := 1; i < len(b) && i <= 5; i++ {
		v += uint64(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return v, b[i+1:], true
		}
	}
	return 0, nil, false
}

// hpackString reads a string, as it is encoded. RFC 7541 §5.2.
func hpackString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	n, b, ok := hpackInt(b, 7)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
