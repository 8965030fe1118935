package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxRecord is the largest record and request body that is accepted, in bytes.
const MaxRecord = 64 << 20

// AppendRecord appends one RecordIO record to out.
func AppendRecord(out, payload []byte) []byte {
	out = strconv.AppendInt(out, int64(len(payload)), 10)
	out = append(out, '\n')
	return append(out, payload...)
}

// ErrFraming says that a stream is not RecordIO or a record is too long.
var ErrFraming = errors.New("broken RecordIO framing")

// RecordReader reads RecordIO records.
type RecordReader struct {
	in  *bufio.Reader
	max int
}

// NewRecordReader reads from r. Records longer than max bytes are an error; max 0
// means MaxRecord.
func NewRecordReader(r io.Reader, max int) *RecordReader {
	if max <= 0 {
		max = MaxRecord
	}
	return &RecordReader{in: bufio.NewReader(r), max: max}
}

// Next returns the next record's payload in memory of its own. The error is
// io.EOF between records, io.ErrUnexpectedEOF inside one, and wraps ErrFraming
// when the length is not a plain decimal number.
func (r *RecordReader) Next() ([]byte, error) {
	length := 0
	for digits := 0; ; digits++ {
		c, err := r.in.ReadByte()
		if err != nil {
			if err == io.EOF && digits > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if c == '\n' && digits > 0 {
			break
		}
		if c < '0' || c > '9' {
			return nil, fmt.Errorf("%w: byte %q in a record's length", ErrFraming, c)
		}
		if length = length*10 + int(c-'0'); length > r.max {
			return nil, fmt.Errorf("%w: record longer than %d bytes", ErrFraming, r.max)
		}
	}
	// Grown while it arrives, so that a wrong length costs nothing.
	var payload []byte
	for len(payload) < length {
		start := len(payload)
		payload = append(payload, make([]byte, min(length-start, 1<<20))...)
		if _, err := io.ReadFull(r.in, payload[start:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return payload, nil
}
