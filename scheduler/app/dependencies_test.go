package app

import (
	"slices"
	"testing"
)

func TestDependencies_AreAbsolute(t *testing.T) {
	a, err := Parse([]byte(`{"dependencies":["db","/other/db","../x"],"id":"/shop/eu/cart","cmd":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/shop/eu/db", "/other/db", "/shop/x"}
	if !slices.Equal(a.Dependencies, want) {
		t.Errorf("%v, want %v", a.Dependencies, want)
	}
	stored, err := Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Decode(stored); err != nil || !slices.Equal(again.Dependencies, want) {
		t.Errorf("from the store: %v, %v", again, err)
	}
	if b, err := a.Merge([]byte(`{"dependencies":[]}`)); err != nil || len(b.Dependencies) != 0 {
		t.Errorf("taken back: %v, %v", b, err)
	}
}
