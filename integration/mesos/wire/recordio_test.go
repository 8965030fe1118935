package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRecordReader(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		records      []string
		want         error
	}{
		{"none", "", nil, io.EOF},
		{"two", "3\nabc1\nd", []string{"abc", "d"}, io.EOF},
		{"empty record", "0\n2\nab", []string{"", "ab"}, io.EOF},
		{"cut in the length", "3\nabc1", []string{"abc"}, io.ErrUnexpectedEOF},
		{"cut in the payload", "3\nab", nil, io.ErrUnexpectedEOF},
		{"cut before the payload", "3\n", nil, io.ErrUnexpectedEOF},
		{"letters", "x\n", nil, ErrFraming},
		{"negative", "-1\n", nil, ErrFraming},
		{"no digits", "\nabc", nil, ErrFraming},
		{"too long", "101\n", nil, ErrFraming},
		{"overflow", "99999999999999999999999999\n", nil, ErrFraming},
	} {
		t.Run(c.name, func(t *testing.T) {
			reader := NewRecordReader(iotest.OneByteReader(strings.NewReader(c.stream)), 100)
			for _, want := range c.records {
				got, err := reader.Next()
				if err != nil || string(got) != want {
					t.Fatalf("record %q, %v; want %q", got, err, want)
				}
			}
			if got, err := reader.Next(); !errors.Is(err, c.want) {
				t.Errorf("at the end: %q, %v; want %v", got, err, c.want)
			}
		})
	}
}

func FuzzRecordReader(f *testing.F) {
	f.Add([]byte("3\nabc0\n1\nd"))
	f.Add([]byte("67108864\nshort"))
	f.Add([]byte("007\n1234567"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		reader := NewRecordReader(bytes.NewReader(stream), 0)
		var again []byte
		for {
			payload, err := reader.Next()
			if err != nil {
				break
			}
			again = AppendRecord(again, payload)
		}
		if len(again) > len(stream) {
			t.Errorf("%q was read as %q", stream, again)
		}
	})
}
