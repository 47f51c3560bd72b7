package api

import (
	"hash/fnv"
	"strconv"
)

// ID names an allocation or an evaluation. It is an ordered key: IDs minted later compare greater. The high 32 bits are
// the cluster's epoch, raised by a disaster restore so that IDs lost with the old state are not handed out again; the
// low 32 bits are a counter kept in the state. Zero is no ID.
//
// Machines exchange the number. People see the text that IDText makes of it.
type ID uint64

// MakeID puts an ID together.
func MakeID(epoch, counter uint32) ID { return ID(epoch)<<32 | ID(counter) }

// Epoch returns the high half.
func (id ID) Epoch() uint32 { return uint32(id >> 32) }

// IDText converts between IDs and the 16 hexadecimal digits that people see. The first eight digits are a bijection of
// the counter keyed by the cluster, so that neighbours in time look different from their first character on and a short
// prefix is enough to name one; the last eight are the epoch. The zero value is the text of a cluster that has no ID yet.
type IDText struct{ key [4]uint32 }

// NewIDText returns the conversion for the cluster with this ID. Equal cluster IDs give equal texts on every machine.
func NewIDText(clusterID string) IDText {
	var t IDText
	for i := range t.key {
		h := fnv.New32a()
		h.Write([]byte{byte(i)})
		h.Write([]byte(clusterID))
		t.key[i] = mix32(h.Sum32())
	}
	return t
}

// Format returns the text of id.
func (t IDText) Format(id ID) string {
	const digits = "0123456789abcdef"
	v := uint64(t.scramble(uint32(id)))<<32 | uint64(id.Epoch())
	var b [16]byte
	for i := 15; i >= 0; i-- {
		b[i] = digits[v&15]
		v >>= 4
	}
	return string(b[:])
}

// Parse reads a whole 16-digit text. ok is false for anything else; prefixes are resolved against the state instead.
func (t IDText) Parse(s string) (id ID, ok bool) {
	if len(s) != 16 {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, false
	}
	return MakeID(uint32(v), t.unscramble(uint32(v>>32))), true
}

// scramble is a four-round balanced Feistel network over 2 x 16 bits: any round function makes it a bijection.
func (t IDText) scramble(v uint32) uint32 {
	l, r := uint16(v>>16), uint16(v)
	for _, k := range t.key {
		l, r = r, l^uint16(mix32(uint32(r)^k))
	}
	return uint32(l)<<16 | uint32(r)
}

func (t IDText) unscramble(v uint32) uint32 {
	l, r := uint16(v>>16), uint16(v)
	for i := len(t.key) - 1; i >= 0; i-- {
		l, r = r^uint16(mix32(uint32(l)^t.key[i])), l
	}
	return uint32(l)<<16 | uint32(r)
}

// mix32 is the finalizer of MurmurHash3 (Austin Appleby, public domain): every input bit reaches every output bit.
func mix32(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}
