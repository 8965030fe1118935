package resource

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Format says how Proto renders reservations and allocation.
type Format struct {
	// Refined renders reservations as a stack; otherwise as role, with reservation
	// for a dynamic one, and role "*" for what is not reserved.
	Refined bool
	// Allocation keeps allocation_info.
	Allocation bool
}

// Internal is the form in which resources are kept and sent to agents.
var Internal = Format{Refined: true, Allocation: true}

// Operator is the form of the operator API.
var Operator = Format{Refined: false, Allocation: true}

// From reads resources in either format. Zero quantities are dropped. An error
// says which resource is invalid and why, in Mesos' words.
func From(in []mesos.Resource) (Set, error) {
	var out Set
	for i := range in {
		o, err := fromProto(&in[i])
		if err != nil {
			return nil, err
		}
		out = out.with(o)
	}
	return out, nil
}

// MustFrom is From for resources that have been checked before; invalid ones are
// left out.
func MustFrom(in []mesos.Resource) Set {
	var out Set
	for i := range in {
		if o, err := fromProto(&in[i]); err == nil {
			out = out.with(o)
		}
	}
	return out
}

// Refine brings resources that have been checked before to the Internal form one by
// one: unlike in a Set, empty ones stay and repeated ones are not added up.
func Refine(in []mesos.Resource) []mesos.Resource {
	var out []mesos.Resource
	for i := range in {
		if o, err := fromProto(&in[i]); err == nil {
			out = append(out, Set{o}.Proto(Internal)...)
		}
	}
	return out
}

func fromProto(r *mesos.Resource) (one, error) {
	invalid := func(o one, format string, arguments ...any) (one, error) {
		//lint:ignore ST1005 the text reaches schedulers as Mesos writes it
		return one{}, fmt.Errorf("Resource '%s' is invalid: %s", o, fmt.Sprintf(format, arguments...))
	}
	like := *r
	if len(like.Reservations) == 0 && like.GetRole() != "*" && like.GetRole() != "" {
		kind := mesos.Resource_ReservationInfo_STATIC
		role := like.GetRole()
		reserved := mesos.Resource_ReservationInfo{Type: &kind, Role: &role}
		if dynamic := like.Reservation; dynamic != nil {
			kind = mesos.Resource_ReservationInfo_DYNAMIC
			reserved.Principal, reserved.Labels = dynamic.Principal, dynamic.Labels
		}
		like.Reservations = []mesos.Resource_ReservationInfo{reserved}
	}
	o := newOne(r.Name, r.GetType(), like)
	if r.Name == "" {
		return invalid(o, "Empty resource name")
	}
	if r.Type == nil {
		return invalid(o, "Invalid resource type")
	}
	switch r.GetType() {
	case mesos.SCALAR:
		if r.Scalar == nil || r.Ranges != nil || r.Set != nil {
			return invalid(o, "Invalid scalar resource")
		}
		v := r.Scalar.Value
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return invalid(o, "Invalid scalar resource: value is not finite")
		}
		o.scalar = Milli(v)
		if o.scalar < 0 || o.scalar == 0 && v != 0 {
			return invalid(o, "Invalid scalar resource: value <= 0")
		}
		if r.Name == "gpus" && o.scalar%1000 != 0 {
			return invalid(o, "The 'gpus' resource must be an unsigned integer")
		}
	case mesos.RANGES:
		if r.Ranges == nil || r.Scalar != nil || r.Set != nil {
			return invalid(o, "Invalid ranges resource")
		}
		for _, x := range r.Ranges.Range {
			o.ranges = append(o.ranges, Range{x.Begin, x.End})
		}
		if reason := checkRanges(o.ranges); reason != "" {
			return invalid(o, "Invalid ranges resource: %s", reason)
		}
		o.ranges = coalesce(o.ranges)
	case mesos.SET:
		if r.Set == nil || r.Scalar != nil || r.Ranges != nil {
			return invalid(o, "Invalid set resource")
		}
		o.items = slices.Clone(r.Set.Item)
		slices.Sort(o.items)
		if n := len(slices.Compact(slices.Clone(o.items))); n != len(o.items) {
			return invalid(o, "Invalid set resource: duplicated elements")
		}
	default:
		return invalid(o, "Unsupported resource type")
	}
	return o, nil
}

func checkRanges(ranges []Range) string {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Begin < b.Begin:
			return -1
		case a.Begin > b.Begin:
			return 1
		}
		return 0
	})
	for i, r := range sorted {
		if r.Begin > r.End {
			return fmt.Sprintf("Invalid range: [%d-%d]", r.Begin, r.End)
		}
		if i > 0 && r.Begin <= sorted[i-1].End {
			return "Overlapping ranges"
		}
	}
	return ""
}

// Proto renders s.
func (s Set) Proto(f Format) []mesos.Resource {
	out := make([]mesos.Resource, 0, len(s))
	for _, o := range s {
		r := *o.like
		r.Name = o.name
		switch o.kind {
		case mesos.SCALAR:
			r.Scalar = &mesos.Value_Scalar{Value: float64(o.scalar) / 1000}
		case mesos.RANGES:
			r.Ranges = &mesos.Value_Ranges{}
			for _, x := range o.ranges {
				r.Ranges.Range = append(r.Ranges.Range, mesos.Value_Range{Begin: x.Begin, End: x.End})
			}
		default:
			r.Set = &mesos.Value_Set{Item: slices.Clone(o.items)}
		}
		if !f.Allocation {
			r.AllocationInfo = nil
		}
		if !f.Refined {
			downgrade(&r)
		}
		out = append(out, r)
	}
	return out
}

// downgrade brings one reservation to role and reservation. Deeper stacks have no
// such form and stay as they are.
func downgrade(r *mesos.Resource) {
	role := "*"
	switch len(r.Reservations) {
	case 0:
	case 1:
		reserved := r.Reservations[0]
		role = reserved.GetRole()
		if reserved.GetType() == mesos.Resource_ReservationInfo_DYNAMIC {
			r.Reservation = &mesos.Resource_ReservationInfo{Principal: reserved.Principal, Labels: reserved.Labels}
		}
		r.Reservations = nil
	default:
		return
	}
	r.Role = &role
}

// Parse reads the text of Mesos' --resources flag: "cpus:4;mem:4096;cpus(r1):1;
// ports:[31000-32000];names:{a,b}".
func Parse(text string) (Set, error) {
	var in []mesos.Resource
	for _, part := range strings.Split(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		r, err := parseOne(part)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %w", part, err)
		}
		in = append(in, r)
	}
	return From(in)
}

func parseOne(part string) (mesos.Resource, error) {
	var r mesos.Resource
	name, value, found := strings.Cut(part, ":")
	if !found {
		return r, fmt.Errorf("want name:value, as in cpus:4")
	}
	r.Name = strings.TrimSpace(name)
	if before, role, reserved := strings.Cut(r.Name, "("); reserved {
		role, closed := strings.CutSuffix(role, ")")
		if !closed || role == "" {
			return r, fmt.Errorf("want name(role):value")
		}
		r.Name, r.Role = before, &role
	}
	var kind mesos.Value_Type
	value = strings.TrimSpace(value)
	switch {
	case strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]"):
		kind = mesos.RANGES
		r.Ranges = &mesos.Value_Ranges{}
		for _, text := range strings.Split(value[1:len(value)-1], ",") {
			low, high, _ := strings.Cut(strings.TrimSpace(text), "-")
			begin, err := strconv.ParseUint(strings.TrimSpace(low), 10, 64)
			if err != nil {
				return r, fmt.Errorf("range %q: want begin-end", text)
			}
			end, err := strconv.ParseUint(strings.TrimSpace(high), 10, 64)
			if err != nil {
				return r, fmt.Errorf("range %q: want begin-end", text)
			}
			r.Ranges.Range = append(r.Ranges.Range, mesos.Value_Range{Begin: begin, End: end})
		}
	case strings.HasPrefix(value, "{") && strings.HasSuffix(value, "}"):
		kind = mesos.SET
		r.Set = &mesos.Value_Set{}
		for _, item := range strings.Split(value[1:len(value)-1], ",") {
			r.Set.Item = append(r.Set.Item, strings.TrimSpace(item))
		}
	default:
		kind = mesos.SCALAR
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return r, fmt.Errorf("value %q: want a number, [begin-end] or {item,item}", value)
		}
		r.Scalar = &mesos.Value_Scalar{Value: v}
	}
	r.Type = &kind
	return r, nil
}

// ParseAttributes reads the text of Mesos' --attributes flag: "rack:r1;level:3;
// ports:[1-5]". What is neither a number nor ranges is text.
func ParseAttributes(text string) ([]mesos.Attribute, error) {
	var out []mesos.Attribute
	for _, part := range strings.Split(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, found := strings.Cut(part, ":")
		if !found || name == "" {
			return nil, fmt.Errorf("attribute %q: want name:value, as in rack:r1", part)
		}
		a := mesos.Attribute{Name: strings.TrimSpace(name)}
		r, err := parseOne(part)
		switch {
		case err == nil && r.Scalar != nil:
			a.Type, a.Scalar = mesos.SCALAR, r.Scalar
		case err == nil && r.Ranges != nil:
			a.Type, a.Ranges = mesos.RANGES, r.Ranges
		default:
			a.Type, a.Text = mesos.TEXT, &mesos.Value_Text{Value: strings.TrimSpace(value)}
		}
		out = append(out, a)
	}
	return out, nil
}
