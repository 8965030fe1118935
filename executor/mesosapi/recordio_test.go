package mesosapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(r io.Reader) (records []string, err error) {
	reader := NewRecordReader(r)
	for {
		record, err := reader.Next()
		if err != nil {
			return records, err
		}
		records = append(records, string(record))
	}
}

func TestRecordReader(t *testing.T) {
	tests := []struct {
		name, stream string
		want         []string
		err          error
	}{
		{"nothing", "", nil, io.EOF},
		{"two records", "5\nhello3\nyou", []string{"hello", "you"}, io.EOF},
		{"empty record", "0\n1\nx", []string{"", "x"}, io.EOF},
		{"leading zeros", "0003\nabc", []string{"abc"}, io.EOF},
		{"line feed in a record", "3\na\nb1\nc", []string{"a\nb", "c"}, io.EOF},
		{"ends in a length", "5\nhello1", []string{"hello"}, io.ErrUnexpectedEOF},
		{"ends after a length", "5\n", nil, io.ErrUnexpectedEOF},
		{"ends in a record", "5\nhel", nil, io.ErrUnexpectedEOF},
		{"no length", "\nhello", nil, ErrFraming},
		{"negative", "-5\nhello", nil, ErrFraming},
		{"sign", "+5\nhello", nil, ErrFraming},
		{"space", " 5\nhello", nil, ErrFraming},
		{"carriage return", "5\r\nhello", nil, ErrFraming},
		{"a page instead", "<html>", nil, ErrFraming},
		{"too long", fmt.Sprint(MaxRecord+1) + "\n", nil, ErrFraming},
		{"overflow", strings.Repeat("9", 40) + "\n", nil, ErrFraming},
		{"endless zeros", strings.Repeat("0", 40) + "\n", nil, ErrFraming},
	}
	// How the bytes arrive must make no difference.
	readers := map[string]func(io.Reader) io.Reader{
		"whole":        func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"halves":       iotest.HalfReader,
		"data and EOF": iotest.DataErrReader,
	}
	for _, tt := range tests {
		for how, wrap := range readers {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				got, err := readAll(wrap(strings.NewReader(tt.stream)))
				if !errors.Is(err, tt.err) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
				if fmt.Sprint(got) != fmt.Sprint(tt.want) || len(got) != len(tt.want) {
					t.Errorf("records %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestRecordReader_DoesNotTrustTheLength(t *testing.T) {
	stream := fmt.Sprintf("%d\nshort", MaxRecord)
	allocated := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := readAll(strings.NewReader(stream)); err != io.ErrUnexpectedEOF {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 1<<20 {
		t.Errorf("%d bytes allocated for a record that never came", allocated)
	}
}

func TestRecordReader_LargeRecordIsNotKept(t *testing.T) {
	large := strings.Repeat("x", 5<<20)
	reader := NewRecordReader(strings.NewReader(fmt.Sprintf("%d\n%s1\ny", len(large), large)))
	record, err := reader.Next()
	if err != nil || string(record) != large {
		t.Fatalf("%d bytes, %v", len(record), err)
	}
	if record, err = reader.Next(); err != nil || string(record) != "y" {
		t.Fatalf("%q, %v", record, err)
	}
	if reader.buf.Cap() > keepBuffer {
		t.Errorf("a buffer of %d bytes is kept after a large record", reader.buf.Cap())
	}
}

func FuzzRecordReader(f *testing.F) {
	for _, seed := range []string{"", "5\nhello", "0\n", "1\nx2\nyz", "9999999999\n", "5\nhel", "-1\n", "\n", "00005\nhello"} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		whole, wholeErr := readAll(bytes.NewReader(stream))
		parts, partsErr := readAll(&chunks{stream, chunk})
		if fmt.Sprintf("%q", whole) != fmt.Sprintf("%q", parts) || fmt.Sprint(wholeErr) != fmt.Sprint(partsErr) {
			t.Fatalf("chunking matters: %q %v, %q %v", whole, wholeErr, parts, partsErr)
		}
		// What was read must be in the stream in the same order.
		rest := stream
		for _, record := range whole {
			i := bytes.Index(rest, []byte(record))
			if i < 0 {
				t.Fatalf("record %q is not in the stream", record)
			}
			rest = rest[i+len(record):]
		}
	})
}

// chunks reads at most size bytes at a time.
type chunks struct {
	data []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(c.data), max(1, c.size))
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}
