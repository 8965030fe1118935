package payload

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func TestDecode_ReadsWhatEncodeWrote(t *testing.T) {
	want := &Task{App: "/shop/cart", Command: &Command{Shell: "exec ./cart"}, IdentityToken: "a.b.c", Shard: 3}
	data, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDecode_Refuses(t *testing.T) {
	marshal := func(task *Task) []byte {
		data, err := proto.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, tc := range []struct {
		name    string
		data    []byte
		version bool
		text    string
	}{
		{"newer version names both", marshal(&Task{Version: 7, Command: &Command{Shell: "x"}}), true, "version 7, this executor reads up to 1"},
		{"no version", marshal(&Task{Command: &Command{Shell: "x"}}), true, "has no version"},
		{"empty", nil, true, "has no version"},
		{"no command", marshal(&Task{Version: 1}), false, "no command"},
		{"two commands", marshal(&Task{Version: 1, Command: &Command{Shell: "x", Argv: []string{"y"}}}), false, "both"},
		{"not protobuf", []byte(`{"cmd":"s3cret"}`), false, "not the expected protobuf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Decode(tc.data)
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("error %v, want one with %q", err, tc.text)
			}
			if errors.Is(err, ErrVersion) != tc.version {
				t.Errorf("errors.Is(ErrVersion) = %v, want %v", !tc.version, tc.version)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Error("error quotes the payload")
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	data, err := Encode(&Task{Command: &Command{Argv: []string{"a", "b"}}, Environment: []*Variable{{Name: "N", Value: "v"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		task, err := Decode(data)
		if err == nil && task.GetCommand() == nil {
			t.Error("decoded a task without a command")
		}
	})
}
