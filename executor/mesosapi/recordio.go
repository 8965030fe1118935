package mesosapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxRecord is the size in bytes of the largest record that is read. The
// largest seen in practice is an OFFERS event of some 10,000 agents (5 MB).
const MaxRecord = 64 << 20

// keepBuffer is the capacity up to which a record's buffer is kept for the
// next one. A rare large record must not stay in memory for the stream's life.
const keepBuffer = 256 << 10

// ErrFraming is wrapped by errors about bytes that are not RecordIO.
var ErrFraming = errors.New("stream is not RecordIO")

// RecordReader splits a stream into records: the length in ASCII decimal
// digits, a line feed, that many bytes, and directly the next length.
type RecordReader struct {
	in  *bufio.Reader
	buf bytes.Buffer
}

// NewRecordReader reads records from r, whose reads may be of any size.
func NewRecordReader(r io.Reader) *RecordReader {
	return &RecordReader{in: bufio.NewReaderSize(r, 8<<10)}
}

// Next returns the next record, which is valid until the following call.
// It returns io.EOF at an end between records, io.ErrUnexpectedEOF within one,
// and an error that wraps [ErrFraming] if the length is not one of at most
// [MaxRecord].
func (r *RecordReader) Next() ([]byte, error) {
	length, err := r.length()
	if err != nil {
		return nil, err
	}
	if r.buf.Cap() > keepBuffer {
		r.buf = bytes.Buffer{}
	}
	r.buf.Reset()
	// CopyN grows the buffer with what has really arrived: a length alone makes
	// nobody allocate 64 MiB.
	if _, err := io.CopyN(&r.buf, r.in, int64(length)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return r.buf.Bytes(), nil
}

func (r *RecordReader) length() (int, error) {
	length := 0
	for digits := 0; ; digits++ {
		b, err := r.in.ReadByte()
		switch {
		case err == io.EOF && digits > 0:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case b == '\n' && digits > 0:
			return length, nil
		case b < '0' || b > '9':
			return 0, fmt.Errorf("%w: byte %#02x in the length of a record", ErrFraming, b)
		}
		// The limit is tested at each digit, so that length cannot overflow.
		if length = length*10 + int(b-'0'); length > MaxRecord || digits >= 20 {
			return 0, fmt.Errorf("%w: record longer than %d bytes", ErrFraming, MaxRecord)
		}
	}
}
