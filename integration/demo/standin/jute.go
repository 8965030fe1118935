package standin

import (
	"encoding/binary"
	"errors"
)

var errShort = errors.New("message too short")

// reader decodes ZooKeeper's jute encoding: big-endian integers, and byte
// strings behind their length. After the first error all else is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.rest) {
		r.err = errShort
		return make([]byte, 8)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) int32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }
func (r *reader) int64() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }
func (r *reader) bool() bool   { return r.take(1)[0] != 0 }

func (r *reader) bytes() []byte {
	n := r.int32()
	if n <= 0 || r.err != nil {
		return nil
	}
	b := r.take(int(n))
	if r.err != nil {
		return nil
	}
	return append([]byte(nil), b...)
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) strings() []string {
	var list []string
	for n := r.int32(); n > 0 && r.err == nil; n-- {
		list = append(list, r.string())
	}
	return list
}

// writer is the reverse of reader.
type writer []byte

func (w *writer) int32(v int32) { *w = binary.BigEndian.AppendUint32(*w, uint32(v)) }
func (w *writer) int64(v int64) { *w = binary.BigEndian.AppendUint64(*w, uint64(v)) }

func (w *writer) bytes(v []byte) {
	w.int32(int32(len(v)))
	*w = append(*w, v...)
}

func (w *writer) string(v string) { w.bytes([]byte(v)) }

func (w *writer) strings(v []string) {
	w.int32(int32(len(v)))
	for _, s := range v {
		w.string(s)
	}
}
