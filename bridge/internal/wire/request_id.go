package wire

import "golang.org/x/net/http2/hpack"

const idHeader = "x-request-id"

// requestIDs reads the ids of calls in the header blocks that grpc-go writes. Of HPACK's
// dynamic table it knows how long each field is, and the ids: a decoder makes strings of all
// fields, and moves its whole table for each new id. RFC 7541.
type requestIDs struct {
	table fifo[tableField]
	size  uint64 // of the table's fields
	limit uint64 // of size
	begun []byte // of a block whose rest follows

	literal tableField // the last one that was written out
}

// A tableField is a field of HPACK's tables.
type tableField struct {
	name uint64 // bytes
	size uint64 // in the dynamic table. RFC 7541 §4.1
	isID bool
	id   string // the value, if isID
}

// read reads a part of a header block. With the last one it returns the block's id, "" if there
// is none, and false if this isn't a block of HPACK.
func (r *requestIDs) read(part []byte, ends bool) (id string, ok bool) {
	if !ends || len(r.begun) > 0 {
		r.begun = append(r.begun, part...)
		part = r.begun
	}
	if !ends {
		return "", true
	}
	r.begun = nil
	b := headerBlock{rest: part}
	for len(b.rest) > 0 && !b.isWrong {
		var f *tableField
		if first := b.rest[0]; 1<<7 < first && first < 1<<8-1 { // most fields are an index of one byte
			f, b.rest = r.field(&b, uint64(first&^(1<<7))), b.rest[1:]
		} else {
			f = r.readField(&b)
		}
		if f.isID {
			id = f.id
		}
	}
	return id, !b.isWrong
}

// readField reads the representation of a field, or of the table's new limit, which is no field
// of a call. RFC 7541 §6.
func (r *requestIDs) readField(b *headerBlock) *tableField {
	switch first := b.rest[0]; {
	case first >= 1<<7:
		return r.field(b, b.integer(7))
	case first >= 1<<6:
		f := r.readLiteral(b, 6)
		r.table.push(*f)
		r.size += f.size
		r.evict()
		return f
	case first >= 1<<5:
		r.limit = b.integer(5)
		r.evict()
		return &staticTable[0]
	}
	return r.readLiteral(b, 4) // which isn't indexed
}

// readLiteral reads a field whose value, and perhaps its name, is written out. The index of the
// name begins in the first byte's last bits. RFC 7541 §6.2.
func (r *requestIDs) readLiteral(b *headerBlock, bits int) *tableField {
	f := &r.literal
	*f = tableField{}
	if index := b.integer(bits); index > 0 {
		known := r.field(b, index)
		f.name, f.isID = known.name, known.isID
	} else {
		name := b.text()
		f.name, f.isID = uint64(len(name)), name == idHeader
	}
	value := b.text()
	if f.isID {
		f.id = value
	}
	f.size = f.name + uint64(len(value)) + 32
	return f
}

// field returns the field of an index. RFC 7541 §2.3.3.
func (r *requestIDs) field(b *headerBlock, index uint64) *tableField {
	if index < uint64(len(staticTable)) {
		b.isWrong = b.isWrong || index == 0
		return &staticTable[index]
	}
	back := index - uint64(len(staticTable))
	if back >= uint64(r.table.len()) {
		b.isWrong = true
		return &staticTable[0]
	}
	return &r.table.all[len(r.table.all)-1-int(back)]
}

// evict takes the oldest fields out until the others are within the limit. RFC 7541 §4.3.
func (r *requestIDs) evict() {
	for r.size > r.limit {
		f, _ := r.table.pop()
		r.size -= f.size
	}
}

// staticTable has the lengths of the names in HPACK's static table, which begins with 1. RFC
// 7541 Appendix A.
var staticTable = func() (table [62]tableField) {
	for i, name := range [len(table)]uint8{
		0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14,
		15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12,
		6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12,
		18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
	} {
		table[i].name = uint64(name)
	}
	return table
}()

// A headerBlock is the rest of a header block. Once it is wrong, what is read of it means
// nothing.
type headerBlock struct {
	rest    []byte
	isWrong bool
}

// integer reads an integer that begins in the last bits of a byte. RFC 7541 §5.1.
func (b *headerBlock) integer(bits int) uint64 {
	most := uint64(1)<<bits - 1
	n := uint64(b.rest[0]) & most
	b.rest = b.rest[1:]
	for shift := 0; n >= most; shift += 7 {
		if len(b.rest) == 0 || shift > 56 {
			b.isWrong = true
			return 0
		}
		next := b.rest[0]
		b.rest = b.rest[1:]
		n += uint64(next&^0x80) << shift
		if next < 0x80 {
			break
		}
	}
	return n
}

// text reads a string, which may be in Huffman's code. RFC 7541 §5.2.
func (b *headerBlock) text() string {
	if len(b.rest) == 0 {
		b.isWrong = true
		return ""
	}
	huffman := b.rest[0] >= 1<<7
	n := b.integer(7)
	if n > uint64(len(b.rest)) {
		b.isWrong = true
		return ""
	}
	coded := b.rest[:n]
	b.rest = b.rest[n:]
	if !huffman {
		return string(coded)
	}
	text, err := hpack.HuffmanDecodeToString(coded)
	b.isWrong = b.isWrong || err != nil
	return text
}
