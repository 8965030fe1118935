package app

import (
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// What an earlier build wrote must stay readable: this is format 1.
const storedHello = "AaqGZvSM1JycfHhuL85JTS1QMDQwMCCU78nN9cMpHw2n5GgMSiSGRvBEYk50csSqE09yxKK+thYQAAD//w=="

func TestEncode_RoundTrip(t *testing.T) {
	eachFile(t, "good", func(t *testing.T, _ string, data []byte) {
		a := Stamp(nil, mustParse(t, string(data)), 1772366400007)
		a.LastScaling = 1772366400003
		stored, err := Encode(a)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(loaded.JSON()), string(a.JSON()); got != want {
			t.Errorf("loaded %s\nwant %s", got, want)
		}
		if Compare(a, loaded).Effect() != NoChange || loaded.Version != a.Version || loaded.LastScaling != a.LastScaling || loaded.LastConfigChange != a.LastConfigChange {
			t.Errorf("loaded %+v, want %+v", loaded, a)
		}
	})
}

func TestDecode_ReadsWhatEarlierBuildsWrote(t *testing.T) {
	stored, err := base64.StdEncoding.DecodeString(storedHello)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	if a.ID != "/hello" || a.Cmd != "sleep 1000" || a.Version != 1772366400007 || Compare(a, mustParse(t, `{"id":"/hello","cmd":"sleep 1000"}`)).Effect() != NoChange {
		t.Errorf("read %s", a.JSON())
	}
}

func TestEncode_SmallAppIsSmall(t *testing.T) {
	stored, err := Encode(Stamp(nil, mustParse(t, `{"id":"/shop/cart","cmd":"exec ./cart","cpus":0.5,"mem":256,"instances":5,"healthChecks":[{"path":"/health"}],"labels":{"service.name":"cart","secret.env.PW":"secret/shop/cart#password"}}`), 1772366400007))
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) > 200 {
		t.Errorf("%d bytes, want at most 200", len(stored))
	}
}

func TestP10_LargeDefinitionIsRefused(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var noise strings.Builder
	for range 100_000 {
		noise.WriteByte(byte('!' + random.IntN(90)))
	}
	a := mustParse(t, `{"id":"/a","cmd":"x"}`)
	a.Env = map[string]string{"NOISE": noise.String()}
	_, err := Encode(a)
	var problems *Error
	if !errors.As(err, &problems) || problems.Malformed {
		t.Errorf("error %v, want an *Error", err)
	}
}

func TestDecode_Bad(t *testing.T) {
	for name, data := range map[string]string{"empty": "", "newer format": "\x02abc", "not deflated": "\x01\xff\xff", "cut": "\x01\x4c"} {
		t.Run(name, func(t *testing.T) {
			if a, err := Decode([]byte(data)); err == nil {
				t.Errorf("read as %+v", a)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	stored, err := Encode(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stored)
	f.Add([]byte{storeFormat})
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := Decode(data); err == nil && a == nil {
			t.Error("neither app nor error")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := example().JSON()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	a := example()
	for b.Loop() {
		if _, err := Encode(a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	stored, err := Encode(example())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Decode(stored); err != nil {
			b.Fatal(err)
		}
	}
}
