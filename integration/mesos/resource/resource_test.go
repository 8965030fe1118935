package resource

import (
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

func parse(t *testing.T, text string) Set {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func scalar(name string, v float64) mesos.Resource {
	kind := mesos.SCALAR
	return mesos.Resource{Name: name, Type: &kind, Scalar: &mesos.Value_Scalar{Value: v}}
}

func TestArithmetic(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"fixed point", parse(t, "cpus:0.3").Minus(parse(t, "cpus:0.1")).Minus(parse(t, "cpus:0.2")).String(), "{}"},
		{"ports cut from the middle", parse(t, "ports:[31000-32000]").Minus(parse(t, "ports:[31005-31006]")).String(),
			"ports:[31000-31004, 31007-32000]"},
		{"ports grow together again", parse(t, "ports:[1-3, 7-9]").Plus(parse(t, "ports:[4-6]")).String(), "ports:[1-9]"},
		{"other reservations stay apart", parse(t, "cpus(r1):1;cpus:2").Plus(parse(t, "cpus:1")).String(),
			"cpus(reservations: [(STATIC,r1)]):1; cpus:3"},
		{"sets", parse(t, "n:{b,a}").Plus(parse(t, "n:{c}")).Minus(parse(t, "n:{a}")).String(), "n:{b, c}"},
		{"allocation is named", parse(t, "cpus:3.8;mem:4032").Allocated("r1").String(),
			"cpus(allocated: r1):3.8; mem(allocated: r1):4032"},
		{"the order of an offer", parse(t, "cpus:3;mem:3072;disk:4096;ports:[31000-32000];cpus(r1):1;cpus(r2):1").OfferedTo("r1").String(),
			"ports:[31000-32000]; cpus(reservations: [(STATIC,r1)]):1; cpus:3; mem:3072; disk:4096"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestContains(t *testing.T) {
	offer := parse(t, "cpus:1;mem:64;ports:[31000-31010]")
	for _, c := range []struct {
		name, want string
		is         bool
	}{
		{"all of it", "cpus:1;mem:64;ports:[31000-31010]", true},
		{"a part", "cpus:0.5;ports:[31003-31004]", true},
		{"nothing", "", true},
		{"too many cpus", "cpus:1.001", false},
		{"a port outside", "ports:[31010-31011]", false},
		{"another reservation", "cpus(r1):0.1", false},
		{"another name", "disk:1", false},
	} {
		if got := offer.Contains(parse(t, c.want)); got != c.is {
			t.Errorf("%s: %v, want %v", c.name, got, c.is)
		}
	}
}

func TestInvalidResourcesAreRefusedInMesosWords(t *testing.T) {
	ranges := mesos.RANGES
	for _, c := range []struct {
		name string
		in   mesos.Resource
		want string
	}{
		{"negative", scalar("cpus", -1), "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"},
		{"rounds to zero", scalar("cpus", 0.0004), "Resource 'cpus:0' is invalid: Invalid scalar resource: value <= 0"},
		{"half a gpu", scalar("gpus", 0.5), "Resource 'gpus:0.5' is invalid: The 'gpus' resource must be an unsigned integer"},
		{"overlap", mesos.Resource{Name: "ports", Type: &ranges, Ranges: &mesos.Value_Ranges{
			Range: []mesos.Value_Range{{Begin: 1, End: 3}, {Begin: 2, End: 4}}}},
			"Resource 'ports:[1-3, 2-4]' is invalid: Invalid ranges resource: Overlapping ranges"},
	} {
		if _, err := From([]mesos.Resource{c.in}); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	if s, err := From([]mesos.Resource{scalar("cpus", 0), scalar("mem", 32)}); err != nil || s.String() != "mem:32" {
		t.Errorf("a zero resource: got %v, %v; want it dropped", s, err)
	}
}

func TestFormats(t *testing.T) {
	s := parse(t, "cpus(r1):1;mem:32").Allocated("r1")
	old := s.Proto(Format{})
	if old[0].GetRole() != "r1" || len(old[0].Reservations) != 0 || old[1].GetRole() != "*" || old[0].AllocationInfo != nil {
		t.Errorf("old format: %+v", old)
	}
	refined := s.Proto(Internal)
	if len(refined[0].Reservations) != 1 || refined[0].Role != nil || len(refined[1].Reservations) != 0 || refined[1].Role != nil {
		t.Errorf("refined format: %+v", refined)
	}
	for _, f := range []Format{Internal, Operator} {
		if back, err := From(s.Proto(f)); err != nil || !back.Equal(s) {
			t.Errorf("%+v: back to %v, %v; want %v", f, back, err, s)
		}
	}
}

func TestParseAttributes(t *testing.T) {
	got, err := ParseAttributes("rack:r1;level:3;ports:[1-5];odd:a:b")
	if err != nil || len(got) != 4 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0].GetText().GetValue() != "r1" || got[1].GetScalar().GetValue() != 3 || got[2].GetRanges().Range[0].End != 5 || got[3].GetText().GetValue() != "a:b" {
		t.Errorf("%v", got)
	}
	if _, err := ParseAttributes("rack"); err == nil {
		t.Error("a name without a value was accepted")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"cpus:4;mem:4096", "ports:[1-2,5-9]", "n:{a,b}", "cpus(r1):0.001", "a:[18446744073709551615-18446744073709551615]", ";;", "x(:1", "ports:[3-1]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if back, err := From(s.Proto(Internal)); err != nil || !back.Equal(s) {
			t.Fatalf("%q: %v became %v, %v", text, s, back, err)
		}
		if !s.Contains(s) || len(s.Minus(s)) != 0 {
			t.Fatalf("%q: %v minus itself is %v", text, s, s.Minus(s))
		}
	})
}
